"""A home's vault opened with the passphrase that the user gives: from a file, the environment or the terminal."""

import getpass
import resource
import sys
from pathlib import Path

from node.config import Home, passphrase_file
from node.exits import Unavailable, Usage
from node.wallet.vault import Secrets, needs_passphrase, open_vault

PASSPHRASE_BYTES_MIN = 8


def from_file(name: str) -> bytes:
    """The passphrase in a file: its first line, without the line's end. Raises Usage."""
    try:
        text = Path(name).read_bytes().split(b"\n", 1)[0].rstrip(b"\r")
    except OSError as error:
        raise Usage(f"the passphrase file {name} cannot be read: {error.strerror}") from error
    if not text:
        raise Usage(f"the passphrase file {name} is empty: its first line is the passphrase")
    return text


def new_passphrase(option: str | None, purpose: str) -> bytes:
    """A passphrase for something new, asked twice on a terminal; raises Usage when there is no way to get one."""
    if name := passphrase_file(option):
        phrase = from_file(name)
    elif sys.stdin.isatty():
        phrase = getpass.getpass(f"Passphrase for {purpose}: ").encode()
        if phrase != getpass.getpass("Once more: ").encode():
            raise Usage("the two passphrases differ; nothing was written")
    else:
        raise Usage(
            f"{purpose} needs a passphrase: put one in a file and name it with --passphrase-file or LUCID_PASSPHRASE_FILE"
        )
    if len(phrase) < PASSPHRASE_BYTES_MIN:
        raise Usage(f"the passphrase is too short: take {PASSPHRASE_BYTES_MIN} characters or more")
    return phrase


def unlock(home: Home, option: str | None) -> Secrets:
    """The secrets of a home; raises Unavailable for a wrong passphrase, Usage when none can be had."""
    return open_data(vault_bytes(home), option, str(home.vault))


def vault_bytes(home: Home) -> bytes:
    """A home's vault as it lies there; raises Unavailable."""
    try:
        return home.vault.read_bytes()
    except FileNotFoundError:
        raise Unavailable(
            f"{home.path} has no key vault: `lucid-node init` makes one, `keys import` brings one back"
        ) from None
    except OSError as error:
        raise Unavailable(f"{home.vault} cannot be read ({error.strerror}): check its owner and permissions") from error


def open_data(data: bytes, option: str | None, what: str) -> Secrets:
    """The secrets in a vault's bytes; from now on this process leaves no core dump."""
    return open_vault(data, passphrase_of(data, option, what))


def passphrase_of(data: bytes, option: str | None, what: str) -> bytes | None:
    """The passphrase that a vault's bytes need, None for those in the clear; from now on this process leaves no core dump.

    Raises Usage when there is no way to get one.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not needs_passphrase(data):
        return None
    if name := passphrase_file(option):
        return from_file(name)
    if sys.stdin.isatty():
        return getpass.getpass(f"Passphrase of {what}: ").encode()
    raise Usage(f"{what} is closed: give its passphrase in a file with --passphrase-file or LUCID_PASSPHRASE_FILE")
