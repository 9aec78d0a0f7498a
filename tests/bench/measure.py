"""Running whole commands and saying what they cost: wall time, CPU of all their processes, peak memory of the largest."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Cost:
    """One run."""

    wall: float
    cpu: float
    rss_mb: float


def run(command: Sequence[str] | str, *, cwd: Path, environment: dict[str, str]) -> Cost:
    """Run a command (a string goes to sh) and return its cost; raises RuntimeError when it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        shell=isinstance(command, str),
        cwd=cwd,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {said[-500:].decode(errors='replace')}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def answer_of(command: Sequence[str], *, cwd: Path) -> Any:
    """What a command that measures itself prints as JSON on its last line; its stderr is ours. Raises CalledProcessError."""
    done = subprocess.run(command, check=True, cwd=cwd, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def spread(values: Sequence[float], form: str = "{:.2f}") -> str:
    """Median, minimum and maximum."""
    median, low, high = (form.format(value) for value in (statistics.median(values), min(values), max(values)))
    return f"{median} [{low} … {high}]"


def machine() -> str:
    """What this was measured on, in a line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} CPUs, {memory:.0f} GB, {system}, Python {platform.python_version()}, load {load:.2f}"


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, the first row being their heads."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
