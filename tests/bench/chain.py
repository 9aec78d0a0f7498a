"""What the chain costs a node beside its work: a devnet of five over loopback, a worker that imports, and blocks of a year.

anchors: from the recorder's opening to a signed transaction that is on the disk and on its way, on node 1 of the devnet
lateness: how late a task of the daemon's loop wakes while its worker imports 1,000 openings in blocks of 250
memory: PSS of the processes of one node, after the anchors
a year: blocks of 0, 5 and 50 openings on a disk, times 262,800: process time, and what the files grew by
"""

import math
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import trio

from consensus.ids import Address, Digest, Millis, NodeId, session_id
from consensus.payload import FIRST, PayloadTerms
from consensus.records import pack
from consensus.signing import KeyPair
from node.chain.evm import Evm, Grant
from node.chain.executor import Executor
from node.chain.genesis import ChainLaw
from node.chain.onsystem import open_session
from node.chain.transactions import address_of, sign
from node.control.client import NoDaemon, ask
from node.devnet import devnet
from node.exits import Ended
from node.membership import joined
from node.network import Carrier
from node.store.chainrows import open_rows
from node.wallet.vault import open_vault
from pipeline.manifest import Opening
from pipeline.manifest import sign as signed_record
from pipeline.stream import Stream
from tests.bench.measure import table
from tests.node.chain.test_evm import attributes
from tests.system.homes import connected

ANCHORS: Final = 100
BLOCKS_A_YEAR: Final = 262_800
YEAR_BLOCKS: Final = 150
LAW: Final = ChainLaw(1_280, 1_800_000_000, (), 120)
SECRETS: Final = [bytes([number]) * 32 for number in range(1, 9)]


def main(folder: Path, rounds: int) -> dict[str, object]:
    """Measure and print; returns the figures."""
    late = [one for number in range(rounds) for one in trio.run(_lateness, folder / f"late{number}")]
    waited, memory = trio.run(_devnet)
    rows: list[tuple[str, ...]] = [("", "p50", "p99", "most", "wanted")]
    rows.append(("anchor sent, ms", *_told(waited), "p50 < 300, p99 < 1000"))
    rows.append(("loop lateness, ms", *_told(late), "p99 < 20"))
    table(rows)
    table([("one node, MB", "PSS"), *((name, f"{size:.0f}") for name, size in memory.items())])
    years = {count: _year(folder / f"year{count}", count) for count in (0, 5, 50)}
    table(
        [
            ("a year of blocks", "CPU, hours", "executed rows, GB", "blocks, GB"),
            *(
                (f"{count} openings", f"{cpu:.1f}", f"{rows_gb:.1f}", f"{blocks_gb:.2f}")
                for count, (cpu, rows_gb, blocks_gb) in years.items()
            ),
        ]
    )
    return {"anchor_ms": waited, "late_ms": late, "memory_mb": memory, "year": years}


def _told(values: list[float]) -> tuple[str, str, str]:
    ordered = sorted(values)
    return tuple(
        f"{one:.1f}" for one in (statistics.median(ordered), ordered[math.ceil(0.99 * len(ordered)) - 1], ordered[-1])
    )  # type: ignore[return-value]


# ------------------------------------------------------------------ the devnet


