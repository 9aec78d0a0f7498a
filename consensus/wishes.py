"""The words of the replica: what it wants done, what becomes of what it hears, and the facts that it tells."""

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from consensus.block import Block
from consensus.finality import Point
from consensus.ids import Digest, Millis, NodeId
from consensus.payload import PayloadTerms

if TYPE_CHECKING:
    from consensus.state import State


class Topic(StrEnum):
    """What is spread, by kind."""

    BLOCKS = "blocks"
    VOTES = "votes"
    BEACONS = "beacons"
    ADMISSIONS = "admissions"
    POOLS = "pools"


class Heard(StrEnum):
    """What becomes of a record that was heard."""

    ACCEPT = "accept"
    """Good, and passed on."""
    IGNORE = "ignore"
    """Known, or not to be judged yet."""
    REJECT = "reject"
    """Invalid: whoever sent it is held to account."""


class Spread(NamedTuple):
    """Give a record to everybody."""

    topic: Topic
    data: bytes


class Wake(NamedTuple):
    """Call `wake` with the key at a time."""

    key: tuple[str | int, ...]
    at: Millis


class Keep(NamedTuple):
    """Keep a row durably, before anything of this step is sent."""

    table: str
    key: tuple[str | bytes, ...]
    value: bytes | None


class FetchBlocks(NamedTuple):
    """Ask a peer for the blocks after those that the question names."""

    peer: NodeId
    question: bytes


class ExecutePayload(NamedTuple):
    """Ask the execution layer whether a payload is valid on top of its parent's; `executed` answers."""

    call: int
    block: Block
    terms: PayloadTerms


class BuildPayload(NamedTuple):
    """Ask it for a payload; `built` answers."""

    call: int
    terms: PayloadTerms
    state: "State"
    """That at the beginning of the slot: what the contracts can be shown follows from it."""


class Prove(NamedTuple):
    """Ask for a proof of work over a checkpoint; `proven` answers."""

    call: int
    checkpoint: Digest
    difficulty: int


class Told(NamedTuple):
    """A fact for logs, counters and checks."""

    fact: object


class RecordRefused(NamedTuple):
    """Fact: a record was invalid and changed nothing."""

    topic: Topic
    reason: str


class NewBlock(NamedTuple):
    """Fact: a block joined the tree."""

    block: Digest
    parent: Digest
    slot: int
    rank: int
    entity: bytes


class NewFinal(NamedTuple):
    """Fact: a checkpoint became final on the branch that this node follows."""

    point: Point


class DutyDone(NamedTuple):
    """Fact: this node proposed or voted."""

    what: str
    at: int


class DoubleHeard(NamedTuple):
    """Fact: another program signs with this node's key; this one signs nothing any more."""

    what: str


Doing: TypeAlias = Spread | Wake | Keep | FetchBlocks | ExecutePayload | BuildPayload | Prove | Told
