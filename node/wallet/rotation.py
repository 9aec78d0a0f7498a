"""A new generation of the master key, or of the account's, put into a vault that is never without one that opens.

    lock the folder → read, open → add a generation → close, open again to be sure → replace the file (pipeline/durable)

Old generations stay: the sessions that were recorded under them keep their keys, and what an account opened on the chain it
still closes. Whoever copied the keys before a rotation can open nothing that is recorded after it, and sign nothing for it.
"""

import fcntl
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from node.exits import Unavailable, Usage
from node.wallet.vault import Secrets, close, open_vault
from pipeline import durable

GENERATIONS_MAX: Final = 1000
"""What the form of a vault has room for."""


def rotate(file: Path, phrase: bytes | None, *, account: bool = False) -> Secrets:
    """The secrets with a new newest master key, durable in the vault when this returns; a kill leaves the old or the new.

    With `account` it is the account that gets a new key, and the master keys stay.

    Raises Unavailable for a wrong passphrase or a disk that does not take it, Usage for a vault that is damaged or full.
    Costs three times what opening it does.
    """
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # of two rotations side by side one would be lost, with what it had sealed
        old = open_vault(file.read_bytes(), phrase)
        if account and len(old.former) >= GENERATIONS_MAX:
            raise Usage(f"the vault has had {GENERATIONS_MAX} accounts and takes no more")
        if account:
            new = replace(old, account_key=os.urandom(32), former=(*old.former, old.account_key))
        elif len(old.masters) >= GENERATIONS_MAX:
            raise Usage(f"the vault has {GENERATIONS_MAX} master keys and takes no more")
        else:
            new = replace(old, masters=(*old.masters, os.urandom(32)))
        data = close(new, phrase)
        assert open_vault(data, phrase) == new
        durable.replace(file, data)
    except OSError as error:
        raise Unavailable(f"{file} cannot be rewritten ({error.strerror}): it is as it was") from error
    finally:
        os.close(folder)
    return new
