"""What the replication machine asks of its host, at the edges of the custodian's life."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from consensus.ids import Digest, Millis, NodeId
from node.net.host import Host
from node.net.swarm import Swarm
from node.overlay.custody import Discard, Fetch, Fetched
from node.overlay.inventory import Inventory
from node.sessions.holding import PACE, QUIET_S, Custodian
from node.store.replicas import ReplicaFiles

ROOT = Digest(bytes(32))


class Told:
    """A host that keeps what it is told, with a clock that the test's is."""

    def __init__(self) -> None:
        self.facts: dict[type, Any] = {}
        self.on_fact = self.facts.__setitem__
        self.heard: list[tuple[float, object]] = []
        self.clock = SimpleNamespace(now=lambda: int(trio.current_time() * 1000))

    def tell(self, order: object) -> None:
        self.heard.append((trio.current_time(), order))


async def fetched(
    monkeypatch: pytest.MonkeyPatch, folder: Path, pauses: list[tuple[float, int]]
) -> tuple[float, Fetched]:
    """When the host of a fetch from a peer that lets so many seconds pass before so many bytes was told, and what."""

    async def fetch(*args: Any) -> None:
        put, at = args[-1], 0
        for seconds, count in pauses:
            await trio.sleep(seconds)
            await put(at, bytes(count))
            at += count

    async def at_once(work: Callable[..., Any], *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr("node.sessions.holding.fetch", fetch)
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)  # the clock jumps while a thread works
    host, began = Told(), trio.current_time()
    swarm = cast("Swarm", SimpleNamespace(serve_streams=lambda *_: None))
    files = ReplicaFiles(folder)
    custodian = Custodian(cast("Host", host), cast("Inventory", None), swarm, files, lambda *_: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(custodian.run)
        until = Millis(host.clock.now() + 7_200_000)
        host.facts[Fetch](Fetch(1, NodeId(bytes(32)), ROOT, 0, ROOT, sum(count for _, count in pauses), until))
        while not host.heard:
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    ((at, answer),) = host.heard
    assert isinstance(answer, Fetched)
    return at - began, answer


@pytest.mark.parametrize(
    ("pauses", "least", "most"),
    [
        ([(7000, 1)], QUIET_S, QUIET_S + 1),  # it says nothing
        ([(0, 1 << 20), (7000, 1)], QUIET_S, QUIET_S + 1),  # it was quick, and says nothing more
        ([(60, 100)] * 1000, QUIET_S, QUIET_S + 2),  # it drips, which earns next to nothing
        ([(30, 2048 * 30)] * 120, 3600, 3601),  # a slow onion
        ([(290, 300 * PACE)] * 12, 3480, 3481),  # an onion that comes and goes
        ([(290, 300 * PACE)] * 30, 7200, 7201),  # the end of its time
    ],
)
async def test_a_peer_that_offered_and_does_not_serve_keeps_its_place_for_minutes_and_a_slow_one_for_its_time(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
    pauses: list[tuple[float, int]],
    least: float,
    most: float,
) -> None:
    took, answer = await fetched(monkeypatch, tmp_path, pauses)
    assert least <= took <= most
    assert answer.ref == 1


async def test_an_order_released_by_the_last_commit_is_let_go_and_left_to_the_sweep(tmp_path: Path) -> None:
    facts: dict[type, Any] = {}
    host = cast("Host", SimpleNamespace(on_fact=facts.__setitem__))
    swarm = cast("Swarm", SimpleNamespace(serve_streams=lambda *_: None))
    inventory = cast("Inventory", SimpleNamespace(roots=frozenset))
    files = ReplicaFiles(tmp_path)
    files.append(ROOT, 0, b"held")
    custodian = Custodian(host, inventory, swarm, files, lambda *_: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(custodian.run)
        nursery.cancel_scope.cancel()
    facts[Discard](Discard(ROOT, ROOT))
    await trio.testing.wait_all_tasks_blocked()
    assert files.arrived(ROOT) == 4
    assert await custodian.sweep() == 1
    assert files.arrived(ROOT) == 0
