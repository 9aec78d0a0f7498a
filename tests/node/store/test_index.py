"""The owner's index: devices agree whatever order bodies come in, a hold outlives a release that did not know it, and strangers get nothing in."""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import cbor2
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt
from pycrdt import Doc, Map

from consensus.encoding import Malformed, Value
from consensus.ids import Millis, NodeId, SessionId
from node.store.index import DOSSIER_BYTES_MAX, Index, IndexEntry, Remark
from tests.examples import examples
from tests.vectors.stored import vector

MASTERS = (b"a" * 32, b"b" * 32)
ONE, TWO = SessionId(b"1" * 32), SessionId(b"2" * 32)
NOW = Millis(1_700_000_000_000)


def device(number: int, masters: tuple[bytes, ...] = MASTERS) -> Index:
    """A device whose every choice follows from its number."""
    drawn = iter(range(1 << 16))
    return Index(masters, number + 1, lambda: bytes([number]) + next(drawn).to_bytes(2, "big"))


Edit = Callable[[Index], bytes | None]
TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=8)
SESSIONS = st.sampled_from([ONE, TWO])
MOMENTS = st.integers(0, 1 << 52).map(Millis)


def edit(name: str, *arguments: Any) -> Edit:
    return lambda index: getattr(index, name)(*arguments)


EDITS: st.SearchStrategy[Edit] = st.one_of(
    st.builds(edit, st.just("label"), SESSIONS, TEXTS | st.just("")),
    st.builds(edit, st.just("start"), SESSIONS, MOMENTS, st.none() | st.binary(max_size=64)),
    st.builds(edit, st.just("note"), SESSIONS, MOMENTS, TEXTS),
    st.builds(edit, st.just("hold"), SESSIONS, MOMENTS, TEXTS),
    st.builds(edit, st.just("release"), SESSIONS),
)


@given(st.data())
def test_devices_agree_whatever_order_bodies_come_in_however_often(data: st.DataObject) -> None:
    """Three devices edit, and hear of each other now and then; in the end each has everything, in an order of its own."""
    devices = [device(number) for number in range(3)]
    bodies: list[bytes] = []
    for _ in range(data.draw(st.integers(1, 12))):
        index = data.draw(st.sampled_from(devices))
        hears: bool = data.draw(st.booleans())
        if bodies and hears:
            other = data.draw(st.sampled_from(devices))
            assert index.take(other.whole() if data.draw(st.booleans()) else data.draw(st.sampled_from(bodies)))
        elif (body := data.draw(EDITS)(index)) is not None:
            bodies.append(body)
    readers = [*devices, device(7)]
    for index in readers:
        for body in [*data.draw(st.permutations(bodies)), *bodies[:2]]:
            index.take(body)
    known = [(index.entries(), index.waiting) for index in readers]
    assert known[1:] == known[:-1]
    assert known[0][1] == 0
    late = device(8)
    assert late.take(devices[0].whole())
    assert late.entries() == devices[0].entries()
    if (body := data.draw(EDITS)(late)) is not None:  # who knows the whole alone builds on it, and is understood
        assert devices[0].take(body)
        assert (devices[0].entries(), devices[0].waiting) == (late.entries(), 0)


def join(*wholes: bytes) -> Index:
    index = device(9)
    for whole in wholes:
        assert index.take(whole)
    return index


@settings(max_examples=examples(50))
@given(st.lists(st.lists(EDITS, max_size=5), min_size=3, max_size=3))
def test_merging_is_commutative_associative_and_idempotent(edits: list[list[Edit]]) -> None:
    devices = [device(number) for number in range(3)]
    for index, changes in zip(devices, edits, strict=True):
        for change in changes:
            change(index)
    first, second, third = [index.whole() for index in devices]
    known = join(first, second).entries()
    assert join(second, first).entries() == known
    assert join(join(first, second).whole(), third).entries() == join(first, join(second, third).whole()).entries()
    assert join(first, first).entries() == join(first, join(first).whole()).entries() == devices[0].entries()


@given(st.lists(EDITS, max_size=10))
def test_one_device_knows_what_it_said(edits: list[Edit]) -> None:
    """Bodies alone tell a reader what the writer knows, and an edit without a body changed nothing."""
    writer, reader = device(0), device(1)
    for change in edits:
        before = writer.entries()
        body = change(writer)
        if body is None:
            assert writer.entries() == before
        else:
            reader.take(body)
        assert reader.entries() == writer.entries()


