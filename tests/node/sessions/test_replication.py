"""When a sealed chunk is placed, and by which slot and seed: after its commitment if that comes in time, else without."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from blake3 import blake3

from consensus.ids import Digest, Millis, NodeId, SessionId
from consensus.placement import REVEALED
from consensus.storage import StoredChunk
from node.overlay.custody import Place, Untimely
from node.sessions.placement import UNDRAWN, Placement
from node.sessions.replication import PATIENCE_SLOTS, Replication
from node.store.files import ChunkFiles
from node.store.memory import MemoryStore
from node.timeline import Timeline
from node.wallet.vault import Secrets
from tests.consensus.worlds import named

pytestmark = pytest.mark.component

SESSION: Final = SessionId(named(3))
SLOT_MS: Final = 1_000
NOW: Final = 100
SECRETS: Final = Secrets.generate()
DATA: Final = b"sealed" * 5_000
CHUNK: Final = Digest(blake3(DATA).digest())


class Scene:
    """A chain that tells what a test wants, a host that writes down what it is told, and a disk with one chunk."""

    def __init__(self, folder: Path) -> None:
        self.slot, self.follows_us = NOW, True
        self.forgotten: set[int] = set()
        self.chain: dict[Digest, StoredChunk] = {}
        self.told: list[Place] = []
        self.rooted: list[SessionId] = []
        self.clock, self.store, self.chunks = self, MemoryStore(), ChunkFiles(folder)
        self.chunks.put(CHUNK, memoryview(DATA))
        self.replication = self.begun()

    def begun(self) -> Replication:
        made = Replication(self, self, self.store, self.chunks, SECRETS, Timeline(Millis(0), SLOT_MS, 4, 3), self)  # type: ignore[arg-type]
        made.on_rooted = self.rooted.append
        return made

    # the host
    def now(self) -> Millis:
        return Millis(self.slot * SLOT_MS)

    def tell(self, order: Place) -> None:
        self.told.append(order)

    def on_fact(self, kind: type, hear: Callable[[Any], None]) -> None:
        assert kind is Untimely
        self.hear = hear

    # the inventory
    def deposit(self, chunk: Digest) -> None:
        del chunk

    def holders(self, chunk: Digest) -> tuple[NodeId, ...]:
        del chunk
        return ()

    # the chain
    def seed_at(self, slot: int) -> Digest | None:
        return named(slot) if slot < self.slot and slot not in self.forgotten else None

    def committed(self, session: SessionId, chunk: Digest) -> StoredChunk | None:
        assert session == SESSION
        return self.chain.get(chunk)

    def commit(self, slot: int, seed: bytes = b"") -> None:
        self.chain[CHUNK] = StoredChunk(CHUNK, len(DATA), named(0), slot, seed, ())

    async def draw(self, slot: int) -> list[tuple[int, Digest]]:
        """What was placed, once it is that slot."""
        self.slot = slot
        for chunk in [*self.replication._undrawn]:
            await self.replication._draw(chunk)
        return [(one.opened, one.seed) for one in self.told]

    @property
    def placement(self) -> Placement:
        found = self.replication.placement(CHUNK)
        assert found is not None
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def placed(scene: Scene, patience: int = PATIENCE_SLOTS) -> None:
    await scene.replication.place(SESSION, 0, CHUNK, patience)


async def test_a_chunk_is_placed_by_the_slot_of_its_commitment_once_the_seed_after_it_is_settled(scene: Scene) -> None:
    await placed(scene)
    assert scene.rooted == [SESSION]  # so that it can be committed to
    assert (scene.placement.is_drawn, scene.replication.drawn(CHUNK), len(scene.placement.roots)) == (False, None, 3)
    scene.commit(NOW + 2)
    assert await scene.draw(NOW + 4) == []
    scene.commit(NOW + 2, named(55))
    assert await scene.draw(NOW + 2 + REVEALED) == []  # it may still become another block
    assert await scene.draw(NOW + 3 + REVEALED) == [(NOW + 2, named(55))]
    assert scene.replication.drawn(CHUNK) == scene.placement
    assert await scene.draw(NOW + 30) == [(NOW + 2, named(55))]


async def test_one_that_is_not_committed_to_is_placed_when_it_has_waited_long_enough(scene: Scene) -> None:
    await placed(scene)
    assert await scene.draw(NOW + PATIENCE_SLOTS - 1) == []
    assert await scene.draw(NOW + PATIENCE_SLOTS) == [(NOW, named(NOW + REVEALED))]


@pytest.mark.parametrize("patience", [0, PATIENCE_SLOTS])
async def test_what_will_not_be_followed_waits_for_its_seed_alone(scene: Scene, patience: int) -> None:
    scene.follows_us = patience == 0
    await placed(scene, patience)
    assert await scene.draw(NOW + REVEALED) == []
    assert await scene.draw(NOW + REVEALED + 1) == [(NOW, named(NOW + REVEALED))]


async def test_a_seed_that_is_forgotten_has_the_chunk_wait_for_another_one(scene: Scene) -> None:
    await placed(scene, 0)
    scene.forgotten = {NOW + REVEALED}
    assert await scene.draw(NOW + 50) == []
    assert (scene.placement.opened, scene.placement.seed) == (NOW + 50, UNDRAWN)
    assert await scene.draw(NOW + 51 + REVEALED) == [(NOW + 50, named(NOW + 50 + REVEALED))]


async def test_a_restart_goes_on_waiting_and_tells_of_what_was_drawn(scene: Scene) -> None:
    await placed(scene)
    scene.replication = scene.begun()
    await scene.replication.load()
    scene.replication.resume()
    assert scene.told == []
    scene.commit(NOW + 1, named(7))
    assert await scene.draw(NOW + 9) == [(NOW + 1, named(7))]
    scene.replication = scene.begun()
    await scene.replication.load()
    scene.replication.resume()
    assert [one.seed for one in scene.told] == [named(7)] * 2
    assert scene.replication._undrawn == {}


async def test_what_nobody_took_is_drawn_anew_and_its_old_commitment_draws_nothing(scene: Scene) -> None:
    await placed(scene)
    scene.commit(NOW + 1, named(7))
    await scene.draw(NOW + 9)
    scene.slot = NOW + 99
    await scene.replication._reopen(CHUNK)
    assert not scene.placement.is_drawn
    assert (await scene.draw(NOW + 100 + REVEALED))[1:] == [(NOW + 99, named(NOW + 99 + REVEALED))]
    await scene.replication._reopen(Digest(named(1)))
    scene.chunks.path(CHUNK).unlink()
    scene.slot += 50
    await scene.replication._reopen(CHUNK)
    assert scene.placement.is_drawn, "it may be held after all"


async def test_a_file_that_is_not_here_is_not_placed(scene: Scene) -> None:
    await scene.replication.place(SESSION, 0, Digest(named(5)))
    assert scene.replication.placement(Digest(named(5))) is None
    assert scene.rooted == []


async def test_it_looks_again_each_slot_while_something_waits(scene: Scene) -> None:
    await placed(scene, 0)
    scene.slot = NOW + 9
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.replication.run)
            while not scene.told:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert scene.told[0].seed == named(NOW + REVEALED)
