"""`./lucid contracts [--check]`: compile the contracts anew, and write or compare their artefacts and what calls cost.

Exit codes: 0 done, or all as it is committed; 1 something differs, or does not compile.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.contracts.compiler import BUILT, GAS, DoesNotCompile, compile_into
from tests.contracts.gas import measured


def main() -> int:
    """Compile into a folder of its own first: what does not compile changes nothing."""
    parser = argparse.ArgumentParser(prog="lucid contracts", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if anything differs")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory(prefix="lucid-contracts-") as name:
        try:
            made = {file.name: file.read_text() for file in compile_into(Path(name))}
        except DoesNotCompile as error:
            print(error, file=sys.stderr)
            return 1
    differ = sorted(
        name for name, text in made.items() if not (BUILT / name).exists() or (BUILT / name).read_text() != text
    )
    differ += sorted(file.name for file in BUILT.glob("*.json") if file.name not in made)
    if not check:
        BUILT.mkdir(exist_ok=True)
        for name in differ:
            if name in made:
                (BUILT / name).write_text(made[name])
            else:
                (BUILT / name).unlink()
    for name in differ:
        print(f"{'differs' if check else 'written'}: contracts/built/{name}")
    if check and differ:
        return 1
    gas = json.dumps(measured(), indent=1) + "\n"
    is_other = not GAS.exists() or GAS.read_text() != gas
    if is_other and not check:
        GAS.write_text(gas)
    if is_other:
        print(f"{'differs' if check else 'written'}: contracts/gas.json")
    print(f"{len(made)} contracts, {len(json.loads(gas))} calls")
    return int(check and is_other)


if __name__ == "__main__":
    sys.exit(main())
