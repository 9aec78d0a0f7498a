"""The verifier against a forger: whatever differs from what was sealed is a fault, and a chunk's fault names the chunk."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.encoding import Malformed, decode, encode
from consensus.ids import Address, Digest, Millis, NodeId
from consensus.records import pack
from consensus.signing import KeyPair
from pipeline.archive import RECORDS, VERSION_NAME, chunk_name, entries, header
from pipeline.bundle import Fault, Verdict, verify, verify_bundle
from pipeline.manifest import (
    Chunk,
    Closer,
    Head,
    Incident,
    Participant,
    Role,
    Signed,
    Tail,
    consent,
    identity,
    pack_heads,
    sign,
)
from pipeline.restore import stream_bytes
from pipeline.sealed import HEADER_BYTES, Flags
from pipeline.stream import Stream
from tests.examples import examples
from tests.pipeline.sessions import STARTED, Made, archived, replaced, retold, seal, seed, small, terms, told

SOUND = small()
OTHER = small("two")
BUNDLE = archived(SOUND.parts())


def judged(data: bytes | bytearray) -> Verdict:
    return verify_bundle(memoryview(data))


def chunk_of(made: Made, name: str) -> Any:
    return next(chunk for chunk in made.chunks if chunk.name == name)


def test_what_was_sealed_is_valid_and_says_what_that_proves() -> None:
    with_chunks, without = judged(BUNDLE), judged(archived(SOUND.records()))
    assert with_chunks.faults == without.faults == ()
    assert verify(SOUND.evidence()).faults == verify(SOUND.evidence(read=None)).faults == ()
    assert with_chunks.manifest == SOUND.manifest
    assert with_chunks.bytes_checked == sum(len(data) for data in SOUND.files.values())
    assert any("none missing" in sentence for sentence in with_chunks.proven)
    assert not any("none missing" in sentence for sentence in without.proven)
    assert any("still exist" in sentence for sentence in without.not_proven)
    assert not any("still exist" in sentence for sentence in with_chunks.not_proven)


@pytest.mark.component
def test_every_flipped_byte_of_a_bundle_is_a_fault_and_those_in_a_chunk_name_it() -> None:
    made = seal(terms(), {Stream.VIDEO: [b"frames"], Stream.AUDIT: [b"keys"]})
    parts, changed, rng = made.parts(), bytearray(archived(made.parts())), random.Random(1)
    names = {chunk_name(chunk): chunk.name for chunk in made.chunks}
    where = {entry.name: len(entry.data) for entry in entries(memoryview(changed))}
    assert where == {name: len(data) for name, data in parts.items()}
    contents, at = dict[int, str](), 0
    for name, data in parts.items():
        contents |= dict.fromkeys(range(at + 512, at + 512 + len(data)), name)
        at += 512 + len(data) + -len(data) % 512
    for at in range(len(changed)):
        if contents.get(at) == "manifest.json" and at % 8:
            continue  # it is compared as a whole, and takes half of the time
        bit = 1 << rng.randrange(8)
        changed[at] ^= bit
        if at in contents:
            faults = judged(changed).faults
            assert faults, at
            if contents[at] in names:
                assert [fault.chunk for fault in faults] == [names[contents[at]]], at
        else:  # the container's own; `verify_bundle` makes a fault of it, as the tests below show
            with pytest.raises(Malformed):
                list(entries(memoryview(changed)))
        changed[at] ^= bit
    assert judged(changed).valid


def test_flips_all_over_a_chunk_of_many_segments_name_it() -> None:
    rng = random.Random(2)
    made = seal(terms(streams=(Stream.VIDEO,)), {Stream.VIDEO: [rng.randbytes(100_000), rng.randbytes(70_000)]})
    second = made.chunks[1]
    sealed = bytearray(made.files[second.file])

    def read(chunk: Any) -> bytes | bytearray:
        return sealed if chunk == second else made.files[chunk.file]

    evidence = made.evidence(read=read)
    whole = verify(evidence)
    assert whole.valid
    for at in [*range(HEADER_BYTES), *(rng.randrange(len(sealed)) for _ in range(1000)), len(sealed) - 1]:
        sealed[at] ^= 1 << rng.randrange(8)
        (fault,) = verify(evidence).faults
        assert (fault.part, fault.chunk) == ("chunk", "video/1")
        sealed[at] = made.files[second.file][at]
    assert verify(evidence) == whole


def test_a_bundle_cut_off_anywhere_or_continued_is_a_fault() -> None:
    for at in range(0, len(BUNDLE), 512):
        assert not judged(BUNDLE[:at]).valid, at
    for at in (1, 511, len(BUNDLE) - 1, len(BUNDLE) - 1025):
        assert not judged(BUNDLE[:at]).valid
    for more in (b"\0", bytes(512), bytes(1024), BUNDLE, b"garbage"):
        assert not judged(BUNDLE + more).valid
    assert not judged(BUNDLE[:-1024] + archived({"more": b"!"})).valid


@pytest.mark.parametrize("name", list(SOUND.parts()))
def test_each_file_of_a_bundle_has_its_one_place(name: str) -> None:
    parts = list(SOUND.parts().items())
    at = [key for key, _ in parts].index(name)
    entry = parts[at]
    without = parts[:at] + parts[at + 1 :]
    chunk = next((chunk.name for chunk in SOUND.chunks if chunk_name(chunk) == name), None)
    missing = judged(archived(without))
    assert not missing.valid
    if chunk:
        assert Fault("chunk", "missing", chunk) in missing.faults
    for place in range(len(parts)):
        assert judged(archived([*without[:place], entry, *without[place:]])).valid == (place == at)
        twice = judged(archived([*parts[:place], entry, *parts[place:]]))
        assert any(fault.reason == f"{name} is in the bundle twice" for fault in twice.faults)
    for other in range(len(parts)):
        if other != at:  # its bytes under another's name
            names = [key for key, _ in parts]
            names[at], names[other] = names[other], names[at]
            swapped = judged(archived(zip(names, [data for _, data in parts], strict=True)))
            assert not swapped.valid
    for data in (b"", b"\xf6", b"\x80", b"\xa0", b"\x00", entry[1] + b"\0", entry[1][:-1]):
        assert not judged(archived([*parts[:at], (name, data), *parts[at + 1 :]])).valid, data


def test_headers_have_one_spelling() -> None:
    """Another owner, time, mode or spelling of a number is another file to tar, and no bundle of ours."""
    raw = header("lucid-bundle", 2)
    for start, field in [
        (100, b"0000755\0"),
        (136, b"%011o\0" % 7),
        (124, b"          2\0"),
        (156, b"5"),
        (265, b"root"),
    ]:
        other = bytearray(raw)
        other[start : start + len(field)] = field
        other[148:156] = b" " * 8
        other[148:156] = b"%06o\0 " % sum(other)
        assert not judged(bytes(other) + BUNDLE[512:]).valid


def sealed_as(made: Made, name: str) -> bytes:
    return made.files[chunk_of(made, name).file]


VIDEO_2 = sealed_as(SOUND, "video/2")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("video/1", sealed_as(SOUND, "video/0"), "these are the bytes of video/0"),
        ("video/1", sealed_as(SOUND, "audit/1"), "these are the bytes of audit/1"),
        ("audit/0", sealed_as(OTHER, "audit/0"), "these are bytes of another session"),
        ("video/2", None, "missing"),
        ("video/2", b"", f"0 bytes where {len(VIDEO_2)} were sealed"),
        ("video/2", VIDEO_2[:-1], f"{len(VIDEO_2) - 1} bytes where {len(VIDEO_2)} were sealed"),
        ("video/2", VIDEO_2 + b"!", f"{len(VIDEO_2) + 1} bytes where {len(VIDEO_2)} were sealed"),
        ("video/2", b"M" + VIDEO_2[1:], "its header was changed"),
        ("video/2", VIDEO_2[:-1] + bytes([VIDEO_2[-1] ^ 1]), "its bytes were changed"),
    ],
)
def test_a_chunk_that_is_not_itself_is_named_with_what_it_is(name: str, data: bytes | None, reason: str) -> None:
    verdict = verify(SOUND.evidence(read=lambda chunk: data if chunk.name == name else SOUND.read(chunk)))
    assert verdict.faults == (Fault("chunk", reason, name),)


def test_a_chunk_that_cannot_be_read_is_a_fault() -> None:
    def read(chunk: Chunk) -> bytes | None:
        if chunk.name == "audit/1":
            raise OSError(5, "Input/output error")
        return SOUND.read(chunk)

    assert verify(SOUND.evidence(read=read)).faults == (
        Fault("chunk", "cannot be read: Input/output error", "audit/1"),
    )


def test_a_stranger_can_neither_close_nor_head_an_owners_session() -> None:
    stranger = replace(
        SOUND.terms, identity=KeyPair.from_seed(seed("stranger")), ephemeral=KeyPair.from_seed(seed("x"))
    )
    network, parts = SOUND.opening.network, SOUND.parts()
    for closer in Closer:
        manifest = replace(SOUND.manifest, closer=closer, complete=closer is Closer.EPHEMERAL)
        forged = replace(SOUND, terms=stranger, manifest=manifest).signed_manifest()
        assert any(
            "signature of the manifest" in fault.reason for fault in verify(SOUND.evidence(manifest=forged)).faults
        )
    heads = pack_heads([sign(head, stranger.ephemeral, network) for head in SOUND.heads])
    assert [fault.part for fault in verify(SOUND.evidence(heads=heads)).faults] == ["head 0", "head 1"]
    opening = pack(sign(SOUND.opening, stranger.identity, network))
    assert [fault.part for fault in verify(SOUND.evidence(opening=opening)).faults] == ["opening"]
    # A manifest signed as something else, and an opening as a manifest.
    cross = pack(Signed(pack(SOUND.manifest), SOUND.terms.ephemeral.sign("head", network, pack(SOUND.manifest))))
    assert not verify(SOUND.evidence(manifest=cross)).valid
    assert not verify(SOUND.evidence(manifest=parts["opening.cbor"], opening=parts["manifest.cbor"])).valid


def test_a_stranger_who_claims_the_session_is_valid_only_as_another_signer() -> None:
    """Nothing in a bundle binds an owner's address to an identity, so whoever trusts has to compare the signer."""
    thief = KeyPair.from_seed(seed("thief"))
    claimed = replace(SOUND.terms, identity=thief, opening=replace(SOUND.opening, identity=NodeId(thief.public)))
    taken = told(claimed, [], SOUND.chunks, SOUND.files, gaps=SOUND.manifest.gaps)
    assert not verify(taken.evidence()).valid
    closed = told(
        claimed, [], SOUND.chunks, SOUND.files, gaps=SOUND.manifest.gaps, closer=Closer.IDENTITY, complete=False
    )
    verdict = verify(closed.evidence())
    assert verdict.valid
    assert verdict.opening
    assert verdict.opening.session == SOUND.opening.session
    assert verdict.opening.identity != SOUND.opening.identity
    with_heads = told(claimed, SOUND.heads, SOUND.chunks, SOUND.files, gaps=SOUND.manifest.gaps)
    owners = pack_heads([sign(head, SOUND.terms.ephemeral, SOUND.opening.network) for head in SOUND.heads])
    assert not verify(with_heads.evidence(heads=owners)).valid


