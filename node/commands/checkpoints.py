"""checkpoint save, show and load: a newcomer begins at a final checkpoint from a file, and checks it from the genesis on."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import trio

from consensus.ancestry import key_of
from consensus.checkpoint import Constitution
from consensus.checkpoint_sync import Offered, accept, sections, spell, split
from consensus.encoding import Malformed, decode, encode
from consensus.payload import FIRST
from consensus.proof import ProofWrong
from consensus.signing import verify_as_is
from node.chain.accounts import adopt, values
from node.chain.evm import ChainRows, MemoryRows
from node.commands.inspection import reading
from node.config import Home
from node.console import Console, size
from node.constitution import law_of
from node.exits import DONE, Refuted, Unavailable, Usage
from node.membership import joined, load
from node.network import NetworkTerms
from node.store import Busy, Delete, Put
from node.store.chainrows import open_rows, read_rows
from node.store.lmdb import LmdbStore
from pipeline import durable

FILE_BYTES_MAX = 2 << 30
ACCOUNTS_BYTES = 1 << 20
"""Of accounts in a section, about."""


def save(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node checkpoint save`: what this node kept of its newest final checkpoint; beside a running daemon, too."""
    terms = _terms(home)
    law = law_of(terms)
    with reading(home) as reader:
        parts = sections(lambda table, key: reader.get(table, (key,)))
    if parts is None:
        raise Unavailable(
            "this node has no checkpoint that it can show to be final yet: it has one after some HOURs, and again an HOUR "
            "or two after each sixth; `lucid-node status` tells the final HOUR"
        )
    offered = _checked(law, parts, "the rows of this home", is_whole=False)
    out = Path(args.file or f"{terms.genesis.name}-{offered.point.hour}.checkpoint")
    data = b"".join(spell([*parts, *_accounts(home, offered)]))
    try:
        durable.create(out, data, 0o644)
    except FileExistsError:
        raise Usage(f"{out} exists already: name another file") from None
    except OSError as error:
        raise Unavailable(f"{out} cannot be written: {error.strerror}") from error
    console.say(f"Wrote {out}, {size(len(data))}. A newcomer begins there: `lucid-node checkpoint load {out}`.")
    return _show(offered, console, out, len(data))


