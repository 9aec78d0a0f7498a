"""A home's annotations: whatever is kept adds up again, strangers' words change nothing, and a failed commit said nothing."""

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.ids import Millis, SessionId
from node.sessions.annotations import OWED, ROWS_MAX, TABLE, Annotations
from node.sessions.records import held_files, held_sessions
from node.store import Delete, Held, Key, Put, Store
from node.store.index import KIND, Index
from node.store.memory import MemoryChunks, MemoryStore
from node.wallet.vault import Secrets
from pipeline.stores import NoRoom
from tests.examples import examples
from tests.node.sessions.test_records import keep
from tests.node.store.test_index import EDITS, Edit
from tests.pipeline.sessions import small

SECRETS = Secrets(b"i" * 32, b"a" * 32, (b"m" * 32,))
STRANGER = Secrets(b"i" * 32, b"a" * 32, (b"x" * 32,))
ONE, NOW = SessionId(b"1" * 32), Millis(1_700_000_000_000)


def on(store: Store, secrets: Secrets = SECRETS) -> Annotations:
    return Annotations(store, MemoryChunks(), secrets)


async def rows(store: Store, table: str = TABLE) -> list[tuple[Key, bytes]]:
    return [row async for row in store.scan(table)]


class Full(MemoryStore):
    """A store whose disk may be full."""

    full = False

    async def commit(self, ops: Sequence[Put | Delete]) -> int:
        if self.full:
            raise NoRoom("the disk is full")
        return await super().commit(ops)


@settings(max_examples=examples(50))
@given(st.lists(st.tuples(st.booleans(), EDITS), max_size=12), st.randoms())
def test_what_two_disks_say_adds_up_on_both_and_after_a_restart(edits: list[tuple[bool, Edit]], rng: object) -> None:
    """Each edits apart; both take what the other owes its log, in any order and twice, together with rubbish."""

    async def check() -> None:
        stores = MemoryStore(), MemoryStore()
        both = on(stores[0]), on(stores[1])
        for first, edit in edits:
            await both[first].edit(edit)  # type: ignore[arg-type]
        said = [[body for _, body in await rows(store, OWED)] for store in stores]
        for mine, theirs in ((0, 1), (1, 0)):
            heard = [*said[theirs], *said[theirs], KIND, b"", b"\x01other", *(body[:-1] for body in said[theirs])]
            rng.shuffle(heard)  # type: ignore[attr-defined]
            assert await both[mine].take(heard) == len(said[theirs])
            assert await both[mine].take(heard) == 0
        entries = await both[0].entries()
        assert entries == await both[1].entries()
        assert entries == await on(stores[0]).entries() == await on(stores[1]).entries()
        held = {session for session, entry in entries.items() if entry.legal_hold}
        assert await held_sessions(stores[0]) == await held_sessions(stores[1]) == held

    trio.run(check)


@given(st.binary(max_size=80), st.booleans())
def test_rubbish_and_strangers_bodies_change_no_row(junk: bytes, kind: bool) -> None:
    async def check() -> None:
        store = MemoryStore()
        annotations = on(store)
        await annotations.edit(lambda index: index.label(ONE, "mine"))
        before, known = await rows(store), await annotations.entries()
        theirs = Index(STRANGER.masters).hold(ONE, NOW, "theirs")
        assert theirs is not None
        (_, mine), *_ = before
        wrong = [KIND * kind + junk, theirs, mine[:9] + theirs[9:], mine[:-1], mine[:9] + junk]
        assert await annotations.take(wrong) == 0
        assert (await rows(store), await annotations.entries()) == (before, known)
        assert await held_sessions(store) == set()

    trio.run(check)


async def test_an_edit_that_the_disk_refuses_was_never_said() -> None:
    store = Full()
    annotations = on(store)
    await annotations.edit(lambda index: index.label(ONE, "kept"))
    store.full = True
    with pytest.raises(NoRoom):
        await annotations.edit(lambda index: index.label(ONE, "lost"), lambda index: index.hold(ONE, NOW, ""))
    store.full = False
    with pytest.raises(ValueError, match="2000 characters"):
        await annotations.edit(lambda index: index.label(ONE, "lost"), lambda index: index.note(ONE, NOW, "x" * 2001))
    assert (await annotations.entries())[ONE].label == "kept"
    assert not (await annotations.entries())[ONE].legal_hold
    await annotations.edit(lambda index: index.note(ONE, NOW, "later"))
    assert await on(store).entries() == await annotations.entries(), "nothing waits for what was never said"


async def test_the_log_is_owed_what_was_said_here_until_it_has_it() -> None:
    store, other = MemoryStore(), MemoryStore()
    annotations = on(store)
    stirred = annotations.stirred
    assert await annotations.edit(lambda index: index.label(ONE, "a"))
    assert stirred.is_set()
    assert not await annotations.edit(lambda index: index.label(ONE, "a"))
    (body,) = await annotations.owed()
    assert await on(store).owed() == [body], "after a restart as well"
    assert await on(other).take([body]) == 1
    assert await rows(other, OWED) == [], "what others said is theirs to send"
    await annotations.paid(body)
    assert await annotations.owed() == []
    assert (await on(store).entries())[ONE].label == "a"


async def test_a_log_folds_into_one_body_beside_what_is_not_the_indexs() -> None:
    annotations, other = on(MemoryStore()), on(MemoryStore())
    for number in range(20):
        await annotations.edit(lambda index, text=str(number): index.label(ONE, text))  # type: ignore[misc]
    bodies: list[bytes] = [b"\x01pointer", *await annotations.owed(), KIND + b"of a key that is not ours"]
    folded = annotations.fold(bodies)
    assert [*folded[:2]] == [bodies[0], bodies[-1]]
    assert len(folded) == 3
    assert await other.take(folded) == 1
    assert await other.entries() == await annotations.entries()
    assert on(MemoryStore()).fold(bodies) == bodies, "who has merged nothing drops nothing"


async def test_many_bodies_are_kept_as_one() -> None:
    store = MemoryStore()
    writer = on(store)
    for number in range(ROWS_MAX + 1):
        await writer.edit(lambda index, text=str(number): index.note(ONE, NOW, text))  # type: ignore[misc]
    bodies = [body for _, body in await rows(store)]
    again = on(store)
    assert await again.entries() == await writer.entries()
    assert len(await rows(store)) == 1
    assert await again.take(bodies) == 0, "they are known still"
    assert await again.edit(lambda index: index.hold(ONE, NOW, ""))
    assert (await on(store).entries())[ONE].legal_hold


async def test_a_hold_that_the_keys_cannot_read_stays_one() -> None:
    store = MemoryStore()
    await on(store).edit(lambda index: index.hold(ONE, NOW, ""))
    await on(store, STRANGER).edit(lambda index: index.label(ONE, "x"), lambda index: index.release(ONE))
    assert await held_sessions(store) == {ONE}


async def test_a_held_session_keeps_its_chunks_and_those_that_come() -> None:
    store, chunks, made = MemoryStore(), MemoryChunks(), small()
    for chunk in made.chunks:
        chunks.put(chunk.file, memoryview(made.files[chunk.file]))
    annotations = Annotations(store, chunks, SECRETS)
    await annotations.edit(lambda index: index.hold(made.opening.session, NOW, "case 7"))
    assert await held_files(store) == set()
    await keep(store, made)
    await annotations.hold()
    for chunk in made.chunks:
        with pytest.raises(Held):
            chunks.delete(chunk.file)
    await annotations.edit(lambda index: index.release(made.opening.session))
    for chunk in made.chunks:
        chunks.delete(chunk.file)
