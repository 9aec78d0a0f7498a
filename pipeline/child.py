"""Child processes that never outlive us, not even when we are killed.

Linux sends a child its parent-death signal when the *thread* that forked it ends, not the process. trio's own
`open_process` forks in a worker thread which ends after ten idle seconds and would take the child with it, so children
are started here, inline, by the thread that runs trio (a fork takes 1-3 ms). util-linux' `setpriv` arms the signal and
then becomes the program, so the pid is the program's own and no Python code runs between fork and exec.
"""

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

GRACE_S: Final = 2.0
"""How long a child may take to end by itself before it is killed."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running process of ours; `pidfd` becomes readable when it ends."""

    process: "subprocess.Popen[bytes]"
    pidfd: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a child that is already gone takes no notice."""
        self.process.send_signal(number)

    async def wait(self) -> int:
        """The exit status, negative for the signal that killed it; for one waiting task at a time."""
        if self.process.returncode is None:
            await trio.lowlevel.wait_readable(self.pidfd)
        return self.process.wait()


@asynccontextmanager
async def child(
    command: Sequence[str],
    *,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    ending: signal.Signals = signal.SIGKILL,
) -> AsyncIterator[Child]:
    """The command, running in a session of its own (a terminal's ctrl-C is ours to translate) until the context is left.

    It gets `ending` on the way out and when we die, SIGKILL GRACE_S later, and is reaped. Raises FileNotFoundError when
    `setpriv` is missing; a missing program shows as status 127.
    """
    process = subprocess.Popen(  # noqa: ASYNC220 - forked by this thread on purpose, see above
        ["setpriv", "--pdeathsig", ending.name.removeprefix("SIG"), "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        start_new_session=True,
    )
    running = Child(process, os.pidfd_open(process.pid))
    try:
        yield running
    finally:
        with trio.CancelScope(shield=True):
            running.signal(ending)
            with trio.move_on_after(GRACE_S):
                await running.wait()
            running.signal(signal.SIGKILL)
            await running.wait()
        os.close(running.pidfd)
