"""A real browser for pages: WebKitGTK on a display of its own, driven by WebDriver (W3C). Debian and Ubuntu both have it."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from pipeline.child import child
from pipeline.desktop import virtual_display

SIZE: Final = (1_200, 1_600)
START_S: Final = 30
_SETTINGS: Final = {
    "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1",  # it runs as root, in places without user namespaces
    "WEBKIT_DISABLE_COMPOSITING_MODE": "1",  # there is no graphics processor
    "GSETTINGS_BACKEND": "memory",
    "NO_AT_BRIDGE": "1",
}


class Browser:
    """A session of it."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._session = ""

    async def open(self, program: Path) -> None:
        """Start the browser itself, as soon as its driver listens."""
        wanted = {
            "browserName": "MiniBrowser",
            "webkitgtk:browserOptions": {"binary": str(program), "args": ["--automation"]},
        }
        with trio.fail_after(START_S):
            while not self._session:
                try:
                    made = await self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
                    self._session = f"/session/{made['sessionId']}"
                except (urllib.error.URLError, ConnectionError):
                    await trio.sleep(0.1)

    async def close(self) -> None:
        """End the session."""
        await self._ask("DELETE", self._session)

    async def show(self, page: Path) -> None:
        """Show a file."""
        await self._ask("POST", f"{self._session}/url", {"url": page.as_uri()})

    async def run(self, script: str) -> Any:
        """What a script of the page's returns."""
        return await self._ask("POST", f"{self._session}/execute/sync", {"script": script, "args": []})

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, method=method, data=data, headers={"content-type": "application/json"}
        )

        def ask() -> Any:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())["value"]

        return await trio.to_thread.run_sync(ask)


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser that ends with the block."""
    (program,) = Path("/usr/lib").glob("*/webkit2gtk-4.1/MiniBrowser")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with virtual_display(*SIZE) as name:
        settings = [f"{key}={value}" for key, value in {**_SETTINGS, "DISPLAY": name}.items()]
        async with child(["env", *settings, "WebKitWebDriver", f"--port={port}", "--host=127.0.0.1"]):
            made = Browser(port)
            await made.open(program)
            try:
                yield made
            finally:
                with trio.CancelScope(shield=True), trio.move_on_after(10):
                    await made.close()
