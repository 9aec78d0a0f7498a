"""A network in one signed file: what never changes (the genesis) and where to meet its first nodes.

    network id = H("genesis" ‖ genesis)         signed: NetworkTerms { genesis, sequence, issued, bootstrap } by genesis.author

The id is a hash over the genesis alone, so the author can sign new bootstrap addresses under a higher sequence and the
network stays the one it is. The file is text, to be read, mailed and shown as a QR code:

    lucid-network 1
    # lines for people, made anew from the rest whenever the file is written; never read
    base32 (RFC 4648, capitals, no padding) of Signed { body, signature }, 64 characters a line

Values by mode are those of CONSENSUS §1; whoever reads a file checks its bounds, so that nobody joins a network whose slots
no Tor circuit can meet.
"""

import hashlib
import re
from base64 import b32decode, b32encode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, ClassVar, Final

from consensus.encoding import Malformed
from consensus.ids import NO_NETWORK, Millis, Network, NodeId
from consensus.params import LeaderRule
from consensus.records import Between, Most, Size, pack, unpack
from consensus.signing import KeyPair, digest, verify
from pipeline.manifest import Signed

HEADER: Final = "lucid-network 1"
QR_PREFIX: Final = "LUCID-NETWORK:1:"
"""Before the base32 in a QR code, whose alphanumeric mode has capitals, digits, colon and hyphen."""

FILE_CHARACTERS_MAX: Final = 65_536
SIGNED_DOMAIN: Final = "network"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_ONION: Final = re.compile(r"/onion3/([a-z2-7]{56}):([1-9][0-9]{0,4})")
_LOOPBACK: Final = re.compile(r"/ip4/127\.0\.0\.1/tcp/([1-9][0-9]{0,4})")


class Mode(IntEnum):
    """What a network is for."""

    MAINNET = 1
    SANDBOX = 2
    DEVNET = 3


class Carrier(IntEnum):
    """What carries bytes between the nodes."""

    TOR = 1
    LOOPBACK = 2
    """Plain TCP on 127.0.0.1: devnets on one machine only, since it hides nothing."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The network's clockwork (CONSENSUS §1) and its credit window."""

    VERSION: ClassVar = 1
    slot_s: Annotated[int, Between(1, 3600)]
    hour_slots: Annotated[int, Between(3, 3600)]
    """Slots in an HOUR."""
    era_hours: Annotated[int, Between(1, 10_000)]
    """HOURs in an ERA."""
    month_hours: Annotated[int, Between(1, 100_000)]
    """HOURs in a MONTH."""
    rank_ms: Annotated[int, Between(100, 10_000)]
    """T: rank r may propose from r·T into the slot."""
    vote_ms: Annotated[int, Between(1, 3_600_000)]
    """When in its slot a voter votes."""
    window_days: Annotated[int, Between(1, 365)]
    """leaderWindowDays: how long work counts."""


@dataclass(frozen=True, slots=True)
class Genesis:
    """What a network is, for ever."""

    VERSION: ClassVar = 1
    name: Annotated[str, Most(32)]
    mode: Mode
    author: Annotated[NodeId, Size(32)]
    """Who signs this file and its later versions."""
    created: Millis
    timing: Timing
    leader_rule: LeaderRule
    founders: Annotated[tuple[Annotated[NodeId, Size(32)], ...], Most(64)]
    """The first voters; the first of them is the Server."""
    admission_bits: Annotated[int, Between(0, 32)]
    """Admission takes 2^bits Argon2id hashes of 64 MiB on average, until the first retarget (CONSENSUS §3)."""
    carrier: Carrier


@dataclass(frozen=True, slots=True)
class BootstrapNode:
    """A node that newcomers ask first, and where it listens."""

    VERSION: ClassVar = 1
    node: Annotated[NodeId, Size(32)]
    addresses: Annotated[tuple[Annotated[str, Most(96)], ...], Most(8)]


@dataclass(frozen=True, slots=True)
class NetworkTerms:
    """What the author signs."""

    VERSION: ClassVar = 1
    genesis: Genesis
    sequence: int
    """Of two files of one network the one with the higher sequence is the newer."""
    issued: Millis
    bootstrap: Annotated[tuple[BootstrapNode, ...], Most(32)]

    @property
    def network(self) -> Network:
        """The network's id."""
        return network_id(self.genesis)


_USUAL: Final = Timing(120, 30, 168, 720, 5_000, 45_000, 30)
TIMINGS: Final = {Mode.MAINNET: _USUAL, Mode.SANDBOX: _USUAL, Mode.DEVNET: Timing(5, 4, 3, 12, 300, 3_000, 30)}
"""The values of each mode (CONSENSUS §1)."""

ADMISSION_BITS: Final = {Mode.MAINNET: 10, Mode.SANDBOX: 6, Mode.DEVNET: 0}
"""Starting values: minutes, seconds, nothing."""

RANK_MS_MIN: Final = 3_000
"""Below it ranks overlap at Tor's latency (CONSENSUS §1); a devnet may."""


def network_id(genesis: Genesis) -> Network:
    """BLAKE3 of the genesis in its domain, 32 bytes: prefixed to everything that is signed on the network."""
    return Network(digest("genesis", NO_NETWORK, pack(genesis)))


