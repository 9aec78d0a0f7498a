"""The process that executes payloads: it answers, it refuses, and whenever it dies another one goes on where it was."""

import os
import resource
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import trio

from consensus.ids import Address, Digest
from consensus.payload import BUSY, FIRST, GRANT_GWEI, IDLE, PayloadTerms
from node.chain import executor as executing
from node.chain.executor import LIVES_MAX, Executor, PayloadRefused
from node.chain.genesis import ChainLaw
from node.chain.onsystem import Opened, open_session, said
from node.chain.transactions import address_of, hash_of, sign
from node.exits import Unavailable
from tests.consensus.worlds import named

pytestmark = pytest.mark.component

LAW = ChainLaw(1_280, 1_800_000_000, (), 5)
SECRET = b"\1" * 32
ME = address_of(SECRET)
LEADER = Address(b"\x99" * 20)


def terms(parent: Digest, slot: int, *grants: Address) -> PayloadTerms:
    return PayloadTerms(parent, slot, named(slot), LEADER, named(100 + slot), grants, None, ())


def opening(nonce: int, number: int = 0) -> bytes:
    order = open_session(number.to_bytes(16, "big"), bytes(32), bytes(32))
    return sign(SECRET, LAW.chain_id, nonce, order.to, order.data, order.gas)


def served(folder: Path, work: Callable[[Executor], Awaitable[None]]) -> Executor:
    """Do some work with an executor, which then ends."""
    made = Executor(folder, LAW)

    async def main() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                await nursery.start(made.run)
                await work(made)
                nursery.cancel_scope.cancel()

    trio.run(main)
    return made


async def grown(on: Executor, transactions: int = 0) -> tuple[Digest, bytes]:
    """A first payload that gives coins, and a second one with openings, built but not executed."""
    first, payload = await on.build(terms(FIRST, 1, ME), [])
    await on.judge(terms(FIRST, 1, ME), first, payload)
    return await on.build(terms(first, 2), [opening(nonce, nonce) for nonce in range(transactions)])


def test_a_payload_is_built_judged_and_looked_up(tmp_path: Path) -> None:
    async def work(on: Executor) -> None:
        name, payload = await grown(on, 2)
        first = (await on.build(terms(FIRST, 1, ME), []))[0]
        assert payload[:1] == BUSY
        await on.judge(terms(first, 2), name, payload)
        await on.follow(name)
        assert await on.places([hash_of(opening(1, 1)), bytes(32)]) == [(name, 2, LAW.began_s + 10, True), None]
        known = await on.account(name, ME)
        assert (known.nonce, (await on.account(FIRST, ME)).nonce) == (2, 0)
        assert GRANT_GWEI * 10**9 - 10**12 < known.wei < GRANT_GWEI * 10**9
        opened = [said(log) for receipt in await on.receipts(name) for log in receipt.logs]
        assert [one.owner for one in opened if isinstance(one, Opened)] == [ME, ME]
        assert await on.call(name, Address(bytes(19) + b"\x99"), b"") == b""
        idle, empty = await on.build(terms(name, 3), [b"no transaction"])
        assert empty[:1] == IDLE
        await on.judge(terms(name, 3), idle, empty)
        await on.follow(FIRST)
        assert await on.places([hash_of(opening(1, 1))]) == [None]

    served(tmp_path, work)


def test_what_breaks_a_rule_is_refused_and_what_follows_nothing_known_is_told_apart(tmp_path: Path) -> None:
    async def work(on: Executor) -> None:
        name, payload = await grown(on, 1)
        first = (await on.build(terms(FIRST, 1, ME), []))[0]
        wrong: list[tuple[PayloadTerms, Digest, bytes, str]] = [
            (terms(first, 3), name, payload, "another timestamp"),
            (terms(first, 2, ME), name, payload, "other grants"),
            (terms(named(77), 2), name, payload, "on top of another block"),
            (terms(first, 2), named(5), payload, "of another name"),
            (terms(first, 2), name, IDLE + payload[1:], "says that something waited"),
            (terms(first, 2), name, BUSY + b"\xc0", "spells no block"),
            (terms(first, 2), name, b"", "spells no block"),
        ]
        for of, called, data, reason in wrong:
            with pytest.raises(PayloadRefused, match=reason):
                await on.judge(of, called, data)
            assert not await on.knows(name)
        with pytest.raises(KeyError):
            await on.build(terms(named(77), 2), [])
        await on.judge(terms(first, 2), name, payload)

    served(tmp_path, work)


