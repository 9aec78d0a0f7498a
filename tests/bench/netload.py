"""The messages of the gossip bench, the same for all that take part, and what every node of a bench says of itself."""

import json
import os
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import trio

TOPIC: Final = "bench"
MESSAGE_BYTES: Final = 200
HEAD: Final = struct.Struct("!dI")
"""When it was published, on CLOCK_MONOTONIC, and its number."""
DEGREE, DEGREE_LOW, DEGREE_HIGH, HEARTBEAT_S = 6, 4, 12, 1


def filled(number: int) -> bytes:
    """A message, published now."""
    return HEAD.pack(time.monotonic(), number) + os.urandom(MESSAGE_BYTES - HEAD.size)


async def on_time(plan: Sequence[tuple[int, float]], publish: Callable[[bytes], Awaitable[None]]) -> None:
    """Publish messages of these numbers, each at its time."""
    for number, at in plan:
        await trio.sleep(max(0.0, at - time.monotonic()))
        await publish(filled(number))


async def obey(node: object) -> None:
    """Answer requests, each by the node's method of its name, until stdin ends."""
    rest, requests = b"", trio.lowlevel.FdStream(os.dup(0))
    async for data in requests:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            say(await getattr(node, request["do"])(request))


def say(answer: object) -> None:
    """A line on stdout."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def resident_mb() -> float:
    """Of this process, now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
