"""What the replication machine asks of its host, at the edges of the custodian's life."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import trio
import trio.testing

from consensus.ids import Digest
from node.net.host import Host
from node.net.swarm import Swarm
from node.overlay.custody import Discard
from node.overlay.inventory import Inventory
from node.sessions.holding import Custodian
from node.store.replicas import ReplicaFiles

ROOT = Digest(bytes(32))


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
