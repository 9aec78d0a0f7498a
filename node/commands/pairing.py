"""pair offer, pair devices and init --pair: an owner's keys handed to a second device, which has an identity of its own."""

import argparse
import getpass
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import trio

from consensus.encoding import Malformed
from consensus.ids import Millis, NodeId
from consensus.records import pack, unpack
from node.commands.annotating import asked
from node.commands.keyring import put
from node.commands.networks import text_of
from node.config import Home
from node.console import Console, moment
from node.exits import DONE, NO, Unavailable, Usage
from node.keys import from_file, unlock
from node.membership import load
from node.network import NetworkTerms, open_terms
from node.sessions.annotations import Annotations
from node.sessions.desk import opened
from node.store.index import NAME_MAX
from node.wallet import pairing
from node.wallet.pairing import LIFE_MS, Offer
from node.wallet.vault import Secrets
from pipeline.manifest import Signed


def offer(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node pair offer`."""
    home.check()
    name = _name(args.name)
    secrets = unlock(home, args.passphrase_file)
    network = pack(load(home.network)[0]) if home.network.exists() else b""
    now, code = _now(), pairing.new_code()
    made = Offer(NodeId(secrets.identity.public), name, now, secrets.masters, network)
    expires = Millis(now + LIFE_MS)
    number, text = pairing.seal(made, code, expires)
    put(Path(args.out), f"{text}\n".encode())
    _draw(text, console)
    console.say(f"Code  {code}")
    console.say(
        f"Bring {args.out} to the new device and type there, before {moment(expires)}: `lucid-node init --pair FILE`."
    )
    console.say("Whoever has both the file and the code has your keys: bring them by different ways, and keep neither.")
    console.result({"file": args.out, "code": code, "expires": expires, "offer": number})
    return DONE


def _draw(text: str, console: Console) -> None:
    from node.qr import drawn

    if console.is_live and (picture := drawn(text.upper(), shutil.get_terminal_size().columns)) is not None:
        console.say(picture)


def devices(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node pair devices`: exit 1 when two devices came by one offer."""
    found = asked(args, home, "devices", {})["devices"]
    for row in found:
        mark = "  CAME BY AN OFFER THAT WAS USED TWICE" if row["reused"] else ""
        console.say(f"{row['node'][:12]}  {moment(row['at'])}  {row['name']}{mark}")
    reused = any(row["reused"] for row in found)
    if reused:
        console.say("An offer is for one device: if you know only one of these, `lucid-node keys rotate` on it.")
    if not found:
        console.say("No other device was paired: `lucid-node pair offer --out FILE` makes an offer.")
    console.result({"devices": found, "ok": not reused})
    return NO if reused else DONE


@dataclass(frozen=True, slots=True)
class TakenOffer:
    """What `init --pair` was given, opened."""

    file: Path | None
    number: bytes
    offer: Offer
    name: str
    network: tuple[str, NetworkTerms] | None
    """The text to keep and its terms."""

    def secrets(self) -> Secrets:
        """The owner's master keys with an identity and an account that are new."""
        return Secrets(os.urandom(32), os.urandom(32), self.offer.masters)

    def introduce(self, home: Home, secrets: Secrets) -> None:
        """Say in the owner's index that there are two devices; raises Unavailable."""
        first, me, at = self.offer, NodeId(secrets.identity.public), _now()

        async def say() -> None:
            async with opened(home, home.config(), secrets) as desk:
                await Annotations(desk.store, desk.chunks, secrets).edit(
                    lambda index: index.add_device(first.origin, first.made, first.name),
                    lambda index: index.add_device(me, at, self.name, self.number),
                )

        try:
            trio.run(say)
        except OSError as error:
            raise Unavailable(f"{home.store} cannot be written: {error.strerror or error}") from error

    def end(self, console: Console) -> None:
        """Remove the offer's file: it was for one device."""
        console.say(f"  owner     that of {self.offer.name}; what is said of sessions on either is seen on both")
        if self.file is None:
            return
        try:
            self.file.unlink()
        except OSError as error:
            console.warn(f"{self.file} has been used and cannot be removed ({error.strerror}): destroy it")


def take(args: argparse.Namespace) -> TakenOffer:
    """The offer that --pair names, opened with its code. Raises Refuted, Unavailable, Usage; nothing has changed then."""
    file = None if pairing.is_text(args.pair) else Path(args.pair)
    try:
        text = args.pair if file is None else file.read_text(encoding="ascii")
    except OSError as error:
        raise Unavailable(f"{args.pair} cannot be read ({error.strerror}); an offer is used once") from error
    except UnicodeDecodeError:
        raise Usage(f"{args.pair} is no offer to pair a device: make one with `lucid-node pair offer`") from None
    name, sealed = _name(args.name), pairing.read(text)
    found = pairing.unseal(sealed, _code(args.code_file), _now())
    if found.network and args.network:
        raise Usage("the offer names the network: leave --network out; nothing was changed")
    return TakenOffer(file, sealed.offer, found, name, _network(found.network))


def _network(record: bytes) -> tuple[str, NetworkTerms] | None:
    if not record:
        return None
    try:
        signed = unpack(Signed, record)
        terms = open_terms(signed)
    except Malformed as error:
        raise Usage(f"the offer's network is none that can be trusted ({error}); nothing was changed") from error
    return text_of(signed, terms), terms


def _code(file: str | None) -> str:
    if file is not None:
        return from_file(file).decode("utf-8", "replace")
    if sys.stdin.isatty():
        return getpass.getpass("Code of the offer: ")
    raise Usage("the offer needs its code: put it in a file and name that with --code-file")


def _name(chosen: str | None) -> str:
    name: str = os.uname().nodename[:NAME_MAX] if chosen is None else chosen
    if not (0 < len(name) <= NAME_MAX and name.isprintable()):
        raise Usage(f"a device's name has 1 to {NAME_MAX} characters that can be printed")
    return name


def _now() -> Millis:
    return Millis(time.time_ns() // 1_000_000)
