"""Which pinned dependencies have no ready-made wheel for aarch64: `python -m tests.wheels`, asking the package index.

An appliance with an ARM processor has no compiler, so such a dependency would have to be built elsewhere. What the last look found stands
in pyproject.toml under `tool.lucid.wheels`, next to the digest of the pins that it looked at; the unit tests keep the two together.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PYTHONS: Final = ("3.11", "3.12")
"""Those of Debian 12 and Ubuntu 24.04."""


def pins(lock: str) -> dict[str, str]:
    """Name to version of each package in the text of a lock file."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", lock, flags=re.MULTILINE))


def digest(lock: str) -> str:
    """SHA-256 in hex over the sorted pins of a lock file, so that a change of comments or hashes asks for no new look."""
    return hashlib.sha256(
        "\n".join(f"{name}=={version}" for name, version in sorted(pins(lock).items())).encode()
    ).hexdigest()


def recorded() -> dict[str, object]:
    """What pyproject.toml says the last look found: `pins`, a digest, and `missing`, sorted names."""
    table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["lucid"]["wheels"]
    return table


def lacks_wheel(name: str, version: str, folder: Path) -> bool:
    """Whether the index has no wheel of the release that an aarch64 machine with glibc 2.28 or newer could install."""
    platforms = [f"--platform=manylinux{tag}_aarch64" for tag in ("_2_28", "_2_17", "2014")]
    for python in PYTHONS:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
        ]
        command += [*platforms, f"--python-version={python}", f"--dest={folder}", f"{name}=={version}"]
        if subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True).returncode:
            return True
    return False


def main() -> int:
    """Prints what it found and compares it with the record; exit code 1 when the record has to be brought up to date."""
    lock = (ROOT / "requirements.lock").read_text()
    with tempfile.TemporaryDirectory(prefix="lucid-wheels-") as folder:
        missing = [name for name, version in sorted(pins(lock).items()) if lacks_wheel(name, version, Path(folder))]
    found = {"pins": digest(lock), "missing": missing}
    print(f"{len(pins(lock))} packages; without a wheel for aarch64: {', '.join(missing) or 'none'}")
    if found == recorded():
        return 0
    print(
        f'pyproject.toml records something else; put there:\n\n[tool.lucid.wheels]\npins = "{found["pins"]}"\nmissing = {missing}'
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
