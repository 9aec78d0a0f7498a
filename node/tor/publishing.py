"""Making an onion known: ADD_ONION, and waiting until enough directories hold its descriptor.

Not all at once: some twenty publications side by side make tor distrust its guards ("failing an extremely large amount of
circuits") and nothing is published for minutes; ten at a time publish fifty onions in eleven seconds. Not after the first
upload: a third of the dials that follow it ask another directory, and find nothing. Nor after the fourth: an onion has two
descriptors, of this period and a neighbour, and uploads of both come in any order. tor announces all uploads of a descriptor
before the first is answered, so it waits for an answer to each.
"""

from collections.abc import Mapping
from typing import Final

import trio

from node.net.endpoints import Endpoint
from node.tor.control import COLLISION, TorClosed, TorControl, TorRefusal
from node.tor.interface import OnionService, TorLimits
from node.tor.onion import Onion, onion_of
from node.tor.wire import TorEvent

_COLLISION_S: Final = 0.5
"""A connection of ours that has ended holds its onion for a moment."""
_COLLISIONS: Final = 20


class NotPublished(Exception):
    """No directory took the descriptor in time; the message says what tor gave as the reason."""


async def publish(control: TorControl, service: OnionService, limits: TorLimits, *, reader: str | None) -> Onion:
    """Has tor publish the onion, and returns when it can be found; it is gone with the connection.

    `reader` is one more for a restricted onion: our own, for probing it. Raises NotPublished, TorRefusal, and what else
    ends a control connection. What this connection published of the same seed before is ended first.
    """
    onion = onion_of(service.seed)
    readers = (*service.readers, reader) if service.readers and reader else service.readers
    async with control.events("HS_DESC") as events:
        await _add(control, onion, service, readers)
        uploads, pending, why = 0, 0, "no directory answered"
        with trio.move_on_after(limits.publish_s) as patience:
            async for event in events:
                match event.words[:2]:
                    case ["UPLOAD", about] if about == onion:
                        pending += 1
                    case ["UPLOADED", about] if about == onion:
                        uploads, pending = uploads + 1, pending - 1
                        patience.deadline = min(patience.deadline, trio.current_time() + limits.settle_s)
                    case ["FAILED", about] if about == onion:
                        why, pending = _reason(event), pending - 1
                    case _:
                        continue
                if uploads >= limits.uploads and pending <= 0:
                    return onion
            raise TorClosed(await control.wait_closed())
    if uploads:
        return onion
    raise NotPublished(f"{onion[:8]}….onion was not published within {limits.publish_s:g} s: {why}")


async def _add(control: TorControl, onion: Onion, service: OnionService, readers: tuple[str, ...]) -> None:
    ports: Mapping[int, Endpoint] = service.ports
    for attempt in range(_COLLISIONS):
        try:
            await control.add_onion(service.seed, ports, readers=readers, streams_max=service.streams_max)
        except TorRefusal as refusal:
            if refusal.code != COLLISION or attempt == _COLLISIONS - 1:
                raise
            if onion in (await control.info("onions/current")).split():
                await control.del_onion(onion)
            else:
                await trio.sleep(_COLLISION_S)
        else:
            return


def _reason(event: TorEvent) -> str:
    return f"a directory refused it ({event.pairs.get('REASON', 'no reason given')})"
