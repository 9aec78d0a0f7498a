"""Moving a node to a new onion: both answer for a while, and a crash at any moment goes on where it was.

    rotate:  make and keep `next` → serve it → dial it → sign the record, keep it; next is current, current is old
    overlap: both answer                              → after `old_until` end the old one and forget its seed

What is kept is written before what it allows is done, so that no onion is told to peers whose seed could be lost, and none is
served whose seed is forgotten. Peers get the record from us; those who were away longer than the overlap need a new
invitation, so the overlap is as long as peers are usually away. Rotating shakes off those who are not told; it hides
nothing from those who are.
Source: node.tor.onion (the record and its signatures); DESIGN §4.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Final

import trio

from consensus.ids import Millis, Network, NodeId
from consensus.records import Size
from consensus.signing import KeyPair
from node.net.endpoints import Endpoint
from node.net.nursery import bare_nursery
from node.tor.interface import OnionService, Tor
from node.tor.onion import Bytes32, Onion, OnionRotation, onion_of, sign_rotation
from node.tor.socks import DialFailed

OVERLAP_MS: Final = 14 * 24 * 3_600_000
_NEVER: Final = Millis(0)
_LOOK_S: Final = 3600.0
"""How often the clock is looked at, which may have been set, or have gone on while the machine slept."""
_PROBES: Final = 8
_PROBE_S: Final = 5.0


class RotationUnderway(Exception):
    """The onion before still answers: another rotation would leave the peers who know only that one behind."""


class NewOnionUnreachable(Exception):
    """The new onion was published and could not be dialled, so nobody was told of it; rotating again goes on with it."""


@dataclass(frozen=True, slots=True)
class OnionKeys:
    """All that has to be kept of a node's onions; seeds are 32 bytes, and secret."""

    VERSION: ClassVar = 1
    current: Annotated[bytes, Size(32)] = field(repr=False)
    seq: int = 0
    """Of the newest record about them; each is above the one before."""
    next: Bytes32 | None = field(repr=False, default=None)
    """Made, and told to nobody yet."""
    old: Bytes32 | None = field(repr=False, default=None)
    old_until: Millis = _NEVER
    record: bytes = b""
    """The signed rotation to `current`, to be handed to peers; empty before the first."""


class RotatingOnion:
    """The onion that a node is met under, and for a while the one before.

    `save` returns when what it was given survives a crash. `now` is Unix ms. The ports of `service` are those of each onion.
    """

    def __init__(
        self,
        tor: Tor,
        keys: OnionKeys,
        save: Callable[[OnionKeys], None],
        *,
        identity: KeyPair,
        network: Network,
        ports: Mapping[int, Endpoint],
        readers: tuple[str, ...] = (),
        now: Callable[[], Millis],
        seed: Callable[[], bytes] = lambda: secrets.token_bytes(32),
    ) -> None:
        self._tor, self._save, self._now, self._seed = tor, save, now, seed
        self._identity, self._network = identity, network
        self._ports, self._readers = ports, readers
        self._rotating = trio.Lock()
        self._moved = trio.Event()
        self.keys = keys

    @property
    def onion(self) -> Onion:
        """The one to tell."""
        return onion_of(self.keys.current)

    async def run(self) -> None:
        """Serves them until cancelled, and ends the old one when its time is over; a rotation that was begun is not finished."""
        async with bare_nursery() as nursery:
            nursery.start_soon(self._serve, self.keys.current)
            if self.keys.old is not None and self._now() < self.keys.old_until:
                nursery.start_soon(self._serve, self.keys.old)
            while True:
                moved = self._moved = trio.Event()
                if self.keys.old is None:
                    await moved.wait()
                elif (left := self.keys.old_until - self._now()) > 0:
                    with trio.move_on_after(min(left / 1000, _LOOK_S)):
                        await moved.wait()
                else:
                    await self._forget(self.keys.old)

    def recheck(self) -> None:
        """Looks at the clock at once: it was set."""
        self._moved.set()

    async def rotate(self, *, overlap_ms: int = OVERLAP_MS, emergency: bool = False) -> bytes:
        """Moves to a new onion and returns the record for peers; takes as long as publishing and dialling it.

        An emergency is for an old key that others have: it ends at once, and the record is of the identity alone. Raises
        RotationUnderway while the onion before answers, unless in an emergency, and NewOnionUnreachable.
        """
        async with self._rotating:
            if self.keys.old is not None and not emergency:
                raise RotationUnderway("the onion before this one still answers: rotate when its time is over")
            if self.keys.old is not None:
                await self._forget(self.keys.old)
            if self.keys.next is None:
                self._keep(replace(self.keys, next=self._seed()))
            seed = self.keys.next
            assert seed is not None
            await self._serve(seed)
            await self._reach(onion_of(seed))
            record = self._keep_move(seed, 0 if emergency else overlap_ms, emergency=emergency)
            self._moved.set()
            if emergency and self.keys.old is not None:
                await self._forget(self.keys.old)
            return record

    def _keep_move(self, seed: bytes, overlap_ms: int, *, emergency: bool) -> bytes:
        keys, now = self.keys, self._now()
        old, new = KeyPair.from_seed(keys.current), KeyPair.from_seed(seed)
        until = Millis(now + overlap_ms)
        body = OnionRotation(NodeId(self._identity.public), old.public, new.public, keys.seq + 1, now, until, emergency)
        signers = (None, None) if emergency else (old, new)
        record = sign_rotation(body, self._identity, self._network, old=signers[0], new=signers[1])
        self._keep(OnionKeys(seed, keys.seq + 1, None, keys.current, until, record))
        return record

    async def _serve(self, seed: bytes) -> None:
        await self._tor.serve(OnionService(seed, self._ports, self._readers))

    async def _reach(self, onion: Onion) -> None:
        """Dials it through our own tor, on new circuits."""
        why = ""
        for _ in range(_PROBES):
            try:
                await trio.aclose_forcefully(await self._tor.dial(onion, next(iter(self._ports)), secrets.token_hex(8)))
            except DialFailed as failed:
                why = str(failed)
            else:
                return
            await trio.sleep(_PROBE_S)
        raise NewOnionUnreachable(f"{why}; nobody was told of it, and rotating again goes on with it")

    async def _forget(self, seed: bytes) -> None:
        """Ends the old onion; streams that are open stay."""
        await self._tor.withdraw(onion_of(seed))
        if self.keys.old == seed:
            self._keep(replace(self.keys, old=None, old_until=_NEVER))

    def _keep(self, keys: OnionKeys) -> None:
        self._save(keys)
        self.keys = keys
