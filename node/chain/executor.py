"""The execution layer as the daemon sees it: questions to a process of its own, which is started anew when it dies.

    ask(verb, …) ── frame ──→ worker ── answer ──→ ask's caller          worker dies ──→ another one gets what is unanswered

Every verb may be asked again: a payload that is there already is executed to the same name. So a death at any point of an
import costs the time of that import. A worker that dies again and again over the same questions ends the daemon.
"""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import trio

from consensus.ids import Address, Digest, SessionId
from consensus.payload import PayloadTerms
from node.chain.genesis import PLACES, ChainLaw
from node.chain.index import TransactionReceipt, read_receipts
from node.chain.onsystem import calldata
from node.chain.verbs import LENGTH_BYTES, READY, VerbFault, frame, length_of, number_of, of_terms, read
from node.exits import Unavailable
from pipeline.child import Child, child

LIVES_MAX: Final = 3
"""Workers in a row that may die without an answer."""
READ_BYTES: Final = 1 << 16


class PayloadRefused(Exception):
    """The payload breaks a rule, which the sentence names."""


class ChainAccount(NamedTuple):
    """How many transactions an account has sent, and what it has."""

    nonce: int
    wei: int


class TransactionAt(NamedTuple):
    """Where a transaction is on the head's branch."""

    name: Digest
    number: int
    time_s: int
    ok: bool
    """Whether its contract took it."""


class PayloadAt(NamedTuple):
    """A payload of the head's branch."""

    number: int
    time_s: int


class AnchoredSession(NamedTuple):
    """A session as the chain has it, whoever's it is."""

    session: SessionId
    owner: Address
    opened: PayloadAt
    seen: PayloadAt
    """Its last head, or its opening."""
    closed: PayloadAt | None


