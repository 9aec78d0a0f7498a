"""How the network between two nodes behaves: what a circuit costs, how long it lives, and how it fails.

The rule of the ordinary model is Tor's and TCP's: while a connection lives, it delivers everything once and in order;
loss shows as a broken connection, never as a missing frame. So a network cut in one direction breaks the connections that
cross it, and nobody can dial across; what still comes through the other direction does until the break is noticed, by
keepalive, `dead_after_ms` later. With `lossy` frames are datagrams instead: each may be lost, doubled or overtaken, and a
cut swallows one direction for as long as it lasts while connections live on. Tor does nothing of the kind; it is a stress
for protocols that believe too much.

Two nodes share one connection, whoever dialled, and all channels share its order. Every draw is an integer from a table
of quantiles, computed in decimal arithmetic, so that no mathematical library of a machine can change a run.

Source: DESIGN §4 (keepalive 15 s, dead after 45 s). A private Tor network on loopback was measured: a first connection
171-312 ms, round trips 9-231 ms with a median of 16, 3-9 MiB/s on one circuit. What the public network adds is an
assumption, not a measurement: round trips of 0.3-1 s and connections of 2-15 s, as published for onion services.
"""

from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from statistics import NormalDist
from typing import Final

QUANTILE_BITS: Final = 10
"""A draw takes that many bits: 1,024 quantiles, so the rarest value of a table comes once in a thousand draws."""

SCALE_BITS: Final = 10
"""Jitter is a factor in units of 1/1024."""

ABOVE_ZERO: Final = (
    "latency_ms", "dial_ms", "dial_deadline_ms", "bytes_per_s", "dead_after_ms", "outbox_frames", "outbox_wait_ms", "exchanges",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LinkModel:
    """What every connection of a world is drawn from; times in milliseconds, shares in thousandths."""

    latency_ms: int = 250  # median of a circuit's own one-way latency
    spread: int = 500  # log-normal sigma between circuits
    jitter: int = 250  # log-normal sigma between the frames of one circuit
    dial_ms: int = 4_000  # median of descriptor, introduction, rendezvous and the handshake
    dial_spread: int = 500  # 95 % lie between 1.5 and 10.7 s
    dial_failures: int = 50  # dials that fail although the other side is there
    dial_deadline_ms: int = 45_000  # when a dial to nobody is given up
    bytes_per_s: int = 500_000  # of one circuit in one direction
    life_ms: int = 4 * 3_600_000  # mean of an exponential lifetime; 0 is for ever
    silent: int = 300  # broken circuits and dead processes that only the keepalive notices
    dead_after_ms: int = 45_000  # the keepalive's verdict
    outbox_frames: int = 64  # frames that wait for a peer being dialled; the oldest is dropped
    outbox_wait_ms: int = 30_000  # a frame that would wait longer for the frames before it is dropped
    exchanges: int = 256  # open at a time on a connection and in a direction; the oldest is broken off
    lossy: bool = False
    loss: int = 0  # of frames; these three in lossy mode alone
    doubled: int = 0
    overtaken: int = 0

    def complaints(self) -> list[str]:
        """What is wrong with it, a sentence each."""
        wrong = [
            f"{name} is {share} thousandths: a share lies between 0 and 1000"
            for name in ("dial_failures", "silent", "loss", "doubled", "overtaken")
            if not 0 <= (share := int(getattr(self, name))) <= 1000
        ]
        wrong += [
            f"{name} is {value}: it must be above 0" for name in ABOVE_ZERO if (value := int(getattr(self, name))) <= 0
        ]
        wrong += [
            f"{name} is {value}: it cannot be negative"
            for name in ("spread", "jitter", "dial_spread", "life_ms")
            if (value := int(getattr(self, name))) < 0
        ]
        if not self.lossy and self.loss | self.doubled | self.overtaken:
            wrong.append("a stream loses, doubles and overtakes nothing: set lossy, or leave these three at 0")
        return wrong


TOR: Final = LinkModel()
"""The public network, as assumed above."""

PRIVATE: Final = LinkModel(
    latency_ms=8,
    spread=300,
    jitter=500,
    dial_ms=230,
    dial_spread=200,
    dial_failures=5,
    bytes_per_s=4_000_000,
    life_ms=0,
)
"""The private Tor network of a devnet, as measured."""

LOSSY: Final = LinkModel(lossy=True, loss=50, doubled=20, overtaken=100)
"""Datagrams, for stress."""


@lru_cache(maxsize=32)
def lognormal(median: int, sigma: int) -> tuple[int, ...]:
    """The quantiles of a log-normal distribution, each at least 1; sigma in thousandths."""
    size = 1 << QUANTILE_BITS
    normal = NormalDist()
    with localcontext() as context:
        context.prec = 20
        exponents = (Decimal(f"{normal.inv_cdf((i + 0.5) / size):.9f}") * sigma / 1000 for i in range(size))
        return tuple(max(1, int((median * exponent.exp()).to_integral_value())) for exponent in exponents)


@lru_cache(maxsize=32)
def exponential(mean: int) -> tuple[int, ...]:
    """The quantiles of an exponential distribution, each at least 1."""
    size = 1 << QUANTILE_BITS
    with localcontext() as context:
        context.prec = 20
        shares = (Decimal(2 * size - 2 * i - 1) / (2 * size) for i in range(size))
        return tuple(max(1, int((-mean * share.ln()).to_integral_value())) for share in shares)
