"""What a node did in an HOUR, as its witnesses saw it: the HourReport, and who may witness.

    HOUR x − 1: the node commits to what it will be asked about in HOUR x ── attested by the witnesses of x − 1
    HOUR x:     the seed at its start draws nine witnesses; each challenges the node and signs what it saw
    afterwards: the node puts what they signed into one report, signs it and spreads it; a block includes it

The number that counts is the median of those that reported, so four liars of nine move it nowhere beyond what others
saw. What a node lacks earns it nothing and is held against nobody.

A statement is packed tightly, since a report carries nine: storage u24, relay u24 (both MB), uptime u16 (thousandths), each
big-endian, and a signature of 64 bytes.

Source: CONSENSUS §4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Annotated, ClassVar, Final

from blake3 import blake3

from consensus.encoding import Malformed
from consensus.ids import Digest, Network, NodeId
from consensus.params import PER_MILLE, WITNESSES
from consensus.reasons import Reason
from consensus.records import Between, Most, Size, pack, unpack
from consensus.signing import KeyPair, domain
from consensus.tally import Work, median

REPORT_BYTES_MAX: Final = 900
MB_MAX: Final = (1 << 24) - 1
_NUMBERS: Final = 8
_STATEMENT: Final = _NUMBERS + 64
_DRAWS: Final = 4 * WITNESSES
"""Draws for nine witnesses: a node of the same entity is drawn in vain."""

_STREAM: Final = Struct(f">{_DRAWS}Q")


@dataclass(frozen=True, slots=True)
class HourReport:
    """A node's evidence for one HOUR."""

    VERSION: ClassVar = 1
    node: Annotated[NodeId, Size(32)]
    hour: int
    next: Annotated[Digest, Size(32)]
    """The root of what the node answers for in the HOUR after; its witnesses attest when it was fixed."""
    mask: Annotated[int, Between(0, (1 << WITNESSES) - 1)]
    """Bit i: the i-th witness reported."""
    said: Annotated[bytes, Most(WITNESSES * _STATEMENT)]
    """Their statements, in that order."""


@dataclass(frozen=True, slots=True)
class SignedReport:
    """A report and its node's signature, which keeps others from leaving statements out."""

    VERSION: ClassVar = 1
    report: HourReport
    signature: Annotated[bytes, Size(64)]


def witnesses(
    network: Network, seed: Digest, hour: int, node: NodeId, entity_of: Mapping[NodeId, bytes], nodes: Sequence[NodeId]
) -> tuple[NodeId, ...]:
    """The witnesses of a node in an HOUR: up to nine of the registry, none of the node's entity.

    seed is that of the HOUR's start, nodes the registry in its order. Costs one hash, whatever the registry's size.
    """
    start = domain("witness", network) + seed + hour.to_bytes(8, "big") + node
    stream = _STREAM.unpack(blake3(start).digest(length=_STREAM.size))
    count, own = len(nodes), entity_of.get(node)
    moved: dict[int, int] = {}
    found: list[NodeId] = []
    for turn, drawn in enumerate(stream[:count]):
        at = turn + drawn % (count - turn)
        one = nodes[moved.get(at, at)]
        moved[at] = moved.get(turn, turn)
        if entity_of[one] != own:
            found.append(one)
            if len(found) == WITNESSES:
                break
    return tuple(found)


def numbers(work: Work) -> bytes:
    """The eight bytes of a statement's numbers; raises ValueError for numbers beyond them."""
    if not (0 <= work.storage <= MB_MAX and 0 <= work.relay <= MB_MAX and 0 <= work.uptime <= PER_MILLE):
        raise ValueError(f"{work} does not fit a statement")
    return work.storage.to_bytes(3, "big") + work.relay.to_bytes(3, "big") + work.uptime.to_bytes(2, "big")


def statement_signable(network: Network, node: NodeId, hour: int, following: Digest, said: bytes) -> bytes:
    """The bytes that a witness's era key signs: domain ‖ node ‖ HOUR u64 ‖ the next HOUR's root ‖ its eight bytes."""
    return domain("statement", network) + node + hour.to_bytes(8, "big") + following + said


def state_work(key: KeyPair, network: Network, node: NodeId, hour: int, following: Digest, work: Work) -> bytes:
    """A witness's statement of a node's HOUR, 72 bytes."""
    said = numbers(work)
    return said + key.sign_as_is(statement_signable(network, node, hour, following, said))


def assemble(node: NodeId, hour: int, following: Digest, statements: Mapping[int, bytes]) -> HourReport:
    """The report made of statements, by the place of each witness in its draw."""
    places = sorted(statements)
    mask = sum(1 << place for place in places)
    return HourReport(node, hour, following, mask, b"".join(statements[place] for place in places))


@lru_cache(maxsize=4_096)
def report_signable(report: HourReport, network: Network) -> bytes:
    """The bytes that the node's era key signs."""
    return domain("report", network) + pack(report)


@lru_cache(maxsize=4_096)
def read_report(data: bytes) -> SignedReport:
    """The report that data spells, with as many statements as its mask says; or Malformed. No signature is looked at."""
    if len(data) > REPORT_BYTES_MAX:
        raise Malformed("a report that is too long")
    signed = unpack(SignedReport, data)
    check_shape(signed.report)
    return signed


def check_shape(report: HourReport) -> None:
    """Raises Malformed for a report whose statements are not those of its mask, or say more than there is."""
    if len(report.said) != report.mask.bit_count() * _STATEMENT:
        raise Malformed("a report without the statements of its mask")
    if any(work.uptime > PER_MILLE for _, work, _ in _statements(report)):
        raise Malformed("a report of more than the whole time")


def _statements(report: HourReport) -> list[tuple[int, Work, bytes]]:
    """The place, the numbers and the whole of each statement."""
    made = []
    places = [place for place in range(WITNESSES) if report.mask >> place & 1]
    for turn, place in enumerate(places):
        said = report.said[turn * _STATEMENT : (turn + 1) * _STATEMENT]
        storage, relay, uptime = (int.from_bytes(said[low:high], "big") for low, high in ((0, 3), (3, 6), (6, 8)))
        made.append((place, Work(storage, relay, uptime), said))
    return made


def judge_report(
    report: HourReport,
    network: Network,
    keys: Sequence[bytes],
    verify: Callable[[bytes, bytes, bytes], bool],
) -> Work | Reason:
    """The work that a report proves, or why it proves none; keys are the era keys of its witnesses in their order.

    Costs one signature check a statement, nine at the most. The node's own signature is not looked at.
    """
    seen = []
    for place, work, said in _statements(report):
        if place >= len(keys):
            return Reason.STATEMENT_OF_NOBODY
        signable = statement_signable(network, report.node, report.hour, report.next, said[:_NUMBERS])
        if not verify(keys[place], said[_NUMBERS:], signable):
            return Reason.STATEMENT_UNSIGNED
        seen.append(work)
    found = median(seen, len(keys))
    return Reason.FEW_WITNESSES if found is None else found