VIDEO_LAST, AUDIT_LAST = chunk_of(SOUND, "video/2"), chunk_of(SOUND, "audit/2")
SECOND = replace(SOUND.heads[1], leaves=SOUND.heads[1].leaves[:-1])
STRANGE = Participant(Role.CLIENT, SOUND.terms.ephemeral.public, bytes(64))


@pytest.mark.parametrize(
    ("lie", "part", "reason"),
    [
        # What the owner itself may not say, all signatures being right.
        (partial(retold, opening=replace(SOUND.opening, uuid=bytes(16))), "opening", "session id is not that of"),
        (
            partial(retold, opening=replace(SOUND.opening, owner=Address(bytes(20)))),
            "opening",
            "session id is not that of",
        ),
        (partial(retold, opening=replace(SOUND.opening, streams=(Stream.VIDEO,))), "listing", "does not have"),
        (partial(retold, opening=replace(SOUND.opening, streams=(Stream.AUDIT, Stream.VIDEO))), "opening", "in order"),
        (partial(retold, opening=replace(SOUND.opening, streams=())), "opening", "in order"),
        (partial(retold, opening=replace(SOUND.opening, started=Millis(STARTED + 2))), "head 0", "does not follow"),
        (partial(retold, session=OTHER.opening.session), "manifest", "another session"),
        (partial(retold, opening=OTHER.opening), "manifest", "does not match"),
        (partial(retold, root=OTHER.manifest.root), "listing", "Merkle root"),
        (partial(retold, chunk_count=5), "listing", "Merkle root"),
        (partial(retold, listing=OTHER.manifest.listing), "listing", "signed over"),
        (partial(retold, last_head=SOUND.heads[0].previous), "heads", "the last head"),
        (partial(retold, heads=SOUND.heads[:1]), "heads", "do not cover every chunk"),
        (partial(retold, heads=()), "heads", "do not cover every chunk"),
        (partial(retold, heads=SOUND.heads[::-1]), "head 0", "out of order"),
        (partial(retold, heads=[SOUND.heads[0], SOUND.heads[0], SOUND.heads[1]]), "head 1", "out of order"),
        (partial(retold, heads=[SOUND.heads[0], replace(SOUND.heads[1], at=Millis(STARTED))]), "head 1", "follow"),
        (partial(retold, heads=[SOUND.heads[0], SECOND]), "heads", "do not cover every chunk"),
        (partial(retold, heads=OTHER.heads), "head 0", "that the listing lacks"),
        (partial(retold, closer=Closer.IDENTITY), "manifest", "only the session's own key"),
        (partial(retold, chunks=SOUND.chunks[:-1]), "listing", "does not end with its last"),
        (partial(retold, chunks=SOUND.chunks[:-1], complete=False), "listing", "does not end with its last"),
        (partial(retold, chunks=SOUND.chunks[:3], complete=False), "listing", "does not end with its last"),
        (partial(retold, chunks=SOUND.chunks[1:]), "listing", "lacks a chunk"),
        (partial(retold, chunks=SOUND.chunks[:1] * 2 + SOUND.chunks[1:]), "listing", "lists one twice"),
        (partial(retold, chunks=SOUND.chunks[3:] + SOUND.chunks[:3]), "listing", "not in order"),
        (partial(replaced, name="video/2", flags=int(Flags.RAW)), "listing", "does not end with its last"),
        (partial(replaced, name="video/1", flags=int(Flags.RAW | Flags.LAST)), "listing", "does not end with its last"),
        (partial(replaced, name="video/1", gaps=2), "listing", "gaps of the video"),
        (partial(retold, gaps=SOUND.manifest.gaps[:1]), "listing", "gaps of the audit"),
        (partial(retold, incidents=(Incident(Millis(1), True, "burnt"),)), "incident", "burnt"),
        (partial(retold, participants=(STRANGE,)), "manifest", "client's signature"),
    ],
)
def test_an_owners_lie_is_a_fault_of_its_part(lie: Callable[[Made], Made], part: str, reason: str) -> None:
    faults = verify(lie(SOUND).evidence()).faults
    assert any(fault.part == part and reason in fault.reason for fault in faults), faults


