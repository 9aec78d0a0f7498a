"""Calls of every function of the genesis's contracts: some as their authors meant them, others with arguments or bytes of any kind."""

from collections.abc import Mapping
from random import Random
from typing import Any, Final, NamedTuple

from eth_abi.abi import encode

from consensus.ids import Address, session_id
from node.chain.genesis import CONSOLIDATIONS, PLACES, WITHDRAWALS
from tests.contracts import world
from tests.contracts.world import Account, abi_of, encoded
from tests.oracle.senders import Senders
from tests.vectors.payloads import BEACON_ROOTS, BLOCK_HASHES

FUNCTIONS: Final = [(name, one) for name in PLACES for one in abi_of(name) if one["type"] == "function"]
KEYS: Final = (b"slotTimeoutMs", b"dMinPpm", b"maxChunkBytes", b"nothing")
PLACE_LIST: Final = (*PLACES.values(), WITHDRAWALS, CONSOLIDATIONS, BEACON_ROOTS, BLOCK_HASHES)


class Call(NamedTuple):
    """What an account says to a contract."""

    who: Account
    to: Address
    data: bytes
    value: int = 0


class Opened:
    """A session as its owner knows it."""

    def __init__(self, owner: Account, uuid: bytes, key: bytes) -> None:
        self.owner, self.id, self.chunks = owner, session_id(Address(owner.address), uuid, key), 0


class Calls:
    """A caller of everything, who remembers what sessions there are."""

    def __init__(self, rng: Random, senders: Senders) -> None:
        self._rng, self._senders = rng, senders
        self._sessions: list[Opened] = []

    def draw(self, time: int, number: int) -> Call:
        """A call in the block of that number, whose parent has that time."""
        rng = self._rng
        who = rng.choice(self._senders.accounts)
        kind = rng.random()
        if kind < 0.55:
            return self._session(who)
        if kind < 0.65:
            return self._prague(who, time, number)
        if kind < 0.72:
            return Call(who, self._senders.address(), rng.randbytes(rng.choice((0, 3))), rng.randrange(1_000))
        name, function = rng.choice(FUNCTIONS)
        data = world._signature(function)[:4] + encode(
            world._types(function["inputs"]), [self._value(one) for one in function["inputs"]]
        )
        return Call(who, PLACES[name], data if kind < 0.87 else self._garbled(data), rng.choice((0, 0, 0, 0, 1)))

    def _session(self, who: Account) -> Call:
        """What an owner does to a session; some are not the owner, or do it again."""
        rng = self._rng
        if not self._sessions or rng.random() < 0.3:
            uuid, key = rng.randbytes(16), rng.randbytes(32)
            self._sessions.append(Opened(who, uuid, key))
            return Call(who, PLACES["LucidAnchors"], encoded("LucidAnchors", "open", uuid, key, rng.randbytes(32)))
        one = rng.choice(self._sessions[-8:])
        owner = one.owner if rng.random() < 0.9 else who
        match rng.randrange(8):
            case 0:
                data = encoded("LucidAnchors", "close", one.id, rng.randbytes(32), rng.randbytes(32), 1, 2)
            case 1 | 2 | 3:
                data = encoded("LucidAnchors", "head", one.id, rng.getrandbits(32), rng.randbytes(32))
            case _:
                count = rng.choice((0, 1, 1, 2, 3, 20))
                chunks = [
                    (rng.randbytes(32), rng.getrandbits(64), [rng.randbytes(32) for _ in range(3)])
                    for _ in range(count)
                ]
                data = encoded("LucidChunkStore", "commit", one.id, one.chunks, chunks)
                one.chunks += count
                return Call(owner, PLACES["LucidChunkStore"], data)
        return Call(owner, PLACES["LucidAnchors"], data)

    def _prague(self, who: Account, time: int, number: int) -> Call:
        """Prague's own contracts: roots, hashes, and requests of the consensus that this chain has no use for."""
        rng = self._rng
        word = rng.choice((time, time - 120, number - 1, number, number - 300, rng.getrandbits(256))) % 2**256
        match rng.randrange(4):
            case 0:
                return Call(who, BEACON_ROOTS, word.to_bytes(32, "big") + bytes(rng.choice((0, 0, 0, 1))))
            case 1:
                return Call(who, BLOCK_HASHES, word.to_bytes(32, "big") + bytes(rng.choice((0, 0, 0, 1))))
            case 2:
                return Call(who, WITHDRAWALS, rng.randbytes(rng.choice((0, 56, 56, 56, 57))), rng.choice((0, 1, 50)))
            case _:
                return Call(who, CONSOLIDATIONS, rng.randbytes(rng.choice((0, 96, 96, 96, 97))), rng.choice((0, 1, 50)))

    def _value(self, of: Mapping[str, Any]) -> Any:
        """An argument of a type of the ABI; small and known ones are more likely."""
        rng, kind = self._rng, of["type"]
        if kind.endswith("]"):
            size = kind[kind.rindex("[") + 1 : -1]
            count = int(size) if size else rng.randrange(4)
            return [self._value({**of, "type": kind[: kind.rindex("[")]}) for _ in range(count)]
        match kind:
            case "tuple":
                return [self._value(one) for one in of["components"]]
            case "address":
                return rng.choice((self._senders.address(), rng.choice(PLACE_LIST), bytes(20), rng.randbytes(20)))
            case "bool":
                return rng.random() < 0.5
            case "string":
                return "x" * rng.randrange(70)
            case "bytes":
                return rng.randbytes(rng.randrange(70))
            case "bytes32":
                known = self._sessions[-1].id if self._sessions else bytes(32)
                return rng.choice((known, rng.choice(KEYS).ljust(32, b"\0"), rng.randbytes(32)))
            case _ if kind.startswith("bytes"):
                return rng.randbytes(int(kind[5:]))
            case _:
                bits = int(kind.removeprefix("uint"))
                return rng.choice((0, 1, rng.randrange(10), rng.getrandbits(bits), 2**bits - 1)) % 2**bits

    def _garbled(self, data: bytes) -> bytes:
        """Bytes that the ABI may not allow."""
        rng = self._rng
        made = bytearray(data)
        match rng.randrange(5):
            case 0:
                return bytes(made[: rng.randrange(len(made) + 1)])
            case 1:
                return bytes(made) + rng.randbytes(rng.randrange(1, 100))
            case 2:
                return rng.randbytes(rng.randrange(200))
            case 3:
                made[: rng.randrange(4)] = rng.randbytes(4)
                return bytes(made)
            case _:
                for _ in range(rng.randrange(1, 4)):
                    made[rng.randrange(len(made))] = rng.choice((0, 1, 0x20, 0xFF, rng.randrange(256)))
                return bytes(made)