def test_an_entry_has_all_that_was_said_of_a_session() -> None:
    index = device(0)
    assert index.entries() == {}
    index.start(ONE, NOW, b"place")
    index.label(ONE, "émigré")
    index.note(ONE, Millis(NOW + 2), "second")
    index.note(ONE, Millis(NOW + 1), "first")
    index.hold(ONE, NOW, "case 7")
    notes = (Remark(Millis(NOW + 1), "first"), Remark(Millis(NOW + 2), "second"))
    assert index.entries() == {ONE: IndexEntry(ONE, "émigré", NOW, b"place", notes, (Remark(NOW, "case 7"),))}
    assert index.entries()[ONE].legal_hold
    index.release(ONE)
    index.label(ONE, "")
    assert index.entries() == {ONE: IndexEntry(ONE, "", NOW, b"place", notes)}


def test_a_hold_outlives_a_release_that_did_not_know_of_it() -> None:
    first, second = device(0), device(1)
    old = first.hold(ONE, NOW, "old")
    assert old is not None
    second.take(old)
    release, new = second.release(ONE), first.hold(ONE, NOW, "new")
    assert release is not None
    assert new is not None
    first.take(release)
    second.take(new)
    assert first.entries() == second.entries() == {ONE: IndexEntry(ONE, holds=(Remark(NOW, "new"),))}


def test_concurrent_first_words_about_a_session_are_all_kept() -> None:
    first, second = device(0), device(1)
    bodies = [first.label(ONE, "label"), second.note(ONE, NOW, "note"), second.start(ONE, NOW)]
    for body in bodies:
        assert body is not None
        first.take(body)
        second.take(body)
    assert first.entries() == second.entries() == {ONE: IndexEntry(ONE, "label", NOW, None, (Remark(NOW, "note"),))}


def test_a_body_waits_for_what_it_builds_on() -> None:
    """The order that loses a key where updates are handed to yrs as they come (y-crdt #413)."""
    writer, reader = device(0), device(1)
    bodies = [writer.label(ONE, "a"), writer.label(ONE, "b"), writer.label(TWO, "c")]
    for body, waiting in ((bodies[1], 1), (bodies[2], 2), (bodies[0], 0)):
        assert body is not None
        assert reader.take(body)
        assert reader.waiting == waiting
    assert reader.entries() == writer.entries() == {ONE: IndexEntry(ONE, "b"), TWO: IndexEntry(TWO, "c")}


def body_of_length() -> bytes:
    body = device(0).label(ONE, "secret label")
    assert body is not None
    return body


@given(st.integers(0, len(body_of_length()) - 1), st.integers(1, 255), st.booleans())
def test_a_changed_or_cut_body_never_reaches_pycrdt(at: int, change: int, cut: bool) -> None:
    body = bytearray(body_of_length())
    if cut:
        del body[at:]
    else:
        body[at] ^= change
    index = device(1)
    index._doc = None  # type: ignore[assignment] # whatever reached it would raise AttributeError
    try:
        assert not index.take(bytes(body))
        assert at < 9  # another kind, or the name of another key
    except Malformed:
        pass


@given(st.binary(max_size=80))
def test_a_strangers_body_is_refused(junk: bytes) -> None:
    index, body = device(1), body_of_length()
    theirs = device(0, (b"x" * 32,)).label(ONE, "theirs")
    assert theirs is not None
    assert not index.take(theirs), "sealed under a key that is not ours"
    with pytest.raises(Malformed):
        index.take(body[:9] + theirs[9:])  # under the name of one of ours
    with pytest.raises(Malformed):
        index.take(body[:9] + junk)
    assert index.entries() == {}


def test_a_sealed_body_says_nothing_in_the_clear_and_opens_after_a_rotation() -> None:
    old = device(0, MASTERS[:1]).label(ONE, "secret label")
    assert old is not None
    assert old.find(b"secret") < 0
    assert old.find(ONE.hex().encode()) < 0
    rotated = device(1, MASTERS)
    assert rotated.take(old)
    new = rotated.label(TWO, "later")
    assert new is not None
    assert not device(2, MASTERS[:1]).take(new), "who copied the keys before the rotation reads nothing of it"
    assert rotated.entries().keys() == {ONE, TWO}