@pytest.mark.parametrize(
    "lie",
    [
        {"size": 1000},
        {"plain": 901},
        {"flags": 0},
        {"gaps": 1},
        {"segments": Digest(bytes(32))},
        {"file": chunk_of(SOUND, "audit/0").file},
    ],
)
def test_an_entry_that_misstates_its_chunk_names_it(lie: dict[str, Any]) -> None:
    faults = verify(replaced(SOUND, "video/0", **lie).evidence()).faults
    assert "video/0" in {fault.chunk for fault in faults}


def test_a_head_that_vouches_for_more_than_is_there_names_the_chunk() -> None:
    """As when the journal was cut between the recorder's death and its recovery."""
    for tail, held in [
        (Tail(Stream.VIDEO, 2, VIDEO_LAST.plain + 1, Digest(bytes(32))), VIDEO_LAST.plain),
        (Tail(Stream.VIDEO, 3, 1, Digest(bytes(32))), 0),
    ]:
        made = retold(SOUND, heads=[SOUND.heads[0], replace(SOUND.heads[1], tails=(tail,))])
        name = f"video/{tail.index}"
        reason = f"head 1 vouches for {tail.size} bytes of {name}, which holds {held}"
        assert verify(made.evidence()).faults == (Fault("head 1", reason, name),)


