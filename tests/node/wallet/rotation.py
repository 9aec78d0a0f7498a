"""A rotation killed before every single call that its code makes, one child process for each; run by test_rotation.

python -m tests.node.wallet.rotation VAULT      prints how many kills there were; exit 1, with a sentence, at a broken promise
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from node.wallet.rotation import rotate
from node.wallet.vault import Secrets, open_vault

WATCHED = ("rotation.py", "durable.py", "pathlib.py")
"""Files whose calls into C are kill points; between two of them nothing reaches the disk."""


def killed_before(call: int, vault: Path) -> bool:
    """Rotate in a child that kills itself before its call of that number; whether it got that far."""
    child = os.fork()
    if child == 0:
        made = 0

        def count(frame: FrameType, event: str, _what: Any) -> None:
            nonlocal made
            if event == "c_call" and Path(frame.f_code.co_filename).name in WATCHED:
                made += 1
                if made == call:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        rotate(vault, None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main(vault: Path) -> int:
    """Kill until a rotation ends by itself."""
    kills, before = 0, open_vault(vault.read_bytes(), None)
    kept = before
    while killed_before(kills + 1, vault):
        kills += 1
        after = open_vault(vault.read_bytes(), None)
        if not (after == before or _is_next(after, before)):
            print(f"kill {kills}: the vault is neither the old one nor the next")
            return 1
        before = after
    last = open_vault(vault.read_bytes(), None)
    if not _is_next(last, before) or [*vault.parent.iterdir()] != [vault]:
        print("the rotation after all kills is not whole, or leaves something behind")
        return 1
    print(kills, len(before.masters) - len(kept.masters))
    return 0


def _is_next(after: Secrets, before: Secrets) -> bool:
    same = (after.identity_seed, after.account_key) == (before.identity_seed, before.account_key)
    return same and after.masters[:-1] == before.masters


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