def test_the_same_edit_twice_says_nothing_the_second_time() -> None:
    index = device(0)
    assert index.label(ONE, "x") is not None
    assert index.label(ONE, "x") is None
    assert index.start(ONE, NOW, b"d") is not None
    assert index.start(ONE, NOW) is None
    assert index.release(ONE) is None
    assert index.label(TWO, "") is None


def test_texts_and_places_have_bounds() -> None:
    index = device(0)
    for wrong in ("x" * 2001, "bell \a", "\x1b[2J"):
        with pytest.raises(ValueError):
            index.label(ONE, wrong)
        with pytest.raises(ValueError):
            index.note(ONE, NOW, wrong)
    with pytest.raises(ValueError):
        index.note(ONE, NOW, "")
    with pytest.raises(ValueError):
        index.start(ONE, NOW, bytes(DOSSIER_BYTES_MAX + 1))
    assert index.entries() == {}
    assert index.start(ONE, NOW, bytes(DOSSIER_BYTES_MAX)) is not None
    assert index.note(ONE, NOW, "two\nlines") is not None


def test_devices_are_listed_in_the_order_they_were_added() -> None:
    index, later = device(0), NodeId(b"\x00" * 32)
    index.add_device(NodeId(b"\xff" * 32), NOW, "desk")
    index.add_device(later, Millis(NOW + 1), "laptop", b"offer")
    assert index.devices() == [(NOW, NodeId(b"\xff" * 32), "desk", b""), (NOW + 1, later, "laptop", b"offer")]


def test_what_a_newer_program_wrote_differently_is_left_out() -> None:
    index = device(0)
    rows: list[tuple[str, str, Value]] = [
        ("labels", ONE.hex(), 7),
        ("labels", "zz", "x"),
        ("labels", f"{ONE.hex()}/00", "x"),
        ("started", ONE.hex(), "soon"),
        ("notes", ONE.hex(), [1, "x"]),
        ("notes", f"{ONE.hex()}/00", ["x"]),
        ("devices", ONE.hex(), "x"),
    ]
    for root, key, value in rows:
        assert index._set(root, key, value) is not None
    index._roots["labels"][TWO.hex()] = b"\xff"
    index.label(TWO, "known")
    assert index.entries() == {TWO: IndexEntry(TWO, "known")}
    assert index.devices() == []


def test_bodies_of_the_first_release_open_and_add_up() -> None:
    stored = vector("index_v1")
    masters = [bytes.fromhex(master) for master in stored["masters"]]
    bodies = [bytes.fromhex(body) for body in stored["bodies"]]
    index = Index(masters)
    assert all(map(index.take, bodies))
    told = [
        asdict(entry) | {"session": entry.session.hex(), "dossier": (entry.dossier or b"").hex()}
        for entry in index.entries().values()
    ]
    assert json.loads(json.dumps(told)) == stored["entries"]
    assert {device.node.hex(): device.name for device in index.devices()} == stored["devices"]


def test_a_body_is_what_its_format_says_by_libsodium_and_rfc_5869() -> None:
    stored = vector("index_v1")
    label, keys = b"lucid/index/v1", {}
    for master in map(bytes.fromhex, stored["masters"]):
        prk = hmac.new(label, master, hashlib.blake2b).digest()
        first = hmac.new(prk, label + b"\1", hashlib.blake2b).digest()
        whole = first + hmac.new(prk, first + label + b"\2", hashlib.blake2b).digest()
        keys[whole[:8]] = whole[8:40], whole[40:72]
    plains, merged, doc = [], set[bytes](), Doc[Map[bytes]]()
    for body in map(bytes.fromhex, stored["bodies"]):
        head, nonce, sealed = body[:9], body[9:33], body[33:]
        key, nonce_key = keys[head[1:]]
        plain = crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, label + head, nonce, key)
        assert (head[:1], nonce) == (b"\x02", blake3(plain, key=nonce_key).digest(length=24))
        plains.append(cbor2.loads(plain))
    names = [blake3(bytes.fromhex(body)).digest(length=8) for body in stored["bodies"]]
    for name, (heads, covers, update) in reversed([*zip(names, plains, strict=True)]):  # as they were written
        assert merged.issuperset(heads)
        assert covers is None
        doc.apply_update(update)
        merged.add(name)
    labels = doc.get("labels", type=Map).to_py()
    assert labels is not None
    assert {bytes.fromhex(name): cbor2.loads(value) for name, value in labels.items()} == {
        bytes.fromhex(entry["session"]): entry["label"] for entry in stored["entries"] if entry["label"]
    }