def test_however_often_it_is_killed_what_it_said_is_there_and_what_it_was_asked_is_done(tmp_path: Path) -> None:
    """Kill −9 at moments spread over building and importing blocks of forty openings."""
    dice = Random(5)

    async def killing(on: Executor, over: trio.Event) -> None:
        while not over.is_set():
            answered = on._number - len(on._waiting)
            while on._number - len(on._waiting) == answered and not over.is_set():
                await trio.sleep(0.01)  # one that is killed before it ever answers is no fault of what it was asked
            await trio.sleep(dice.uniform(0, 0.6))
            if on.worker is not None:
                os.kill(on.worker.pid, signal.SIGKILL)

    async def work(on: Executor) -> None:
        over = trio.Event()
        async with trio.open_nursery() as nursery:
            name = (await on.build(terms(FIRST, 1, ME), []))[0]
            await on.judge(terms(FIRST, 1, ME), name, (await on.build(terms(FIRST, 1, ME), []))[1])
            nursery.start_soon(killing, on, over)
            for slot in range(2, 12):
                calls = [opening(nonce, nonce) for nonce in range(40 * (slot - 2), 40 * (slot - 1))]
                made, payload = await on.build(terms(name, slot), calls)
                await on.judge(terms(name, slot), made, payload)
                await on.judge(terms(name, slot), made, payload)  # asked again, as after a death: the same
                assert await on.knows(made)
                name = made
            over.set()
        assert (await on.account(name, ME)).nonce == 400

    made = served(tmp_path, work)
    assert made.deaths >= 2

    async def again(on: Executor) -> None:
        name, payload = await grown(on, 40)
        await on.replay(payload)
        assert await on.knows(name)

    served(tmp_path, again)


def test_a_question_over_which_it_dies_again_and_again_is_refused_and_the_next_ones_are_answered(
    tmp_path: Path,
) -> None:
    async def work(on: Executor) -> None:
        name, payload = await grown(on, 100)
        first = (await on.build(terms(FIRST, 1, ME), []))[0]

        async def kill() -> None:
            while True:  # as soon as it is up again, and long before it has executed a hundred openings
                await trio.sleep(0.005)
                if on._is_up and on.worker is not None:
                    with suppress(ProcessLookupError):  # it died of the last one, and nobody has noticed yet
                        os.kill(on.worker.pid, signal.SIGKILL)

        on_built = on.deaths
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            with pytest.raises(PayloadRefused, match="ended 3 times over this question"):
                await on.judge(terms(first, 2), name, payload)
            nursery.cancel_scope.cancel()
        assert on.deaths - on_built >= LIVES_MAX
        await on.judge(terms(first, 2), name, payload)
        assert await on.knows(name)

    served(tmp_path, work)


def test_one_that_cannot_live_ends_the_daemon_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "chain").write_text("in the way")
    with pytest.raises(ExceptionGroup) as caught:
        served(tmp_path / "chain", lambda on: on.follow(FIRST))
    assert caught.group_contains(Unavailable, match="ended 3 times before it was up")


def test_it_ends_with_its_parent_and_when_nobody_asks_any_more(tmp_path: Path) -> None:
    pids = []

    async def work(on: Executor) -> None:
        await on.knows(FIRST)
        assert on.worker is not None
        pids.append(on.worker.pid)

    served(tmp_path, work)
    assert not Path(f"/proc/{pids[0]}").exists()


def test_a_full_disk_is_told_as_that_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(on: Executor) -> None:
        name, payload = await grown(on, 3)
        first = (await on.build(terms(FIRST, 1, ME), []))[0]
        assert on.worker is not None
        usual = resource.prlimit(on.worker.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        with pytest.raises(OSError, match=r".+"):
            await on.judge(terms(first, 2), name, payload)
        resource.prlimit(on.worker.pid, resource.RLIMIT_FSIZE, usual)
        assert not await on.knows(name)
        await on.judge(terms(first, 2), name, payload)

    monkeypatch.setattr(executing, "LIVES_MAX", 9)
    served(tmp_path, work)
