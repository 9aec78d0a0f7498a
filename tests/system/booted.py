"""A machine of its own inside this one: systemd as first process of new namespaces, over copies of /etc and /home that vanish with it.

Nothing of the outer machine is changed: what is written goes to a tmpfs on top, its network is a loopback of its own, and
its cgroup is a fresh one. journald does not run in it, so units log to files.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SYSTEMD: Final = Path("/lib/systemd/systemd")
USER: Final = "lucid-test"
PATIENCE_S: Final = 120
_BOOT: Final = f"""
set -eu
echo $$ >"$1/cgroup.procs"
exec setpriv --pdeathsig KILL -- unshare --cgroup --ipc --mount --net --uts --pid --fork --mount-proc --kill-child sh -eu -c '
mount --make-rprivate /
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
for name in etc home var/lib/systemd; do
    mkdir -p /run/over/$name /run/work/$name
    mount -t overlay overlay -o lowerdir=/$name,upperdir=/run/over/$name,workdir=/run/work/$name /$name
done
rm -rf /etc/systemd/system && mkdir -p /etc/systemd/system /run/systemd /run/units
echo "{USER}:x:64001:64001::/home/{USER}:/bin/sh" >>/etc/passwd
echo "{USER}:x:64001:" >>/etc/group
mkdir -p /home/{USER} && chown 64001:64001 /home/{USER}
ip link set lo up
for target in sysinit basic multi-user network time-sync shutdown umount final exit; do
    printf "[Unit]\\nDefaultDependencies=no\\n" >/run/units/$target.target
done
mount --make-rshared /  # credentials are mounted in one namespace and seen in another
export container=lucid SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/units SYSTEMD_LOG_TARGET=console
exec {SYSTEMD} --system --unit=multi-user.target --show-status=no
'
"""


class Booted:
    """The machine; `pid` is its first process, seen from outside."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid, self._log = pid, log

    def enters(self, *command: str | Path) -> list[str]:
        """The command that runs another one inside, from the project's folder."""
        return ["nsenter", f"--target={self.pid}", "--all", f"--wdns={ROOT}", "--", *map(str, command)]

    def run(self, *command: str | Path, code: int = 0) -> str:
        """What a command prints inside, where it has to end with that code."""
        done = subprocess.run(
            self.enters(*command), capture_output=True, text=True, check=False, timeout=3 * PATIENCE_S
        )
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}{self.log()}"
        return done.stdout

    def lucid(self, *words: str | Path, code: int = 0) -> str:
        """The last line that lucid-node prints inside."""
        said = self.run(sys.executable, "-P", "-m", "node", *words, "--json", code=code)
        return said.splitlines()[-1]

    def show(self, unit: str) -> dict[str, str]:
        """The properties of a unit."""
        said = self.run("systemctl", "show", unit)
        return dict(line.partition("=")[::2] for line in said.splitlines())

    def until(self, holds: Callable[[], object]) -> None:
        """Return when it holds, with a deadline for machines that do other things as well."""
        end = monotonic() + 3 * PATIENCE_S
        while not holds():
            assert monotonic() < end, self.log()
            sleep(0.2)

    def log(self) -> str:
        """What the first process said, for a failure's report."""
        return self._log.read_text(errors="replace")[-4000:]


def _unified() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


@contextmanager
def booted(folder: Path) -> Iterator[Booted]:
    """A booted machine while the block runs; skips where this one cannot give it, which takes root and systemd."""
    groups = _unified()
    if os.geteuid() != 0 or groups is None or not SYSTEMD.exists() or shutil.which("nsenter") is None:
        pytest.skip("a machine within this one takes root, cgroup2, systemd and util-linux")
    group, log = groups / f"lucid-test-{os.getpid()}", folder / "console"
    group.mkdir()
    try:
        with log.open("wb") as out:
            shell = subprocess.Popen(
                ["sh", "-c", _BOOT, "boot", group], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        try:
            yield _reached(shell, log)
        finally:
            shell.send_signal(signal.SIGKILL)  # and the first process with it (--kill-child), and with that all others
            shell.wait()
    finally:
        _forget(group)


def _reached(shell: "subprocess.Popen[bytes]", log: Path) -> Booted:
    end = monotonic() + PATIENCE_S
    while monotonic() < end and shell.poll() is None:
        with suppress(OSError, IndexError):
            machine = Booted(int(Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()[0]), log)
            command = machine.enters("systemctl", "is-active", "multi-user.target")
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return machine
        sleep(0.1)
    pytest.skip(f"systemd did not start in namespaces here: {log.read_text(errors='replace')[-500:]}")


def _forget(group: Path) -> None:
    """Remove the cgroup as soon as its last process is gone."""
    end = monotonic() + PATIENCE_S
    while group.exists():
        for path, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                os.rmdir(path)
        if monotonic() > end:
            return
        sleep(0.05)
