"""Calls of our contracts, typed: what an order says to whom, with how much gas, and what a contract's events say.

Gas is what gas.json measured and half as much again, since what a call costs depends on what was there before.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from eth_abi.abi import encode

from consensus.facts import Listed, Minting
from consensus.ids import Address, Digest, SessionId, keccak256
from node.chain.genesis import PLACES, artefact
from node.chain.index import EmittedLog

CHUNKS_MOST: Final = 50
"""Commitments in a call."""


class Order(NamedTuple):
    """A call that somebody wants made."""

    to: Address
    data: bytes
    gas: int


class Commitment(NamedTuple):
    """A sealed chunk as LucidChunkStore knows it."""

    chunk: Digest
    size: int
    roots: tuple[Digest, Digest, Digest]


class VoterEntry(NamedTuple):
    """An account in an ERA's list, and whether it may vote."""

    place: int
    account: Address
    eligible: bool


def open_session(uuid: bytes, ephemeral: bytes, policy: bytes) -> Order:
    """Opens a session of the sender's."""
    return _order("LucidAnchors", "open", 75_000, uuid, ephemeral, policy)


def anchor_head(session: SessionId, number: int, head: Digest) -> Order:
    """Anchors a head of an open session."""
    return _order("LucidAnchors", "head", 45_000, session, number, head)


def close_session(session: SessionId, manifest: Digest, root: Digest, chunks: int, heads: int) -> Order:
    """Closes a session for ever."""
    return _order("LucidAnchors", "close", 60_000, session, manifest, root, chunks, heads)


def mint(payout: Minting, timestamp: int, siblings: Sequence[bytes]) -> Order:
    """Mints what a block is worth, in the payload of a timestamp that follows it."""
    return _order("RewardMinter", "mint", 250_000, *payout, timestamp, list(siblings))


def commit_credits(credited: Listed, timestamp: int, siblings: Sequence[bytes]) -> Order:
    """Commits an HOUR's credits, in the payload of a timestamp that was told of them."""
    return _order("WorkCreditsOracle", "commit", 90_000, *_listed(credited), timestamp, list(siblings))


def enrol_voters(
    voters: Listed,
    timestamp: int,
    siblings: Sequence[bytes],
    entries: Sequence[VoterEntry],
    proofs: Sequence[Sequence[bytes]],
) -> Order:
    """Makes entries of an ERA's list hold, in the payload of a timestamp that was told of it."""
    said = [tuple(entry) for entry in entries], [list(proof) for proof in proofs]
    gas = 120_000 + 130_000 * len(entries)
    return _order("WorkCreditsOracle", "enrol", gas, *_listed(voters), timestamp, list(siblings), *said)


def _listed(one: Listed) -> tuple[int, Digest, int]:
    return one.number, one.root, one.size


def commit_chunks(session: SessionId, first: int, chunks: Sequence[Commitment]) -> Order:
    """Commits to the next chunks of a session; first is how many there were before, and CHUNKS_MOST are the most."""
    listed = [(one.chunk, one.size, list(one.roots)) for one in chunks]
    return _order("LucidChunkStore", "commit", 80_000 + 10_000 * len(chunks), session, first, listed)


def hold_chunks(session: SessionId, first: int, bits: int, replica: int) -> Order:
    """Says that the sender holds a replica of the chunks `first` + i of a session, for each bit i that is set."""
    return _order("LucidChunkStore", "hold", 45_000, session, first, bits, replica)


def show_replica(session: SessionId, number: int, replica: int, holder: Address) -> Order:
    """Says that a holder has shown the sender a part of its replica of a chunk."""
    return _order("LucidChunkStore", "probe", 45_000, session, number, replica, holder, True)


def _order(contract: str, function: str, gas: int, *arguments: Any) -> Order:
    return Order(PLACES[contract], calldata(contract, function, *arguments), gas)


def calldata(contract: str, function: str, *arguments: Any) -> bytes:
    """The bytes of a call."""
    selector, types = _entry(contract, function, "function")
    return selector[:4] + encode(types, arguments)


@cache
def topic(contract: str, event: str) -> bytes:
    """The first topic of an event."""
    return _entry(contract, event, "event")[0]


@cache
def _entry(contract: str, name: str, kind: str) -> tuple[bytes, tuple[str, ...]]:
    """What a function or an event is called by, and the types of what it takes."""
    found = artefact(contract)
    if found is None:
        raise KeyError(contract)
    (entry,) = (one for one in found["abi"] if one.get("name") == name and one["type"] == kind)
    types = tuple(map(_spelled, entry["inputs"]))
    return keccak256(f"{name}({','.join(types)})".encode()), types


def _spelled(of: Mapping[str, Any]) -> str:
    if not of["type"].startswith("tuple"):
        return str(of["type"])
    return f"({','.join(map(_spelled, of['components']))}){of['type'][5:]}"


# ------------------------------------------------------------------ events


class Opened(NamedTuple):
    """LucidAnchors.SessionOpened."""

    session: SessionId
    owner: Address
    uuid: bytes
    ephemeral: bytes
    policy: bytes


class Headed(NamedTuple):
    """LucidAnchors.HeadAnchored."""

    session: SessionId
    number: int
    head: Digest


class Closed(NamedTuple):
    """LucidAnchors.SessionClosed."""

    session: SessionId
    manifest: Digest
    root: Digest
    chunks: int
    heads: int


Said = Opened | Headed | Closed


def said(log: EmittedLog) -> Said | None:
    """What an event of LucidAnchors says; None for any other."""
    if log.address != PLACES["LucidAnchors"] or not log.topics:
        return None
    name, *topics = log.topics
    words = [log.data[at : at + 32] for at in range(0, len(log.data), 32)]
    if name == topic("LucidAnchors", "SessionOpened"):
        return Opened(SessionId(topics[0]), Address(topics[1][12:]), words[0][:16], words[1], words[2])
    if name == topic("LucidAnchors", "HeadAnchored"):
        return Headed(SessionId(topics[0]), int.from_bytes(topics[1], "big"), Digest(words[0]))
    if name == topic("LucidAnchors", "SessionClosed"):
        chunks, heads = (int.from_bytes(word, "big") for word in words[2:4])
        return Closed(SessionId(topics[0]), Digest(words[0]), Digest(words[1]), chunks, heads)
    return None