def show(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node checkpoint show`: check a file from the genesis on, and say what it shows."""
    terms = _terms(home) if args.network is None else load(Path(args.network))[1]
    offered, taken = _read(law_of(terms), Path(args.file))
    return _show(offered, console, Path(args.file), taken)


def load_file(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node checkpoint load`: this home's node begins there when it starts next; its keys and sessions stay."""
    offered, taken = _read(law_of(_terms(home)), Path(args.file))
    try:
        trio.run(_keep, home, offered)
    except Busy:
        raise Unavailable(f"a node runs in {home.path}: stop it first") from None
    except OSError as error:
        raise Unavailable(f"{home.store} cannot be written: {error.strerror or error}") from error
    console.say(
        f"The node of {home.path} will begin at HOUR {offered.point.hour} and ask its peers for what came since."
    )
    return _show(offered, console, Path(args.file), taken)


async def _keep(home: Home, offered: Offered) -> None:
    home.store.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with LmdbStore.open(home.store) as store:
        height = offered.state.height
        if await store.get("chain", (key_of(height),)) is not None:
            raise Refuted(
                f"this home knows the chain beyond HOUR {offered.point.hour} already: nothing was changed; a younger file is "
                "of use to it"
            )
        await trio.to_thread.run_sync(_begin, home, offered)
        new = {(one.table, one.key) for one in offered.rows}
        gone = [
            Delete(table, key)
            for table in ("branches", "credits", "handovers")
            async for key, _ in store.scan(table)
            if (table, key) not in new
        ]
        await store.commit([*gone, *(Put(one.table, one.key, one.value or b"") for one in offered.rows)])


def _begin(home: Home, offered: Offered) -> None:
    """Have the execution layer begin there, too: before the records, so that a crash in between costs nothing."""
    with open_rows(home.path / "chain") as rows:
        _check_accounts(offered, rows)


def _accounts(home: Home, offered: Offered) -> Iterator[bytes]:
    """The sections of the execution layer: the header of its payload, then accounts; none where it is the genesis."""
    name = offered.state.payload
    if name == FIRST:
        return
    try:
        with read_rows(home.path / "chain") as rows:
            header = rows.get(name)
            if header is None:
                raise Unavailable("this node's accounts do not reach its checkpoint yet: ask again in an HOUR")
            yield header
            section, taken = list[bytes](), 0
            for value in values(header, name, rows.get):
                section.append(value)
                taken += len(value)
                if taken > ACCOUNTS_BYTES:
                    yield encode([*section])
                    section, taken = [], 0
            yield encode([*section])
    except (OSError, Malformed) as error:
        raise Unavailable(f"the accounts in {home.path / 'chain'} cannot be read: {error}") from error


def _values(sections: Sequence[bytes]) -> Iterator[bytes]:
    for section in sections:
        found = decode(section)
        if not isinstance(found, list) or not all(isinstance(one, bytes) for one in found):
            raise Malformed("a section that spells no accounts")
        yield from found  # type: ignore[misc]


def _check_accounts(offered: Offered, rows: ChainRows) -> int:
    """Put the accounts into rows; raises Malformed for others than those of the checkpoint's payload."""
    if offered.state.payload == FIRST:
        if offered.rest:
            raise Malformed("more sections than there are")
        return 0
    if not offered.rest:
        raise Malformed("a checkpoint file without accounts")
    header, *sections = offered.rest
    return adopt(rows, header, offered.state.payload, _values(sections))


def _terms(home: Home) -> NetworkTerms:
    home.check()
    terms = joined(home)
    if terms is None:
        raise Usage(f"{home.path} has joined no network: `lucid-node network join FILE` does it")
    return terms


def _read(law: Constitution, file: Path) -> tuple[Offered, int]:
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise Refuted(f"{file} is no checkpoint that this program reads: it is above {size(FILE_BYTES_MAX)}")
        data = file.read_bytes()
    except OSError as error:
        raise Unavailable(f"{file} cannot be read: {error.strerror}") from error
    try:
        parts = split(data)
    except Malformed as error:
        raise Refuted(f"{file} is no checkpoint that can be trusted ({error}): get it again") from error
    return _checked(law, parts, str(file)), len(data)


def _checked(law: Constitution, parts: Sequence[bytes], what: str, *, is_whole: bool = True) -> Offered:
    try:
        offered = accept(law, parts, verify_as_is)
        if is_whole:
            _check_accounts(offered, MemoryRows())
    except (Malformed, ProofWrong) as error:
        raise Refuted(f"{what} is no checkpoint of this network that can be trusted: {error}") from error
    return offered


def _show(offered: Offered, console: Console, file: Path, taken: int) -> int:
    point, verdict = offered.point, offered.verdict
    console.say(f"  checkpoint  HOUR {point.hour}, block {point.block.hex()}")
    console.say(
        f"  nodes       {len(offered.state.checkpoint.registry.members)} registered, {len(offered.state.checkpoint.voters)} vote"
    )
    console.say(f"  trust       {verdict.trust}")
    for line in verdict.proven:
        console.say(f"  proven      {line}")
    for line in verdict.not_proven:
        console.say(f"  not proven  {line}")
    console.say(
        "Compare the block with somebody whom you trust: who bought the keys of past voters could show another."
    )
    console.result(
        {
            "file": str(file),
            "bytes": taken,
            "hour": point.hour,
            "block": point.block,
            "height": offered.state.height,
            "members": len(offered.state.checkpoint.registry.members),
            "voters": len(offered.state.checkpoint.voters),
            "trust": verdict.trust,
            "proven": list(verdict.proven),
            "not_proven": list(verdict.not_proven),
        }
    )
    return DONE