def test_a_head_dropped_added_or_unsigned_is_a_fault() -> None:
    network, key = SOUND.opening.network, SOUND.terms.ephemeral
    signed = [sign(head, key, network) for head in SOUND.heads]
    more = Head(SOUND.opening.session, 2, Millis(STARTED + 3), identity(SOUND.heads[1], network), (), ())
    for heads in (signed[:1], signed[1:], [*signed, sign(more, key, network)], signed[::-1], [signed[0]] * 2, []):
        assert not verify(SOUND.evidence(heads=pack_heads(heads))).valid


def test_an_unfinished_session_closed_by_its_signer_is_valid_and_says_so() -> None:
    made = retold(SOUND, heads=SOUND.heads[:1], complete=False, closer=Closer.IDENTITY)
    verdict = verify(made.evidence())
    assert verdict.valid
    assert verdict.manifest
    assert not verdict.manifest.complete
    flipped = replace(made.manifest, complete=True)
    assert not verify(SOUND.evidence(manifest=replace(made, manifest=flipped).signed_manifest())).valid
    network = made.opening.network
    kept = sign(made.manifest, made.terms.identity, network).signature
    assert not verify(made.evidence(manifest=pack(Signed(pack(flipped), kept)))).valid


def test_a_participants_consent_is_checked() -> None:
    client, opening = KeyPair.from_seed(seed("client")), SOUND.opening
    said = consent(opening.session, opening.policy, opening.started)
    signature = client.sign("consent", opening.network, said)
    consented = partial(retold, SOUND)
    assert verify(consented(participants=(Participant(Role.CLIENT, client.public, signature),)).evidence()).valid
    other = Participant(Role.OBSERVER, SOUND.terms.identity.public, signature)
    assert not verify(consented(participants=(other,)).evidence()).valid