async def _devnet() -> tuple[list[float], dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="bc-") as name:
        async with devnet(Path(name), 5, Carrier.TOR) as net:
            await connected(net)
            home = net.nodes[1].home
            while not int((await _asked(home.path))["wei"] or 0):
                await trio.sleep(0.5)
            secrets, terms = open_vault(home.vault.read_bytes(), None), joined(home)
            assert terms is not None
            waited = []
            for number in range(ANCHORS):
                ephemeral = KeyPair.from_seed(number.to_bytes(32, "big"))
                session = session_id(secrets.address, number.to_bytes(16, "big"), ephemeral.public)
                now = Millis(time.time_ns() // 1_000_000)
                opening = Opening(
                    session, terms.network, secrets.address, number.to_bytes(16, "big"), ephemeral.public,
                    NodeId(secrets.identity.public), now, bytes(32), (Stream.VIDEO,), "", "", bytes(32), 1, 2, 3, 0,
                )  # fmt: skip
                record = pack(signed_record(opening, secrets.identity, terms.network))
                began = time.perf_counter()
                await trio.to_thread.run_sync(
                    ask, home.path, "keep_opening", {"session": session.hex(), "record": record.hex()}
                )
                while True:
                    known = (await _asked(home.path))["sessions"].get(session.hex())
                    if known is not None and known["opened"]["state"] != "waiting":
                        break
                    await trio.sleep(0.002)
                waited.append(1_000 * (time.perf_counter() - began))
                await trio.sleep(0.4)
            return waited, _memory(net.nodes[1].running.pid)


async def _asked(home: Path) -> dict[str, Any]:
    while True:
        try:
            return await trio.to_thread.run_sync(ask, home, "anchors")
        except (NoDaemon, Ended):
            await trio.sleep(0.5)


def _memory(daemon: int) -> dict[str, float]:
    """PSS in MB of a daemon and its children."""
    children = subprocess.run(["pgrep", "-P", str(daemon)], capture_output=True, text=True, check=False).stdout.split()
    found = {"daemon": _pss(daemon), "worker": sum(_pss(int(one)) for one in children)}
    return {**found, "all": sum(found.values())}


def _pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1_000


# ------------------------------------------------------------------ an import


def _openings(first: int, count: int, nonces: dict[bytes, int]) -> list[bytes]:
    made = []
    for number in range(first, first + count):
        secret = SECRETS[number % len(SECRETS)]
        call = open_session(number.to_bytes(16, "big"), bytes(32), bytes(32))
        made.append(sign(secret, LAW.chain_id, nonces.setdefault(secret, 0), call.to, call.data, call.gas))
        nonces[secret] += 1
    return made


async def _lateness(folder: Path) -> list[float]:
    late: list[float] = []
    executor, builder = Executor(folder / "one", LAW), Executor(folder / "two", LAW)

    async def watch() -> None:
        while True:
            due = trio.current_time() + 0.005
            await trio.sleep_until(due)
            late.append(1_000 * (trio.current_time() - due))

    async with trio.open_nursery() as nursery:
        await nursery.start(executor.run)
        await nursery.start(builder.run)
        grants = tuple(address_of(secret) for secret in SECRETS)
        parent, payloads, nonces = FIRST, list[tuple[PayloadTerms, Digest, bytes]](), dict[bytes, int]()
        for slot in range(1, 6):
            terms = PayloadTerms(
                parent,
                slot,
                Digest(bytes(32)),
                Address(bytes(20)),
                Digest(bytes(32)),
                grants if slot == 1 else (),
                None,
                (),
            )
            made = [] if slot == 1 else _openings(250 * slot, 250, nonces)
            name, payload = await builder.build(terms, made)
            await builder.judge(terms, name, payload)
            payloads.append((terms, name, payload))
            parent = name
        nursery.start_soon(watch)
        for terms, name, payload in payloads:
            await executor.judge(terms, name, payload)
        nursery.cancel_scope.cancel()
    return late


# ------------------------------------------------------------------ a year


def _year(folder: Path, count: int) -> tuple[float, float, float]:
    """Hours of process time, GB of rows and GB of payloads of a year of blocks with so many openings."""
    with open_rows(folder) as rows:
        evm, nonces = Evm(rows, LAW), dict[bytes, int]()
        first = attributes(1, *(Grant(address_of(secret), 10**9) for secret in SECRETS))
        parent, payload = evm.build(evm.genesis, first, [])
        evm.execute(evm.genesis, first, payload)
        before, took, blocks = rows.size(), 0.0, 0
        for number in range(YEAR_BLOCKS):
            made = _openings(1_000_000 + count * number, count, nonces)
            says = attributes(2)._replace(timestamp=first.timestamp + 120 * (number + 1))
            name, payload = evm.build(parent, says, made)
            evm._built.clear()  # executed as by who did not build it
            began = time.process_time()
            evm.execute(parent, says, payload)
            evm.follow(name)
            took += time.process_time() - began
            parent, blocks = name, blocks + len(payload)
        grown = rows.size() - before
    scale = BLOCKS_A_YEAR / YEAR_BLOCKS
    return took * scale / 3_600, grown * scale / 1e9, blocks * scale / 1e9
