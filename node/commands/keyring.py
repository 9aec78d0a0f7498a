"""keys export, import, rotate, drill and reader: a home's keys brought out and in, renewed, tried; and one for another's onion."""

import argparse
import base64
import os
import time
from pathlib import Path
from typing import Any

from consensus.ids import Millis
from node.commands.inspection import reading
from node.config import Home
from node.console import Console
from node.control.client import answers
from node.exits import DONE, NO, Unavailable, Usage
from node.keys import new_passphrase, open_data, passphrase_of, unlock, vault_bytes
from node.sessions.drill import Drill, drill, keep
from node.sessions.records import load, sessions
from node.store.files import ChunkFiles
from node.tor.onion import reader_key
from node.wallet.rotation import rotate
from node.wallet.vault import Secrets, close
from pipeline import durable
from pipeline.manifest import Chunk


def put(file: Path, data: bytes) -> None:
    """A new file of keys; raises Usage where there is one, Unavailable where none can be."""
    try:
        durable.create(file, data)
    except FileExistsError:
        raise Usage(f"{file} exists already; nothing was changed") from None
    except OSError as error:
        raise Unavailable(f"{file} cannot be written: {error.strerror}") from error


def say_keys(home: Home, secrets: Secrets, console: Console, more: dict[str, object] | None = None) -> None:
    """Say what is public of a home's keys, and the result of a command with it."""
    identity, address = secrets.identity.public, secrets.address
    console.say(f"  identity  {identity.hex()}")
    console.say(f"  account   0x{address.hex()}")
    facts = {"home": str(home.path), "identity": identity, "account": address, "generations": len(secrets.masters)}
    console.result(facts | (more or {}))


def _exported(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise Unavailable(f"{file} cannot be read: {error.strerror}") from error


def export_keys(args: argparse.Namespace, home: Home, console: Console) -> int:
    """Write the keys to a file under a passphrase of its own."""
    home.check()
    secrets = unlock(home, args.passphrase_file)
    phrase = new_passphrase(args.export_passphrase_file or args.passphrase_file, "the exported keys")
    put(Path(args.out), close(secrets, phrase))
    console.say(f"Exported the keys to {args.out}. Try them: `lucid-node keys drill --from {args.out}`.")
    say_keys(home, secrets, console)
    return DONE


def import_keys(args: argparse.Namespace, home: Home, console: Console) -> int:
    """Make a home from exported keys."""
    data = _exported(args.file)
    if home.vault.exists():
        raise Usage(f"{home.path} has keys already; choose another home with --home, nothing was changed")
    secrets = open_data(data, args.passphrase_file, args.file)
    phrase = new_passphrase(args.vault_passphrase_file or args.passphrase_file, "the key vault")
    sealed = close(secrets, phrase)
    home.create()
    put(home.vault, sealed)
    console.say(f"Imported the keys into {home.path}.")
    say_keys(home, secrets, console)
    return DONE


def rotate_keys(args: argparse.Namespace, home: Home, console: Console) -> int:
    """Add a master key under which sessions are recorded from now on."""
    home.check()
    if answers(home.path):
        raise Unavailable(f"the node of {home.path} runs, and it holds the keys as they are: stop it, then rotate")
    phrase = passphrase_of(vault_bytes(home), args.passphrase_file, str(home.vault))
    secrets = rotate(home.vault, phrase, account=args.account)
    if args.account:
        console.say(
            f"The account is now 0x{secrets.address.hex()}: the next registration binds it to this node's identity."
        )
        console.say("What the former one opened on the chain it still closes; its LUCID and its coins stay its own.")
    else:
        console.say(f"Sessions are now recorded under master key {len(secrets.masters) - 1}. Older ones keep theirs.")
    console.say(
        "Exports made before do not hold it: `lucid-node keys export --out FILE`, then `keys drill --from FILE`."
    )
    say_keys(home, secrets, console)
    return DONE


def make_reader(args: argparse.Namespace, home: Home, console: Console) -> int:
    """Make the key of whoever shall reach a node's JSON-RPC by its onion; nothing is kept of it here."""
    del args, home
    secret = os.urandom(32)
    key, spelled = reader_key(secret), base64.b32encode(secret).decode().rstrip("=")
    console.say(f"  key     {key}")
    console.say(f"  secret  {spelled}")
    console.say("On the node: network.rpc_reader in config.toml is the key; `lucid-node status` then tells its onion.")
    console.say(
        "Here: a file NAME.auth_private in the ClientOnionAuthDir of your tor, with the line "
        f'ONION:descriptor:x25519:{spelled}, without ".onion".'
    )
    console.result({"key": key, "secret": spelled})
    return DONE


def drill_keys(args: argparse.Namespace, home: Home, console: Console) -> int:
    """Try exported keys on this home's recordings; exit 1 when a lost disk would lose something."""
    home.check()
    held = unlock(home, args.passphrase_file)
    option = args.export_passphrase_file or args.passphrase_file
    exported = open_data(_exported(args.file), option, args.file)
    files, now = ChunkFiles(home.chunks), Millis(time.time_ns() // 1_000_000)

    def read(chunk: Chunk) -> bytes | None:
        try:
            return files.read(chunk.file)
        except KeyError:
            return None
        except OSError as error:
            raise Unavailable(f"{files.path(chunk.file)} cannot be read ({error.strerror}): the disk fails") from error

    name = os.path.abspath(args.file)
    if (home.store / "data.mdb").exists():
        with reading(home) as reader:
            kept = (one for session in sessions(reader) if (one := load(reader, session)) is not None)
            found = drill(now, name, exported, held, kept, read)
    else:
        found = drill(now, name, exported, held, (), read)
    try:
        keep(home.drill, found)
    except OSError as error:
        raise Unavailable(f"{home.drill} cannot be written: {error.strerror}") from error
    if found.faults:
        console.say(f"NOT SAFE: {args.file} would not bring back everything.")
        for fault in found.faults:
            console.say(f"  {fault}")
    else:
        console.say(
            f"{args.file} brings back the identity, {found.generations} master keys and {found.sessions} sessions."
        )
        console.say(f"{found.opened} chunks were opened with it alone.")
    console.result({"ok": not found.faults, "drill": told(found)})
    return NO if found.faults else DONE


def told(found: Drill | None) -> dict[str, Any] | None:
    """What a drill found, as --json tells it."""
    if found is None:
        return None
    return {
        "at": found.at,
        "file": found.file,
        "generations": found.generations,
        "sessions": found.sessions,
        "opened": found.opened,
        "faults": list(found.faults),
    }
