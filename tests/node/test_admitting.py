"""The search for a proof of work: what it finds is one, a later question ends it, and it ends with the daemon."""

import threading
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
import trio
import trio.testing

from consensus.admission import DIFFICULTY_MAX, is_proof
from consensus.ids import Digest, Network, NodeId
from consensus.wishes import Prove
from node.admitting import Admitting
from node.log import EventLog
from node.overlay.agreement import ProofFound

NETWORK, ME = Network(b"n" * 32), NodeId(b"m" * 32)
AT, LATER = Digest(b"a" * 32), Digest(b"b" * 32)

pytestmark = pytest.mark.component


class Hearing:
    """A host that takes down what its machine is told."""

    def __init__(self) -> None:
        self.told, self.heard = trio.open_memory_channel[ProofFound](9)
        self.ask: Callable[[Prove], None] = lambda _: None

    def on_fact(self, kind: type, call: Callable[[Any], None]) -> None:
        assert kind is Prove
        self.ask = call

    def tell(self, order: ProofFound) -> None:
        self.told.send_nowait(order)


def searching() -> bool:
    return any(thread.name == "admission" for thread in threading.enumerate())


async def test_what_is_found_proves_the_work_that_was_asked_last() -> None:
    host: Any = Hearing()
    admitting = Admitting(host, NETWORK, ME, EventLog(out=StringIO()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(admitting.run)
        host.ask(Prove(1, AT, DIFFICULTY_MAX))
        await trio.testing.wait_all_tasks_blocked()
        assert searching()
        host.ask(Prove(2, LATER, 4))
        with trio.fail_after(180):
            found = await host.heard.receive()
        assert found.call == 2
        assert is_proof(NETWORK, ME, LATER, found.nonce, 4)
        host.ask(Prove(3, AT, DIFFICULTY_MAX))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with trio.fail_after(30):
        while searching():
            await trio.sleep(0.01)
