"""Carries the owner's index between this disk and the logs: what was said here into ours, what all logs say of it onto the disk.

    edit ─→ owed ─→ our index log ══ kept by strangers ══ logs of the owner's other devices, and ours of before ─→ take

A device needs no introduction: every author's log that we keep is looked through, and what is sealed under a master key of
the owner is taken. Nobody else can make such a body, and who repeats one says nothing new. Bodies may come twice, in any
order, and after a crash again. Source: DESIGN §5.
"""

from typing import Final

import trio

from consensus.ids import NodeId
from node.log import EventLog
from node.net.host import Host
from node.overlay.entries import LogName
from node.overlay.logs import Learned
from node.overlay.peer import Peer
from node.sessions.annotations import Annotations
from node.sessions.indexlog import IndexLog, NotKept

RETRY_S: Final = 60
"""After the log has refused a body."""


class Sharing:
    """The exchange of one node."""

    def __init__(self, host: Host, peer: Peer, index: IndexLog, annotations: Annotations, log: EventLog) -> None:
        self._index, self._annotations, self._log = index, annotations, log
        self._changed = dict.fromkeys(peer.logs.index.authors)
        self._learned = trio.Event()
        host.on_fact(Learned, self._hear)

    def _hear(self, fact: Learned) -> None:
        if fact.item.log is LogName.INDEX:
            self._changed[NodeId(fact.item.author)] = None
            self._learned.set()

    async def run(self) -> None:
        """Do it until cancelled; the host runs already."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._say)
            nursery.start_soon(self._listen)

    async def _say(self) -> None:
        while True:
            stirred = self._annotations.stirred
            try:
                for body in await self._annotations.owed():
                    await self._index.append(body)
                    await self._annotations.paid(body)
            except NotKept as refusal:
                self._log.warning("index.refused", reason=refusal)
                await trio.sleep(RETRY_S)
                continue
            await stirred.wait()

    async def _listen(self) -> None:
        while True:
            self._learned = trio.Event()
            authors, self._changed = self._changed, {}
            for author in authors:
                came = await self._annotations.take(await self._index.bodies(author))
                if came:
                    self._log.info("index.heard", device=author, bodies=came)
            await self._learned.wait()
