"""What a node keeps in the DHT for others: signed values under their keys, and who provides what; bounded, until it expires.

A value is kept only if the validator of its key's namespace (`/namespace/…`) accepts it and says its sequence and expiry;
of two the newer stays: higher sequence, then later expiry, then larger bytes, so that all holders of the same two agree.
Nothing lives longer here than `value_ms` without being put again. When all places are taken, the value that would be
kept longest goes first: a flood asks for as long as it can. (One that asks for less is bounded by its quota a peer.)

A peer can say of itself only that it provides something, and when all places are taken those who renew keep theirs.

Source: libp2p specs, kad-dht ("Entry validation", "Content routing"); DESIGN §4.
"""

from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from consensus.ids import Millis, NodeId

_HOUR_MS = 3_600_000


class Standing(NamedTuple):
    """What a validator says of a value that it accepts."""

    sequence: int
    expires: Millis


class Validator(Protocol):
    """Judges the values of one namespace; pure, since it runs for every value that anybody sends."""

    def __call__(self, key: bytes, value: bytes, now: Millis, /) -> Standing | None:
        """The value's standing; none if it is not what its key demands, signature included."""


@dataclass(frozen=True, slots=True)
class HoldingLimits:
    """Bounds of what is kept: at most 2,048 × 16 KiB of values and 8,192 × 4 × 256 B of providers, 40 MiB."""

    values: int = 2_048
    values_per_peer: int = 128  # new keys from one peer; who republishes for others spreads them over its neighbours
    value_bytes: int = 16_384
    value_ms: int = 48 * _HOUR_MS  # libp2p's
    provisions: int = 8_192  # pairs of key and provider
    provisions_per_key: int = 20
    provisions_per_peer: int = 256
    provision_ms: int = 24 * _HOUR_MS  # libp2p specs, "Content routing"
    addresses: int = 4  # kept of a provider


class Stowed(Enum):
    """What became of a value."""

    YES = "kept"
    OLDER = "older than what is held"
    FULL = "no room for it"


class Judged(NamedTuple):
    """A value with its standing; the greater of two is the one to keep."""

    standing: Standing
    value: bytes


class _Held(NamedTuple):
    best: Judged
    until: Millis
    sender: NodeId  # who brought the key


class Values:
    """Values by key."""

    def __init__(self, validators: Mapping[str, Validator], limits: HoldingLimits) -> None:
        self._validators = validators
        self._limits = limits
        self._held: dict[bytes, _Held] = {}
        self._order: list[tuple[Millis, bytes]] = []  # the first to expire first
        self._counts: dict[NodeId, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def judge(self, now: Millis, key: bytes, value: bytes) -> Judged | None:
        """The value with its standing; none if it is too long, expired, of no namespace, or its validator refuses it."""
        if len(value) > self._limits.value_bytes or not key.startswith(b"/"):
            return None
        validator = self._validators.get(key[1:].partition(b"/")[0].decode("ascii", "replace"))
        standing = validator(key, value, now) if validator is not None else None
        return None if standing is None or standing.expires <= now else Judged(standing, value)

    def get(self, now: Millis, key: bytes) -> Judged | None:
        """What is held under a key and has not expired."""
        held = self._held.get(key)
        return held.best if held is not None and held.until > now else None

    def put(self, now: Millis, key: bytes, value: Judged, sender: NodeId) -> Stowed:
        """Keep a value that was judged, unless a newer one is held or there is no room."""
        held = self._held.get(key)
        if held is not None and held.until > now and held.best > value:
            return Stowed.OLDER
        until = Millis(min(value.standing.expires, now + self._limits.value_ms))
        if held is None:
            if self._counts.get(sender, 0) >= self._limits.values_per_peer:
                return Stowed.FULL
            if len(self._held) >= self._limits.values:
                if (until, key) > self._order[-1]:
                    return Stowed.FULL
                self._drop(self._order[-1][1])
            self._counts[sender] = self._counts.get(sender, 0) + 1
        else:
            del self._order[bisect_left(self._order, (held.until, key))]
            sender = held.sender
        self._held[key] = _Held(value, until, sender)
        insort(self._order, (until, key))
        return Stowed.YES

    def sweep(self, now: Millis) -> None:
        """Forget what has expired."""
        while self._order and self._order[0][0] <= now:
            self._drop(self._order[0][1])

    def _drop(self, key: bytes) -> None:
        held = self._held.pop(key)
        del self._order[bisect_left(self._order, (held.until, key))]
        left = self._counts[held.sender] - 1
        if left:
            self._counts[held.sender] = left
        else:
            del self._counts[held.sender]


class _Provider(NamedTuple):
    until: Millis
    addresses: tuple[bytes, ...]


class Provisions:
    """Who says that they provide what, by key."""

    def __init__(self, limits: HoldingLimits) -> None:
        self._limits = limits
        self._providers: dict[bytes, dict[NodeId, _Provider]] = {}
        self._counts: dict[NodeId, int] = {}
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def add(self, now: Millis, key: bytes, node: NodeId, addresses: tuple[bytes, ...]) -> bool:
        """Keep that a node says it provides a key; False when there is no room for one more."""
        limits = self._limits
        provider = _Provider(Millis(now + limits.provision_ms), addresses[: limits.addresses])
        providers = self._providers.get(key, {})
        if node not in providers:
            count = self._counts.get(node, 0)
            if (
                len(providers) >= limits.provisions_per_key
                or count >= limits.provisions_per_peer
                or self._total >= limits.provisions
            ):
                return False
            self._counts[node] = count + 1
            self._total += 1
            self._providers[key] = providers
        providers[node] = provider
        return True

    def of(self, now: Millis, key: bytes) -> list[tuple[NodeId, tuple[bytes, ...]]]:
        """The providers of a key that have not expired, with the addresses that they gave."""
        providers = self._providers.get(key, {})
        return [(node, provider.addresses) for node, provider in providers.items() if provider.until > now]

    def sweep(self, now: Millis) -> None:
        """Forget who has not said so again in time."""
        for key, providers in list(self._providers.items()):
            for node in [node for node, provider in providers.items() if provider.until <= now]:
                del providers[node]
                self._total -= 1
                self._counts[node] -= 1
                if not self._counts[node]:
                    del self._counts[node]
            if not providers:
                del self._providers[key]
