"""One file from several holders at once: each sends a stripe, and who is done takes half of what another has most left of.

    ├──── from a ────┼──── from b ────┼──── from c ────┤      c ends first:      ├─ a ─┼─ c ─┼──── from b ────┤

Towards the end, who has had nothing to do for a while sends what another still owes as well: the first to be done counts,
so that a holder that is slow or silent costs seconds.
A circuit of Tor carries what its windows allow (some 4 MiB/s at best), so holders, who are met on circuits of their own,
add up. Every holder's replica decodes to the same bytes. Source: findings/tor.md §3 (throughput is bound by the circuit).
"""

from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Final, NamedTuple

import trio

from consensus.ids import NodeId
from node.net.swarm import Swarm, Unreachable, Unwilling
from node.net.transfer import PIECE_BYTES, Replica, pieces

SPLIT_BYTES_MIN: Final = 8 * PIECE_BYTES
"""A stripe that has fewer bytes left than twice this is not split: asking costs a round trip, seconds over Tor."""
BLOCK: Final = 64
"""Decoding begins at a multiple of it (pipeline.replica)."""
IDLE_S: Final = 5
"""After so long without anything to do a holder sends what another still owes."""
QUIET_S: Final = 50
"""A holder that sends nothing for so long gives its stripe back; a dial over Tor alone may take 45 s."""


class Source(NamedTuple):
    """A holder of the file: its replica, and how bytes of that from an offset, a multiple of 64, become the file's."""

    node: NodeId
    what: Replica
    decode: Callable[[bytes, int], bytes]


class Stripe:
    """A range that one holder is sending: the next byte, and the byte after the last, which others may bring nearer."""

    __slots__ = ("at", "end", "rival")

    def __init__(self, at: int, end: int, rival: "Stripe | None" = None) -> None:
        self.at, self.end = at, end
        self.rival = rival
        """The other one that sends the same."""


class Stripes:
    """What of a file is still to come, and who sees to it."""

    def __init__(self, size: int) -> None:
        self._free = [Stripe(0, size)] if size else []
        self._taken: list[Stripe] = []
        self.changed = trio.Event()
        """Set, and replaced, whenever there may be something to take, or all has come."""

    @property
    def complete(self) -> bool:
        """Whether every byte has come."""
        return not self._free and not self._taken

    def take(self) -> Stripe | None:
        """A range that nobody sees to, or else the second half of the longest; None when none is worth splitting."""
        if self._free:
            stripe = self._free.pop()
        else:
            longest = max((one for one in self._taken if one.rival is None), key=_left, default=None)
            if longest is None or _left(longest) < 2 * SPLIT_BYTES_MIN:
                return None
            middle = longest.at + _left(longest) // 2
            middle -= middle % BLOCK
            stripe = Stripe(middle, longest.end)
            longest.end = middle
        self._taken.append(stripe)
        return stripe

    def double(self) -> Stripe | None:
        """What the one that owes most still owes, to be sent twice; None when all of that is under way."""
        longest = max((one for one in self._taken if one.rival is None), key=_left, default=None)
        if longest is None:
            return None
        stripe = Stripe(longest.at - longest.at % BLOCK, longest.end, longest)
        longest.rival = stripe
        self._taken.append(stripe)
        return stripe

    def give_back(self, stripe: Stripe) -> None:
        """The holder is done with it: what has not come, and nobody else sends, is free again."""
        self._taken = [one for one in self._taken if one is not stripe]
        rival = stripe.rival
        if rival is not None:
            rival.rival = None
        if stripe.at >= stripe.end:
            if rival is not None:
                self._taken = [one for one in self._taken if one is not rival]
                rival.end = min(rival.at, rival.end)
        elif rival is None:
            stripe.at -= stripe.at % BLOCK
            self._free.append(stripe)
        self.changed.set()
        self.changed = trio.Event()


def _left(stripe: Stripe) -> int:
    return stripe.end - stripe.at


async def gather(swarm: Swarm, size: int, sources: Iterable[Source], at_once: int) -> bytearray | None:
    """The file, not checked, from as many of the sources at a time; None when they all failed before it was whole.

    The sources are asked in their order; one that fails makes room for the next. size: of the file, as of each replica.
    """
    whole, stripes = bytearray(size), Stripes(size)
    room = trio.Semaphore(at_once)

    async def ask(source: Source) -> None:
        try:
            while not stripes.complete:
                changed = stripes.changed
                stripe = stripes.take()
                if stripe is None:
                    with trio.move_on_after(IDLE_S):
                        await changed.wait()
                        continue
                    stripe = stripes.double()
                if stripe is None:
                    await changed.wait()
                elif not await _fill(swarm, source, stripe, stripes, whole):
                    return
            nursery.cancel_scope.cancel()  # somebody may still wait for bytes that have come from elsewhere
        finally:
            room.release()

    async with trio.open_nursery() as nursery:
        for source in sources:
            await room.acquire()
            if stripes.complete:
                break
            nursery.start_soon(ask, source)
    return whole if stripes.complete else None


async def _fill(swarm: Swarm, source: Source, stripe: Stripe, stripes: Stripes, whole: bytearray) -> bool:
    """Have a source send its stripe; whether it did."""
    try:
        with trio.move_on_after(QUIET_S) as patience:
            async with aclosing(pieces(swarm, source.node, source.what, stripe.at, stripe.end - stripe.at)) as coming:
                async for piece in coming:
                    patience.deadline = trio.current_time() + QUIET_S
                    wanted = source.decode(piece, stripe.at)[: stripe.end - stripe.at]
                    whole[stripe.at : stripe.at + len(wanted)] = wanted
                    stripe.at += len(wanted)
                    if stripe.at >= stripe.end:
                        break  # somebody else sees to what follows
    except (Unreachable, Unwilling):
        return False
    finally:
        done = stripe.at >= stripe.end
        stripes.give_back(stripe)
    return done
