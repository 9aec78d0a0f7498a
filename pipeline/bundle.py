"""The one verifier: a session's records and sealed bytes in, a verdict out. Needs no secret, no network and no clock.

    opening ── signed by the identity, certifies the ephemeral key; its id binds owner, uuid and that key
    heads   ── each signed by the ephemeral key, chained to the opening; every leaf they name is in the listing, in order
    listing ── bound by the manifest; its leaves give the Merkle root
    chunks  ── each is the file that the listing names, stands where its own header says, and has its segment root

A fault is a finding, never an exception: `verify` answers for any bytes whatever. Source: DESIGN §6, CONSENSUS §9.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from blake3 import blake3

from consensus import merkle
from consensus.encoding import Malformed, decode, encode
from consensus.ids import Digest, session_id
from consensus.records import unpack
from consensus.signing import verify as verify_signature
from pipeline.archive import (
    ANCHORS,
    CHUNKS,
    RECORDS,
    VERSION,
    VERSION_ANCHORED,
    VERSION_NAME,
    chunk_name,
    entries,
)
from pipeline.manifest import (
    Chunk,
    Closer,
    Head,
    Listing,
    Manifest,
    Opening,
    Signed,
    consent,
    identity,
    open_opening,
    order,
    render,
    signed_by,
    unpack_heads,
)
from pipeline.sealed import Flags, parse

Read = Callable[[Chunk], "memoryview | bytes | None"]
Spread = Callable[[Callable[[Chunk], "Fault | None"], Iterable[Chunk]], Iterable["Fault | None"]]
Found = TypeVar("Found")

NO_TIME: Final = "when it was recorded: no anchor and no witness vouches for the times"
NOT_PROVEN: Final = (
    "that the capture shows what was on the screen",
    NO_TIME,
    "that the signer is who you think it is, unless you compare the signer's key",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: in a chunk ("video/3"), or in a part of the records."""

    part: str
    reason: str
    chunk: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is of a session: its records as bytes, and a way to its sealed chunks."""

    opening: bytes
    heads: bytes
    listing: bytes
    manifest: bytes
    read: Read | None
    """Gives a chunk's sealed bytes, or None where they are missing; None when only the records are to be checked."""
    rendered: bytes | None = None
    proofs: bytes | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verification found; `valid` when there is no fault at all."""

    faults: tuple[Fault, ...]
    opening: Opening | None = None
    manifest: Manifest | None = None
    chunks: tuple[Chunk, ...] = ()
    with_chunks: bool = False
    bytes_checked: int = 0
    heads: tuple[Signed, ...] = ()
    anchors: bytes | None = None
    """What the bundle has of the chain, unchecked: it takes the network's genesis to (node/chain/evidence)."""

    @property
    def valid(self) -> bool:
        """Whether everything that was there to check is intact."""
        return not self.faults

    @property
    def proven(self) -> tuple[str, ...]:
        """What follows for a reader who trusts the signer's key."""
        if not self.valid:
            return ()
        sealed = ("that the sealed chunks are those, in that order, none missing",) if self.with_chunks else ()
        return (*sealed, "that the signer certified this session and closed it with this Merkle root")

    @property
    def not_proven(self) -> tuple[str, ...]:
        """What nobody can conclude from this evidence."""
        without = () if self.with_chunks else ("that the sealed chunks still exist: they are not part of this bundle",)
        return (*without, *NOT_PROVEN)


@dataclass(slots=True)
class _Findings:
    """Faults as they are found."""

    faults: list[Fault] = field(default_factory=list)

    def say(self, part: str, reason: str, chunk: str | None = None) -> None:
        self.faults.append(Fault(part, reason, chunk))

    def parsed(self, part: str, reader: Callable[[], Found]) -> Found | None:
        try:
            return reader()
        except Malformed as error:
            self.say(part, f"the {part} was changed or is damaged: {error}")
            return None


def in_turn(check: Callable[[Chunk], Fault | None], chunks: Iterable[Chunk]) -> Iterator[Fault | None]:
    """The plain way to check chunks: one after the other."""
    return map(check, chunks)


def verify(evidence: Evidence, spread: Spread = in_turn) -> Verdict:
    """The verdict on a session; `spread` may check chunks side by side. Costs two BLAKE3 passes over the sealed bytes."""
    findings = _Findings()
    signed = findings.parsed("opening", lambda: unpack(Signed, evidence.opening))
    opening = findings.parsed("opening", lambda: open_opening(signed)) if signed else None
    listing = findings.parsed("listing", lambda: unpack(Listing, evidence.listing))
    heads = findings.parsed("heads", lambda: unpack_heads(decode(evidence.heads)))
    closing = findings.parsed("manifest", lambda: unpack(Signed, evidence.manifest))
    manifest = findings.parsed("manifest", lambda: unpack(Manifest, closing.body)) if closing else None
    chunks = listing.chunks if listing else ()
    if signed and opening:
        _check_opening(findings, signed, opening)
    if opening and closing and manifest:
        _check_manifest(findings, opening, closing, manifest)
        if listing:
            _check_listing(findings, opening, manifest, listing)
        if listing and heads is not None:
            _check_heads(findings, opening, manifest, heads, chunks)
        if evidence.rendered is not None and evidence.rendered != render(opening, manifest).encode():
            findings.say("manifest.json", "manifest.json is not the rendering of the signed manifest")
        if evidence.proofs is not None and listing:
            _check_proofs(findings, manifest, chunks, evidence.proofs)
    if opening and evidence.read is not None:
        read = evidence.read
        for fault in spread(lambda chunk: _check_chunk(opening, chunk, read), chunks):
            if fault is not None:
                findings.faults.append(fault)
    checked = sum(chunk.size for chunk in chunks) if evidence.read is not None else 0
    with_chunks = evidence.read is not None
    return Verdict(tuple(findings.faults), opening, manifest, chunks, with_chunks, checked, heads or ())