def seal_terms(terms: NetworkTerms, author: KeyPair) -> Signed:
    """The terms with their author's signature; raises Malformed for terms that `open_terms` would refuse."""
    check_terms(terms)
    if author.public != terms.genesis.author:
        raise Malformed("only the author named in the genesis can sign this network's file")
    body = pack(terms)
    return Signed(body, author.sign(SIGNED_DOMAIN, terms.network, body))


def open_terms(signed: Signed) -> NetworkTerms:
    """The terms of a network whose author signed them; raises Malformed for all others, and for parameters out of bounds."""
    terms = unpack(NetworkTerms, signed.body)
    check_terms(terms)
    if not verify(terms.genesis.author, signed.signature, SIGNED_DOMAIN, terms.network, signed.body):
        raise Malformed("the signature is not that of the network's author")
    return terms


def newer(terms: NetworkTerms, than: NetworkTerms) -> bool:
    """Whether terms may replace others: the same network, and a higher sequence."""
    return terms.network == than.network and terms.sequence > than.sequence


def check_terms(terms: NetworkTerms) -> None:
    """Raises Malformed, naming the first rule that these terms break."""
    genesis = terms.genesis
    check_genesis(genesis)
    nodes = [one.node for one in terms.bootstrap]
    if len(set(nodes)) != len(nodes):
        raise Malformed("a bootstrap node is listed twice")
    for one in terms.bootstrap:
        if not one.addresses:
            raise Malformed(f"bootstrap node {one.node.hex()[:8]} has no address")
        for address in one.addresses:
            check_address(address, genesis.carrier)


def check_genesis(genesis: Genesis) -> None:
    """Raises Malformed, naming the first rule that a genesis breaks (CONSENSUS §1, §5)."""
    timing, devnet = genesis.timing, genesis.mode is Mode.DEVNET
    slot_ms = 1_000 * timing.slot_s
    rules = (
        (_NAME.fullmatch(genesis.name), "a network's name is 1 to 32 of a–z, 0–9 and hyphens, the first no hyphen"),
        (genesis.founders, "a network needs a founder: the first one is the Server"),
        (len(set(genesis.founders)) == len(genesis.founders), "a founder is listed twice"),
        (genesis.carrier is Carrier.TOR or devnet, "only a devnet may use loopback: it hides nobody's address"),
        (timing.rank_ms >= RANK_MS_MIN or devnet, f"T (rank_ms) is {RANK_MS_MIN} ms or more on a network over Tor"),
        (6 * timing.rank_ms < timing.vote_ms, "six times T (rank_ms) has to be below vote_ms"),
        (3 * timing.vote_ms < 2 * slot_ms, "vote_ms has to be below two thirds of a slot"),
        (timing.era_hours <= timing.month_hours, "an ERA is no longer than a MONTH"),
    )
    for holds, rule in rules:
        if not holds:
            raise Malformed(rule)


def check_address(address: str, carrier: Carrier) -> None:
    """Raises Malformed for an address that is not one of this carrier: others would lead around Tor."""
    if carrier is Carrier.LOOPBACK:
        found = _LOOPBACK.fullmatch(address)
        if found is None or int(found[1]) > 65_535:
            raise Malformed(f"{address} is no loopback address: write it as /ip4/127.0.0.1/tcp/4001")
        return
    found = _ONION.fullmatch(address)
    if found is None or int(found[2]) > 65_535:
        raise Malformed(f"{address} is no onion address: write it as /onion3/ADDRESS:PORT, ADDRESS without .onion")
    if not is_onion(found[1]):
        raise Malformed(f"the onion address {found[1]} is mistyped: its checksum does not match")


def is_onion(name: str) -> bool:
    """Whether 56 base32 characters are a v3 onion address by its own checksum (rend-spec-v3 §6)."""
    raw = b32decode(name.upper())
    key, checksum, version = raw[:32], raw[32:34], raw[34:]
    return version == b"\x03" and hashlib.sha3_256(b".onion checksum" + key + version).digest()[:2] == checksum


def write_file(signed: Signed, comments: Sequence[str]) -> str:
    """The text of a network file; comments are lines for people."""
    body = b32encode(pack(signed)).decode().rstrip("=")
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join([HEADER, *(f"# {line}" for line in comments), *lines, ""])


def read_file(text: str) -> Signed:
    """What a network file or its QR code holds, signature unchecked; raises Malformed."""
    if len(text) > FILE_CHARACTERS_MAX:
        raise Malformed(f"a network file has {FILE_CHARACTERS_MAX} characters at most")
    if text.startswith(QR_PREFIX):
        return unpack(Signed, _from_base32(text.removeprefix(QR_PREFIX).strip()))
    header, *lines = [line.strip() for line in text.splitlines()] or [""]
    if header != HEADER:
        raise Malformed(f"its first line is not “{HEADER}”")
    return unpack(Signed, _from_base32("".join([line for line in lines if not line.startswith("#")])))


def qr_text(signed: Signed) -> str:
    """What the file's QR code says."""
    return QR_PREFIX + b32encode(pack(signed)).decode().rstrip("=")


def _from_base32(text: str) -> bytes:
    try:
        data = b32decode(text.encode("ascii") + b"=" * (-len(text) % 8))
    except ValueError as error:
        raise Malformed("its body is not base32: it was damaged on the way") from error
    if b32encode(data).decode().rstrip("=") != text:
        raise Malformed("its body is not base32 in its one spelling: it was damaged on the way")
    return data
