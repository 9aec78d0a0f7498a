"""What lies with strangers: it comes back whole to who has the keys, and to nobody else, and no changed byte goes unseen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Malformed, encode
from consensus.ids import Digest, SessionId
from node.sessions import dossier
from node.sessions.indexlog import SNAPSHOT, taken_apart
from node.sessions.placement import Placement
from node.sessions.pointer import read_pointer, write_pointer
from node.sessions.records import Kept, load_one
from node.store.memory import MemoryStore
from node.wallet.vault import Secrets
from tests.node.sessions.test_records import keep
from tests.pipeline.sessions import small

SECRETS = Secrets(bytes(32), bytes(range(32)), (b"a" * 32, b"b" * 32))
SESSION = SessionId(b"s" * 32)
PLACED = Placement(
    SESSION, 1, Digest(b"c" * 32), 4096, 7, Digest(b"d" * 32), tuple(Digest(bytes([j]) * 32) for j in range(3))
)


async def kept() -> tuple[Kept, SessionId]:
    store, made = MemoryStore(), small()
    await keep(store, made)
    found = await load_one(store, made.opening.session)
    assert found is not None
    return found, made.opening.session


async def test_a_dossier_gives_another_store_all_records_of_a_session() -> None:
    records, session = await kept()
    data = dossier.seal(records, (PLACED,), session, b"k" * 32)
    assert dossier.seal(records, (PLACED,), session, b"k" * 32) == data, "the same records seal the same way"
    store = MemoryStore()
    await store.commit(dossier.rows(dossier.unseal(data, session, b"k" * 32), session))
    assert await load_one(store, session) == records
    assert {key async for key, _ in store.scan("files")} == {(chunk.file,) for chunk in records.chunks}
    assert [key async for key, _ in store.scan("placements")] == [(PLACED.chunk,)]


async def test_a_dossier_opens_for_its_session_and_its_key_alone() -> None:
    records, session = await kept()
    data = dossier.seal(records, (), session, b"k" * 32)
    key = b"k" * 32
    others = [(data, SESSION, key), (data, session, b"K" * 32), (b"\2" + data[1:], session, key)]
    others += [(data[:20], session, key), (data[:-1], session, key), (b"", session, key)]
    for changed, of, under in others:
        with pytest.raises(Malformed):
            dossier.unseal(changed, of, under)


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_pointer_is_read_by_its_owner_alone_and_every_changed_byte_is_seen(at: int, change: int) -> None:
    body = bytearray(write_pointer(PLACED, SECRETS))
    assert read_pointer(bytes(body), SECRETS) == PLACED
    with pytest.raises(Malformed):
        read_pointer(bytes(body), Secrets(bytes(32), bytes(32), (b"x" * 32, b"y" * 32)))
    body[at % len(body)] ^= change
    try:
        assert read_pointer(bytes(body), SECRETS) is None  # now of another kind, or of a key that is not here
        assert at % len(body) < 5
    except Malformed:
        pass


def test_a_pointer_under_a_newer_key_than_this_vault_holds_is_left_alone() -> None:
    assert read_pointer(write_pointer(PLACED, SECRETS), Secrets(bytes(32), bytes(range(32)), (b"a" * 32,))) is None


@given(st.lists(st.binary(min_size=1, max_size=8)))
def test_a_snapshot_is_taken_apart_into_what_went_in(bodies: list[bytes]) -> None:
    assert taken_apart(SNAPSHOT + encode(list(bodies))) == bodies
    assert taken_apart(SNAPSHOT + b"\xff") == []
    assert taken_apart(b"\x01rest") == [b"\x01rest"]