class Executor:
    """One worker at a time, on the rows of one folder."""

    def __init__(self, folder: Path, law: ChainLaw) -> None:
        self._folder, self.law = folder, law
        self._number = 0
        self._waiting: dict[int, tuple[bytes, trio.Event]] = {}
        self._answers: dict[int, list[Any]] = {}
        self._send, self._receive = trio.open_memory_channel[bytes](float("inf"))
        self.worker: Child | None = None
        self.deaths = 0
        self._is_up = False
        """Whether the worker of now, or the last one, had opened its rows."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a worker until cancelled; raises Unavailable when none comes up.

        A question over which it dies again and again is answered in its place: as one that breaks a rule.
        """
        task_status.started()
        lives = 0
        while True:
            before = self._number - len(self._waiting)
            status = await self._live()
            self.deaths += 1
            lives = 0 if self._number - len(self._waiting) > before else lives + 1
            if lives >= LIVES_MAX and self._is_up and self._waiting:
                lives = 0
                number = next(iter(self._waiting))
                said = f"the process that executes blocks ended {LIVES_MAX} times over this question (status {status})"
                self._take([number, VerbFault.INVALID, said])
            if lives >= LIVES_MAX:
                raise Unavailable(
                    f"the process that executes blocks ended {lives} times before it was up (status {status}): "
                    f"see the log; if {self._folder} is damaged, remove it, and the node executes its blocks again"
                )

    async def _live(self) -> int:
        """One worker's life; its exit status."""
        ours, theirs = socket.socketpair()
        words = [self.law.chain_id, self.law.began_s, self.law.slot_s]
        command = [sys.executable, "-P", "-m", "node.chain.worker", str(theirs.fileno()), str(self._folder)]
        self._is_up = False
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        async with (
            stream,
            child([*command, *map(str, words)], pass_fds=(theirs.fileno(),), stderr=sys.stderr.fileno()) as running,
        ):
            theirs.close()
            self.worker = running
            self._send, self._receive = trio.open_memory_channel[bytes](float("inf"))
            for data, _ in self._waiting.values():
                self._send.send_nowait(data)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream, self._receive)
                await self._read(stream)
                nursery.cancel_scope.cancel()
            with trio.move_on_after(1):
                return await running.wait()
            return 0

    async def _write(self, stream: trio.SocketStream, frames: "trio.MemoryReceiveChannel[bytes]") -> None:
        try:
            async for data in frames:
                await stream.send_all(data)
        except trio.BrokenResourceError:
            return  # it died: whoever reads sees it, too

    async def _read(self, stream: trio.SocketStream) -> None:
        """Hand out answers until the worker is gone."""
        data = bytearray()
        try:
            while part := await stream.receive_some(READ_BYTES):
                data += part
                while len(data) >= LENGTH_BYTES and len(data) >= (
                    end := LENGTH_BYTES + length_of(bytes(data[:LENGTH_BYTES]))
                ):
                    self._take(read(bytes(data[LENGTH_BYTES:end])))
                    del data[:end]
        except trio.BrokenResourceError:
            return

    def _take(self, answer: list[Any]) -> None:
        self._is_up |= answer[0] == READY
        waiting = self._waiting.pop(answer[0], None)
        if waiting is not None:
            self._answers[answer[0]] = answer
            waiting[1].set()

    async def ask(self, verb: str, *arguments: Any) -> Any:
        """What the worker answers, however often it dies meanwhile. Raises PayloadRefused, KeyError, OSError."""
        self._number += 1
        number, data, answered = self._number, frame([self._number, verb, *arguments]), trio.Event()
        self._waiting[number] = data, answered
        self._send.send_nowait(data)
        try:
            await answered.wait()
        finally:
            self._waiting.pop(number, None)
        _, fault, result = self._answers.pop(number)
        match fault:
            case VerbFault.NONE:
                return result
            case VerbFault.INVALID:
                raise PayloadRefused(result)
            case VerbFault.UNKNOWN:
                raise KeyError(result)
            case _:
                raise OSError(result)

    # ------------------------------------------------------------------ verbs

    async def build(self, terms: PayloadTerms, transactions: Sequence[bytes]) -> tuple[Digest, bytes]:
        """A payload with those of the transactions that can be in it; raises KeyError for a parent that is not known."""
        name, payload = await self.ask("build", of_terms(terms), list(transactions))
        return Digest(name), payload

    async def judge(self, terms: PayloadTerms, name: Digest, payload: bytes) -> None:
        """Have a payload executed; raises PayloadRefused for one that breaks a rule, KeyError for a parent that is not known."""
        await self.ask("judge", of_terms(terms), name, payload)

    async def replay(self, payload: bytes) -> None:
        """Have a payload executed that was judged before."""
        await self.ask("replay", payload)

    async def knows(self, name: Digest) -> bool:
        """Whether a payload is a part of its tree."""
        return bool(await self.ask("known", name))

    async def follow(self, name: Digest) -> None:
        """Make a payload the head."""
        await self.ask("follow", name)

    async def accounts(self, name: Digest, addresses: Sequence[Address]) -> list[ChainAccount]:
        """Accounts after a payload, in their order; one question, however many."""
        found = await self.ask("accounts", name, list(addresses))
        return [ChainAccount(nonce, number_of(wei)) for nonce, wei in found]

    async def account(self, name: Digest, address: Address) -> ChainAccount:
        """An account after a payload."""
        (found,) = await self.accounts(name, [address])
        return found

    async def call(self, name: Digest, to: Address, data: bytes, sender: Address = Address(bytes(20))) -> bytes | None:  # noqa: B008
        """What a contract answers after a payload; None where it reverts."""
        ok, output, _ = await self.ask("call", name, sender, to, data)
        return output if ok else None

    async def calls(self, name: Digest, to: Address, datas: Sequence[bytes]) -> list[bytes | None]:
        """What a contract answers after a payload to each of some calls, of nobody's; None where it reverts."""
        found: list[bytes | None] = await self.ask("calls", name, to, list(datas))
        return found

    async def lucid(self, name: Digest, address: Address) -> int:
        """What an account has of LUCID after a payload, in base units."""
        found = await self.call(name, PLACES["LucidToken"], calldata("LucidToken", "balanceOf", address))
        return 0 if found is None else number_of(found)

    async def places(self, transactions: Sequence[bytes]) -> list[TransactionAt | None]:
        """Where each transaction is on the head's branch, if it is."""
        found = await self.ask("places", list(transactions))
        return [None if one is None else TransactionAt(Digest(one[0]), *one[1:]) for one in found]

    async def anchored(self, first: int, last: int) -> list[AnchoredSession]:
        """The sessions that were opened on the head's branch in payloads of those numbers."""
        return [
            AnchoredSession(
                SessionId(session),
                Address(owner),
                PayloadAt(*opened),
                PayloadAt(*seen),
                None if closed is None else PayloadAt(*closed),
            )
            for session, owner, opened, seen, closed in await self.ask("anchored", first, last)
        ]

    async def receipts(self, name: Digest) -> tuple[TransactionReceipt, ...]:
        """What came of a payload's transactions."""
        return read_receipts(await self.ask("receipts", name))
