"""A tor of our own: its torrc, its process, and what it said when it ended.

Everything it offers is a unix socket in its folder: no port that another user of this machine could use, and nothing to
collide with a tor that is there already. It dies with us, by its parent-death signal and by its own watch.
"""

import os
import re
import shutil
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from node.net.endpoints import PATH_BYTES_MAX
from node.tor.interface import ManagedTor
from pipeline.child import Child, child

OWN_TORRC_ONLY: Final = ("--defaults-torrc", "/nonexistent", "--ignore-missing-torrc")
"""Keeps the distribution's defaults out."""

_TORRC: Final = """\
DataDirectory "{folder}/data"
ControlPort unix:"{folder}/control"
CookieAuthentication 1
SocksPort unix:"{folder}/socks" IsolateSOCKSAuth ExtendedErrors OnionTrafficOnly
ClientOnly 1
Log notice stdout
SafeLogging 1
RunAsDaemon 0
DormantCanceledByStartup 1
__OwningControllerProcess {owner}
"""

_STAMP: Final = re.compile(r"^\w+ \d+ [\d:.]+ \[\w+\] ")


class NoTorProcess(Exception):
    """Our tor could not be started, or ended; the message has what it said last and where the rest is."""


class TorProcess:
    """The process of a managed tor, started again as often as need be; ended with the exit stack it was given."""

    def __init__(self, mode: ManagedTor, until: AsyncExitStack) -> None:
        self._mode = mode
        self._folder = mode.folder.absolute()
        self._own = AsyncExitStack()
        self._child: Child | None = None
        self.control = self._folder / "control"
        self.socks = self._folder / "socks"
        until.push_async_callback(self._end)

    @property
    def pid(self) -> int | None:
        """Of the process that runs, if one does."""
        return self._child.pid if self._child is not None and self._child.process.poll() is None else None

    async def ensure_running(self) -> str:
        """Starts it unless it runs; what the one before said last, empty if there was none. Raises NoTorProcess."""
        if self.pid is not None:
            return ""
        said = self._last_words() if self._child is not None else ""
        await self._end()
        self._prepare()
        command = ["tor", *OWN_TORRC_ONLY, "-f", str(self._folder / "torrc")]
        # What is wrong with a torrc is told before any log file is open, so tor's output is the log.
        with Path(self._folder / "log").open("wb") as log:
            self._child = await self._own.enter_async_context(child(command, stdout=log.fileno()))
        return said

    def kill(self) -> None:
        """Ends it at once, even when it is frozen."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    async def _end(self) -> None:
        await self._own.aclose()
        self._child = None

    def _prepare(self) -> None:
        for program, package in (("tor", "tor"), ("setpriv", "util-linux")):
            if shutil.which(program) is None:
                raise NoTorProcess(f"{program} is not installed: apt-get install {package}")
        if len(bytes(self.control)) > PATH_BYTES_MAX:
            raise NoTorProcess(f"{self._folder} is too long a path for tor's sockets: use a folder with a shorter one")
        if re.search(r'["\\\n]', str(self._folder)):
            raise NoTorProcess(f"{self._folder} has a quote in it, which a torrc cannot name: use another folder")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        torrc = _TORRC.format(folder=self._folder, owner=os.getpid()) + self._mode.network
        Path(self._folder / "torrc").write_text(torrc)
        # Of a tor that was killed: it would be connected to, in vain.
        self.control.unlink(missing_ok=True)

    def _last_words(self) -> str:
        log = self._folder / "log"
        try:
            lines = log.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        told = [line for line in lines if "[err]" in line or "[warn]" in line] or lines
        return f"{'; '.join(_STAMP.sub('', line) for line in told[-3:]) or 'it said nothing'} (see {log})"
