"""network create, revise, show, join and update: a network's one signed file made, shown, and put into a home."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from consensus.encoding import Malformed
from consensus.ids import Millis, NodeId
from consensus.params import LeaderRule
from consensus.records import pack, unpack
from node.config import Home
from node.console import Console, moment
from node.exits import DONE, Unavailable, Usage
from node.keys import unlock
from node.membership import carrier_of, joined, keep, load
from node.network import (
    ADMISSION_BITS,
    TIMINGS,
    BootstrapNode,
    Carrier,
    Genesis,
    Mode,
    NetworkTerms,
    Timing,
    newer,
    qr_text,
    seal_terms,
    write_file,
)
from pipeline import durable
from pipeline.manifest import Signed


def create(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node network create`: a new network, signed by this home's identity."""
    home.check()
    identity = unlock(home, args.passphrase_file).identity
    author, mode, now = NodeId(identity.public), Mode[args.mode.upper()], Millis(time.time_ns() // 1_000_000)
    genesis = Genesis(
        name=args.name,
        mode=mode,
        author=author,
        created=now,
        timing=_timing(TIMINGS[mode], args.set or []),
        leader_rule=LeaderRule[args.leader_rule.upper()],
        founders=tuple(NodeId(bytes.fromhex(key)) for key in args.founder or [author.hex()]),
        admission_bits=ADMISSION_BITS[mode] if args.admission_bits is None else args.admission_bits,
        carrier=Carrier[args.transport.upper()],
    )
    from node.carrier import own_address  # it loads the network, which the other commands here do without

    bootstrap = _bootstrap(args.bootstrap or [own_address(home, genesis.carrier)], author)
    return _write(NetworkTerms(genesis, 1, now, bootstrap), args, home, console)


def revise(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node network revise`: the same network with other bootstrap addresses, under the next sequence."""
    home.check()
    _, terms = load(Path(args.file))
    author = terms.genesis.author
    now = Millis(time.time_ns() // 1_000_000)
    later = replace(terms, sequence=terms.sequence + 1, issued=now, bootstrap=_bootstrap(args.bootstrap or [], author))
    return _write(later, args, home, console)


def _write(terms: NetworkTerms, args: argparse.Namespace, home: Home, console: Console) -> int:
    out = Path(args.out or f"{terms.genesis.name}.network")
    try:
        signed = seal_terms(terms, unlock(home, args.passphrase_file).identity)
        unpack(NetworkTerms, signed.body)
        durable.create(out, write_file(signed, _comments(terms)).encode(), 0o644)
    except Malformed as error:
        raise Usage(f"this network cannot be: {error}") from error
    except FileExistsError:
        raise Usage(f"{out} exists already; name another file with --out") from None
    except OSError as error:
        raise Unavailable(f"{out} cannot be written: {error.strerror}") from error
    console.say(f"Wrote {out}. Give it to everybody who shall join: `lucid-node init --network {out}`.")
    _show(signed, terms, console, {"out": str(out)})
    return DONE


def _timing(usual: Timing, changes: Sequence[tuple[str, int]]) -> Timing:
    names = [field.name for field in fields(Timing)]
    for name, _ in changes:
        if name not in names:
            raise Usage(f"{name} is no parameter; the parameters are {', '.join(names)}")
    return replace(usual, **dict(changes))


def _bootstrap(texts: Sequence[str], author: NodeId) -> tuple[BootstrapNode, ...]:
    """The nodes of [NODE@]MULTIADDR texts, the author's where no node is named, in the order they are first named."""
    found: dict[NodeId, tuple[str, ...]] = {}
    for text in texts:
        head, at, address = text.rpartition("@")
        try:
            node = NodeId(bytes.fromhex(head)) if at else author
        except ValueError:
            node = NodeId(b"")
        if len(node) != 32:
            raise Usage(f"{text} does not begin with a node's id of 64 hex digits: write NODE@MULTIADDR")
        found[node] = (*found.get(node, ()), address)
    return tuple(BootstrapNode(node, addresses) for node, addresses in found.items())


def show(args: argparse.Namespace, _home: Home, console: Console) -> int:
    """`lucid-node network show`."""
    signed, terms = load(Path(args.file))
    _show(signed, terms, console, {})
    return DONE


def join(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node network join`: for a home that was made without a network."""
    home.check()
    signed, terms = load(Path(args.file))
    carrier_of(home, terms)
    keep(home, write_file(signed, _comments(terms)), first=True)
    console.say(f"{home.path} has joined {terms.genesis.name}. Sessions recorded from now on belong to it.")
    _show(signed, terms, console, {})
    return DONE


def update(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node network update`: a newer file of the network that the home has joined."""
    home.check()
    signed, terms = load(Path(args.file))
    held = joined(home)
    if held is None:
        raise Usage(f"{home.path} has joined no network: `lucid-node network join {args.file}` does it")
    if terms.network != held.network:
        raise Usage(f"{args.file} is of another network, {terms.network.hex()[:12]}: a home belongs to one for ever")
    if terms == held:
        console.say("This file is the one that the home has already.")
    elif not newer(terms, held):
        raise Usage(f"{args.file} is no newer than what the home has (sequence {held.sequence}): nothing was changed")
    else:
        keep(home, write_file(signed, _comments(terms)), first=False)
        console.say(f"{home.path} now has sequence {terms.sequence} of {terms.genesis.name}.")
    _show(signed, terms, console, {})
    return DONE


def check_file(file: str) -> tuple[str, NetworkTerms]:
    """The text to keep and the terms of a network file, for `init`; raises Unavailable, Usage."""
    signed, terms = load(Path(file))
    return text_of(signed, terms), terms


def text_of(signed: Signed, terms: NetworkTerms) -> str:
    """The text of a network's file, with what it says in words."""
    return write_file(signed, _comments(terms))


def _comments(terms: NetworkTerms) -> list[str]:
    """What people read; nobody else does."""
    lines = ["These lines are for people and are not read; only the letters below them count.", *_lines(terms)]
    return [*lines, "Show it checked: lucid-node network show FILE"]


def _lines(terms: NetworkTerms) -> list[str]:
    genesis = terms.genesis
    timing = genesis.timing
    lines = [
        f"network    {genesis.name} ({genesis.mode.name.lower()} over {genesis.carrier.name.lower()})",
        f"id         {terms.network.hex()}",
        f"created    {moment(genesis.created)}; sequence {terms.sequence} of {moment(terms.issued)}",
        f"author     {genesis.author.hex()}",
        f"slots      {timing.slot_s} s, T {timing.rank_ms} ms, votes at {timing.vote_ms} ms, leaders by {genesis.leader_rule.name.lower()}",
        f"periods    HOUR {timing.hour_slots} slots, ERA {timing.era_hours} HOURs, MONTH {timing.month_hours} HOURs, window {timing.window_days} days",
        f"admission  2^{genesis.admission_bits} hashes",
    ]
    lines += [f"{'founder' if at else 'server':<11}{node.hex()}" for at, node in enumerate(genesis.founders)]
    return lines + [f"bootstrap  {one.node.hex()}@{where}" for one in terms.bootstrap for where in one.addresses]


def _show(signed: Signed, terms: NetworkTerms, console: Console, more: dict[str, object]) -> None:
    for line in _lines(terms):
        console.say(f"  {line}")
    console.draw(lambda columns: _picture(signed, terms, columns))
    genesis = terms.genesis
    timing = {field.name: getattr(genesis.timing, field.name) for field in fields(Timing)}
    bootstrap = [{"node": one.node, "addresses": list(one.addresses)} for one in terms.bootstrap]
    facts = {
        "network": terms.network,
        "name": genesis.name,
        "mode": genesis.mode.name.lower(),
        "created": genesis.created,
        "sequence": terms.sequence,
        "issued": terms.issued,
        "author": genesis.author,
        "founders": list(genesis.founders),
        "leader_rule": genesis.leader_rule.name.lower(),
        "admission_bits": genesis.admission_bits,
        "transport": genesis.carrier.name.lower(),
        "bootstrap": bootstrap,
        "bytes": len(pack(signed)),
    }
    console.result(facts | timing | more)


def _picture(signed: Signed, terms: NetworkTerms, columns: int) -> str | None:
    """The whole file as a QR code; where that does not fit, the network's id and its first bootstrap address."""
    from node.qr import drawn

    first = [where for one in terms.bootstrap for where in one.addresses][:1]
    return drawn(qr_text(signed), columns) or drawn(" ".join([f"lucid-network:{terms.network.hex()}", *first]), columns)
