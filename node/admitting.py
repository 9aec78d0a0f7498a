"""The proof of work of a registration, searched for beside everything else: Argon2id, some 60 ms and 64 MiB a try.

One search at a time, in a thread of the lowest priority; a later question ends the one before, whose checkpoint is too old.

Source: CONSENSUS §3.
"""

import os
import threading
from contextlib import suppress
from typing import Final

import trio

from consensus.admission import is_proof
from consensus.ids import Network, NodeId
from consensus.wishes import Prove
from node.log import EventLog
from node.net.host import Host
from node.overlay.agreement import ProofFound

NONCE_BYTES: Final = 16
LOWEST: Final = 19
"""Of the scheduler's nice values."""


class Admitting:
    """Answers the `Prove` of one node's consensus."""

    def __init__(self, host: Host, network: Network, me: NodeId, log: EventLog) -> None:
        self._host, self._network, self._me, self._log = host, network, me, log
        self._wanted: Prove | None = None
        self._asked = trio.Event()
        host.on_fact(Prove, self._ask)

    def _ask(self, wanted: Prove) -> None:
        self._wanted = wanted
        self._asked.set()

    async def run(self) -> None:
        """Search for what is asked, until cancelled."""
        try:
            while True:
                await self._asked.wait()
                self._asked = trio.Event()
                wanted = self._wanted
                if wanted is None:
                    continue
                self._log.info("chain.registering", difficulty=wanted.difficulty)
                start = trio.current_time()
                nonce = await self._searched(wanted)
                if nonce is not None:
                    self._log.info("chain.proof", seconds=round(trio.current_time() - start, 1))
                    self._host.tell(ProofFound(wanted.call, nonce))
        finally:
            self._wanted = None  # the thread sees it after its try

    async def _searched(self, wanted: Prove) -> bytes | None:
        """A nonce that proves enough work; None once something else is wanted.

        In a thread of its own, since one of the pool could not be given its priority back without being root.
        """
        token, over = trio.lowlevel.current_trio_token(), trio.Event()
        found: list[bytes] = []

        def search() -> None:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
            try:
                while self._wanted is wanted and not found:
                    nonce = os.urandom(NONCE_BYTES)
                    if is_proof(self._network, self._me, wanted.checkpoint, nonce, wanted.difficulty):
                        found.append(nonce)
            finally:
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(over.set)

        threading.Thread(target=search, name="admission", daemon=True).start()
        await over.wait()
        return found[0] if found else None