def verify_bundle(archive: memoryview, spread: Spread = in_turn) -> Verdict:
    """The verdict on a proof bundle, as `verify` gives it; every byte of the container counts too."""
    findings, found = _Findings(), dict[str, memoryview]()
    try:
        for entry in entries(archive):
            if entry.name in found:
                findings.say("bundle", f"{entry.name} is in the bundle twice")
            found[entry.name] = entry.data
    except Malformed as error:
        findings.say("bundle", str(error))
    version = bytes(found.get(VERSION_NAME, b""))
    if version not in {VERSION, VERSION_ANCHORED}:
        unknown = (
            f"of a layout ({version!r}) that this program does not know: take a newer one" if version else "missing"
        )
        findings.say("bundle", f"this is no readable proof bundle: {VERSION_NAME} is {unknown}")
        return Verdict(tuple(findings.faults))
    anchors = (ANCHORS,) if version == VERSION_ANCHORED else ()
    for name in (*RECORDS, *anchors):
        if name not in found:
            findings.say("bundle", f"{name} is missing from the bundle")
    parts = [bytes(found.get(name, b"")) for name in RECORDS]
    opening, heads, listing, proofs, manifest, rendered = parts
    with_chunks = any(name.startswith(CHUNKS) for name in found)
    read: Read | None = (lambda chunk: found.get(chunk_name(chunk))) if with_chunks else None
    verdict = verify(Evidence(opening, heads, listing, manifest, read, rendered, proofs), spread)
    expected = [VERSION_NAME, *RECORDS, *anchors, *(map(chunk_name, verdict.chunks) if with_chunks else ())]
    if [name for name in found if name not in expected] or not _in_order(list(found), expected):
        findings.say("bundle", "the bundle holds files that do not belong there, or not in their order")
    evidence = bytes(found[ANCHORS]) if anchors and ANCHORS in found else None
    return replace(verdict, faults=(*findings.faults, *verdict.faults), anchors=evidence)


def _in_order(found: list[str], expected: list[str]) -> bool:
    present = set(found)
    return found == [name for name in expected if name in present]


def _check_opening(findings: _Findings, signed: Signed, opening: Opening) -> None:
    if not signed_by(signed, Opening, opening.identity, opening.network):
        findings.say("opening", "the signature of the opening does not match its identity")
    if session_id(opening.owner, opening.uuid, opening.ephemeral) != opening.session:
        findings.say("opening", "the session id is not that of its owner, uuid and ephemeral key")
    if not opening.streams or sorted(set(opening.streams)) != list(opening.streams):
        findings.say("opening", "the streams are not listed once each, in order")


def _check_manifest(findings: _Findings, opening: Opening, closing: Signed, manifest: Manifest) -> None:
    key = opening.ephemeral if manifest.closer is Closer.EPHEMERAL else opening.identity
    if not signed_by(closing, Manifest, key, opening.network):
        findings.say("manifest", "the signature of the manifest does not match its key")
    if manifest.complete and manifest.closer is not Closer.EPHEMERAL:
        findings.say("manifest", "only the session's own key, which dies with the recorder, can close it as complete")
    if manifest.session != opening.session or manifest.opening != identity(opening, opening.network):
        findings.say("manifest", "the manifest belongs to another session")
    for gap in manifest.gaps:
        if gap.stream not in opening.streams:
            findings.say("manifest", "a gap lies in a stream that the session does not have")
    for incident in manifest.incidents:
        if incident.damaging:
            findings.say("incident", incident.what)
    for participant in manifest.participants:
        said = consent(opening.session, opening.policy, opening.started)
        if not verify_signature(participant.key, participant.signature, "consent", opening.network, said):
            findings.say("manifest", f"the {participant.role.name.lower()}'s signature does not match")