def test_the_rendering_and_the_proofs_are_those_of_the_signed_records() -> None:
    parts = SOUND.parts()
    for name, data in [
        ("manifest.json", parts["manifest.json"].replace(b"true", b"false")),
        ("manifest.json", parts["manifest.json"].replace(b" ", b"", 1)),
        ("manifest.json", OTHER.parts()["manifest.json"]),
        ("proofs.cbor", OTHER.parts()["proofs.cbor"]),
        ("proofs.cbor", encode(None)),
        ("proofs.cbor", encode([])),
    ]:
        faults = judged(archived(parts | {name: data})).faults
        assert [fault.part for fault in faults] == [name.removesuffix(".cbor")]


def test_each_of_anothers_records_is_a_fault() -> None:
    for name in RECORDS:
        for source in (OTHER, retold(SOUND, ended=Millis(STARTED + 5), gaps=())):
            if source.parts()[name] != SOUND.parts()[name]:
                assert not judged(archived(SOUND.parts() | {name: source.parts()[name]})).valid, name


def test_the_layout_of_another_version_asks_for_a_newer_program() -> None:
    (fault,) = judged(archived(SOUND.parts() | {VERSION_NAME: b"3\n"})).faults
    assert "take a newer one" in fault.reason
    (fault,) = judged(archived(SOUND.parts() | {VERSION_NAME: b"2\n"})).faults
    assert fault.reason == "anchors.cbor is missing from the bundle"
    (fault,) = judged(archived({"readme.txt": b"hello"})).faults
    assert "lucid-bundle is missing" in fault.reason