def _check_listing(findings: _Findings, opening: Opening, manifest: Manifest, listing: Listing) -> None:
    chunks = listing.chunks
    if identity(listing, opening.network) != manifest.listing:
        findings.say("listing", "the listing is not the one that the manifest was signed over")
    if len(chunks) != manifest.chunk_count or merkle.root([chunk.leaf() for chunk in chunks]) != manifest.root:
        findings.say("listing", "the chunks do not give the Merkle root of the manifest")
    if list(order(chunks)) != list(chunks):
        findings.say("listing", "the chunks are not in order")
    for stream in opening.streams:
        line = [chunk for chunk in chunks if chunk.stream is stream]
        if [chunk.index for chunk in line] != list(range(len(line))):
            findings.say("listing", f"the {stream.name.lower()} stream lacks a chunk, or lists one twice")
        if any(chunk.flags & Flags.LAST for chunk in line[:-1]) or not (line and line[-1].flags & Flags.LAST):
            findings.say("listing", f"the {stream.name.lower()} stream does not end with its last chunk")
        counts = [chunk.gaps for chunk in line]
        noted = sum(gap.stream is stream for gap in manifest.gaps)
        if counts != sorted(counts) or (counts and counts[-1] != noted):
            findings.say("listing", f"the gaps of the {stream.name.lower()} stream are not those of its chunks")
    if any(chunk.stream not in opening.streams for chunk in chunks):
        findings.say("listing", "a chunk lies in a stream that the session does not have")


def _check_heads(
    findings: _Findings, opening: Opening, manifest: Manifest, heads: tuple[Signed, ...], chunks: tuple[Chunk, ...]
) -> None:
    previous, at = identity(opening, opening.network), int(opening.started)
    by_leaf = {chunk.leaf(): chunk for chunk in chunks}
    plain = {(chunk.stream, chunk.index): chunk.plain for chunk in chunks}
    headed: dict[int, int] = {}
    if len(heads) != manifest.heads:
        findings.say("heads", f"{len(heads)} heads where the manifest was signed over {manifest.heads}")
    for number, signed in enumerate(heads):
        head = findings.parsed(f"head {number}", lambda signed=signed: unpack(Head, signed.body))  # type: ignore[misc]
        if head is None:
            return
        part = f"head {number}"
        if not signed_by(signed, Head, opening.ephemeral, opening.network):
            findings.say(part, f"the signature of head {number} does not match the session's key")
        if head.number != number or head.previous != previous or head.session != opening.session or head.at < at:
            findings.say(part, f"head {number} does not follow the one before it")
        for leaf in head.leaves:
            chunk = by_leaf.get(leaf)
            if chunk is None or chunk.index != headed.get(chunk.stream, 0):
                findings.say(part, f"head {number} names a chunk that the listing lacks, or names it out of order")
            else:
                headed[chunk.stream] = chunk.index + 1
        for tail in head.tails:
            held = plain.get((tail.stream, tail.index), 0)
            if held < tail.size:
                name = f"{tail.stream.name.lower()}/{tail.index}"
                findings.say(part, f"head {number} vouches for {tail.size} bytes of {name}, which holds {held}", name)
        previous, at = identity(head, opening.network), head.at
    if previous != manifest.last_head:
        findings.say("heads", "the last head is not the one that the manifest was signed over")
    if manifest.closer is Closer.EPHEMERAL and sum(headed.values()) != len(chunks):
        findings.say("heads", "the heads do not cover every chunk")


def _check_proofs(findings: _Findings, manifest: Manifest, chunks: tuple[Chunk, ...], proofs: bytes) -> None:
    expected = encode([list(proof) for proof in merkle.prove_all([chunk.leaf() for chunk in chunks])])
    if proofs != expected or len(chunks) != manifest.chunk_count:
        findings.say("proofs", "the inclusion proofs are not those of the listed chunks")


def _check_chunk(opening: Opening, chunk: Chunk, read: Read) -> Fault | None:
    """The first thing wrong with a chunk's sealed bytes, if any."""
    try:
        data = read(chunk)
    except OSError as error:
        return Fault("chunk", f"cannot be read: {error.strerror or error}", chunk.name)
    if data is None:
        return Fault("chunk", "missing", chunk.name)
    reason = _wrong(opening, chunk, data)
    return None if reason is None else Fault("chunk", reason, chunk.name)


def _wrong(opening: Opening, chunk: Chunk, data: memoryview | bytes) -> str | None:
    if Digest(blake3(data).digest()) != chunk.file:
        try:
            other = parse(data)[0]
        except Malformed:
            other = None
        if other and other.session != opening.session:
            return "these are bytes of another session"
        if other and (other.stream, other.index) != (chunk.stream, chunk.index):
            return f"these are the bytes of {other.stream.name.lower()}/{other.index}"
        if len(data) != chunk.size:
            return f"{len(data)} bytes where {chunk.size} were sealed"
        return f"its {'bytes were' if other else 'header was'} changed"
    try:
        header, _ = parse(data)
    except Malformed as error:
        return str(error)
    stated = (
        opening.network,
        opening.session,
        chunk.stream,
        chunk.index,
        chunk.flags,
        chunk.gaps,
        chunk.plain,
        chunk.size,
    )
    found = (
        header.network,
        header.session,
        header.stream,
        header.index,
        header.flags,
        header.gaps,
        header.plain,
        len(data),
    )
    if found != stated:
        return "its header says otherwise than the listing"
    if merkle.segment_root(data) != chunk.segments:
        return "its segment root is not the listed one"
    return None