@given(st.binary(max_size=2000), st.integers(0, 4))
def test_no_bytes_make_the_verifier_raise(data: bytes, place: int) -> None:
    assert not judged(data).valid
    fields = ("opening", "heads", "listing", "manifest", "rendered")
    assert not verify(SOUND.evidence(**{fields[place]: data})).valid


values = st.recursive(
    st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=70) | st.text(max_size=10) | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6) | st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=12,
)
Part = tuple[str, bytes]


@settings(max_examples=examples(120))
@given(st.data())
def test_no_mutation_of_a_record_makes_the_verifier_raise(data: st.DataObject) -> None:
    """Records whose canonical form is sound and whose meaning is not: a field replaced by anything of any type."""
    parts = SOUND.parts()
    name = data.draw(st.sampled_from([name for name in RECORDS if name.endswith(".cbor")]))
    value = decode(parts[name])
    signed = isinstance(value, dict) and "body" in value
    if signed:
        assert isinstance(value, dict)
        assert isinstance(value["body"], bytes)
        record: Any = decode(value["body"])
    else:
        record = value
    at = record
    while isinstance(at, (dict, list)) and at:
        key = data.draw(st.sampled_from(list(at) if isinstance(at, dict) else list(range(len(at)))))
        if data.draw(st.booleans()) or not isinstance(at[key], (dict, list)):
            at[key] = data.draw(values)
            break
        at = at[key]
    key_pair = SOUND.terms.identity if name == "opening.cbor" else SOUND.terms.ephemeral
    label = name.removesuffix(".cbor")
    changed = encode(record)
    if signed:
        signature = key_pair.sign(label, SOUND.opening.network, changed)
        changed = encode({"v": 1, "body": changed, "signature": signature})
    verdict = judged(archived(parts | {name: changed}))
    assert verdict.valid == (changed == parts[name])


@settings(max_examples=examples(100))
@given(st.data())
def test_no_damage_to_a_bundle_makes_the_verifier_raise(data: st.DataObject) -> None:
    damaged = bytearray(BUNDLE)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(damaged)))
        stop = start + data.draw(st.sampled_from([0, 1, 7, 512, 1024]))
        damaged[start:stop] = data.draw(st.binary(max_size=16) | st.sampled_from([bytes(512), BUNDLE[:512], BUNDLE]))
    assert judged(damaged).valid == (damaged == BUNDLE)


GOLDEN = Path(__file__).parents[1] / "vectors" / "session_v1"


def test_the_golden_session_of_version_1_verifies_for_ever_and_opens_to_what_was_recorded() -> None:
    facts, bundle = json.loads((GOLDEN / "session.json").read_text()), (GOLDEN / "bundle.tar").read_bytes()
    assert blake3(bundle).hexdigest() == facts["bundle"]
    verdict = judged(bundle)
    assert verdict.faults == ()
    assert verdict.opening
    assert verdict.manifest
    assert verdict.manifest.root.hex() == facts["root"]
    assert verdict.manifest.heads == facts["heads"]
    assert [chunk.name for chunk in verdict.chunks] == facts["chunks"]
    assert (verdict.opening.session.hex(), verdict.opening.identity.hex()) == (facts["session"], facts["signer"])
    held = {entry.name: entry.data for entry in entries(memoryview(bundle))}
    for stream in Stream:
        plain = stream_bytes(
            verdict.opening,
            verdict.chunks,
            stream,
            bytes.fromhex(facts["secret"]),
            lambda chunk: held[chunk_name(chunk)],
        )
        assert blake3(b"".join(plain)).hexdigest() == facts["plain"][stream.name.lower()]
