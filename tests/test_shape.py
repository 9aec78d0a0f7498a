"""The house rules that a machine can check, each shown to fire by a planted violation.

Which package may import which other is import-linter's (pyproject.toml); here is the rest. An exception to a rule is an entry in a table below,
with its reason.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("consensus", "pipeline", "node", "netsim")
VAGUE: Final = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "core"}
VAGUE_ENDINGS: Final = ("Manager", "Helper", "Helpers", "Util", "Utils", "Impl", "Base")
LINES_MAX, FUNCTION_LINES_MAX, DEPTH_MAX = 500, 70, 3

LIBRARIES: Final[dict[str, tuple[str, ...]]] = {
    # Where a library from outside may be imported: a file, or a folder with all below it.
    "trio": ("pipeline/", "node/", "netsim/rehearsal.py"),  # a rehearsal plays real hosts
    "blake3": ("consensus/", "pipeline/", "node/", "netsim/"),  # the hash that every format names
    "Crypto": ("consensus/ids.py",),
    "nacl": ("consensus/signing.py", "consensus/admission.py", "consensus/vrf.py", "node/wallet/", "node/tor/onion.py"),
    "cryptography": ("pipeline/seal.py", "pipeline/replica.py", "node/wallet/", "node/libp2p/handshake.py"),
    "zstandard": ("pipeline/chunk.py", "pipeline/seal.py"),
    "Xlib": ("pipeline/audit.py", "pipeline/testcard.py"),
    "lmdb": ("node/store/",),
    "google": ("node/overlay/wire.py", "node/overlay/protobufs.py", "node/libp2p/handshake.py"),
    "noise": ("node/libp2p/handshake.py",),
    "matplotlib": ("netsim/figures.py",),
    "segno": ("node/qr.py",),
    "pycrdt": ("node/store/index.py",),
    **dict.fromkeys(
        ("coincurve", "eth", "eth_abi", "eth_bloom", "eth_keys", "eth_utils", "h11", "rlp", "trie"), ("node/chain/",)
    ),
}
ENVIRONMENT: Final = (
    "node/config.py",
    "node/demo.py",
    "pipeline/desktop.py",  # libX11 and python-xlib take the cookie's file from XAUTHORITY and from nowhere else
)
PRINTING: Final = (
    "node/cli.py",
    "node/console.py",
    "node/demo.py",
    "node/tor/network.py",
    "node/render",
    "pipeline/testcard.py",
    "netsim/__main__.py",
    "netsim/live.py",
)
SUPERVISING: Final = ("node/cli.py", "node/daemon.py", "netsim/world.py")
"""May catch every exception: they are where a failure becomes a sentence."""
STATEFUL: Final = {
    # Public dataclasses that are not frozen with slots: none of them is a record. A module's private working state is its own affair.
    "Console": "where the words of a command go",
    "Cutter": "the cut so far",
    "Measures": "what a run has shown so far",
    "Stage": "a world that is being run",
    "Journal": "an open file and what it holds",
    "Progress": "a line that is overwritten",
    "SessionKeys": "keeps derived keys in its dict",
}

TOP_LEVEL: Final = {
    *PACKAGES,
    "contracts",
    "tests",
    ".ci",
    ".gitignore",
    "LICENSE",
    "README.md",
    "lucid",
    "pyproject.toml",
} | {
    "requirements.lock",
    "requirements-dev.lock",
}
MACHINE: Final = re.compile(r"(?<![\w.~}])/(?:work|root|home/\w+)/")
REGISTRY: Final = re.compile(
    r"\b(?:pypi|npmjs|[\w-]*pythonhosted|registry|artifactory|deb|mirrors?)\.[\w.-]*\b(?:org|com|net|io|dev)\b"
)


def complaints(sources: Mapping[str, str]) -> list[str]:
    """What is wrong with modules, given as path from the root to text; a sentence each, starting with the place."""
    wrong: list[str] = []
    classes: Counter[str] = Counter()
    for path, text in sources.items():
        tree = ast.parse(text)
        wrong += [f"{path}: {sentence}" for sentence in of_module(PurePosixPath(path), text, tree)]
        for item in ast.walk(tree):
            wrong += [f"{path}:{getattr(item, 'lineno', 0)}: {sentence}" for sentence in of_item(path, item)]
            if isinstance(item, ast.ClassDef):
                classes[item.name] += 1
    return wrong + [f"class {name} is defined {n} times" for name, n in classes.items() if n > 1]


def of_module(path: PurePosixPath, text: str, tree: ast.Module) -> Iterator[str]:
    if len(text.splitlines()) > LINES_MAX:
        yield f"over {LINES_MAX} lines"
    if len(path.parts) > DEPTH_MAX:
        yield "nested deeper than package/part/module"
    if {path.stem, *path.parts} & VAGUE:
        yield "a name that says nothing"
    if not ast.get_docstring(tree):
        yield "no module docstring"
    elif len(tree.body) == 1 and path.stem != "__init__":
        yield "a module without content"
    for item in tree.body:
        match item:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if not item.name.startswith("_") and not ast.get_docstring(item):
                    yield f"{item.name} is public and has no docstring"
            case _:
                pass


def of_item(path: str, item: ast.AST) -> Iterator[str]:
    match item:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            if (item.end_lineno or 0) - item.lineno >= FUNCTION_LINES_MAX:
                yield f"{item.name} has over {FUNCTION_LINES_MAX} lines"
        case ast.ClassDef():
            if item.name.endswith(VAGUE_ENDINGS):
                yield f"{item.name}: name the thing it is"
            if not item.name.startswith("_") and item.name not in STATEFUL and any(map(is_loose, item.decorator_list)):
                yield f"{item.name} is a dataclass without frozen=True, slots=True"
        case ast.Attribute(value=ast.Name(id="sys"), attr="path"):
            yield "touches sys.path"
        case ast.Attribute(value=ast.Name(id="os"), attr=("environ" | "environb" | "getenv" | "putenv") as variable):
            if path not in ENVIRONMENT:
                yield f"os.{variable} outside {', '.join(ENVIRONMENT)}"
        case ast.Call(func=ast.Name(id="print")):
            if not path.startswith(PRINTING):
                yield f"prints outside {', '.join(PRINTING)}"
        case ast.ExceptHandler(type=None | ast.Name(id="Exception" | "BaseException"), body=body):
            if path not in SUPERVISING and not (isinstance(body[-1], ast.Raise) and body[-1].exc is None):
                yield "catches every exception and does not raise it again"
        case ast.Import(names=names):
            for name in names:
                yield from of_import(path, name.name, ())
        case ast.ImportFrom(module=module, names=names, level=level):
            yield from of_import(path, "." * level + (module or ""), [name.name for name in names])
        case _:
            pass


def is_loose(decorator: ast.expr) -> bool:
    """Whether it is a dataclass decorator that leaves the records open to change or with a dict."""
    match decorator:
        case ast.Name(id="dataclass"):
            return True
        case ast.Call(func=ast.Name(id="dataclass"), keywords=keywords):
            on = {
                keyword.arg
                for keyword in keywords
                if isinstance(keyword.value, ast.Constant) and keyword.value.value is True
            }
            return not {"frozen", "slots"} <= on
        case _:
            return False


def of_import(path: str, module: str, names: list[str] | tuple[()]) -> Iterator[str]:
    top = module.partition(".")[0]
    if not top:
        yield "a relative import: write the whole name"
    elif top in {"os", "sys"} and set(names) & {"environ", "environb", "getenv", "putenv", "path"} - (
        {"path"} if top == "os" else set()
    ):
        yield f"imports {', '.join(names)} from {top}: write {top}.NAME, which the other rules see"
    elif top == "dataclasses" and not names:
        yield "imports dataclasses whole: import the name, which the other rules see"
    elif top not in LIBRARIES and top not in sys.stdlib_module_names and top not in PACKAGES:
        yield f"{top} is in no row of LIBRARIES"
    elif top in LIBRARIES and not path.startswith(LIBRARIES[top]):
        yield f"{top} is imported outside {', '.join(LIBRARIES[top])}"


def file_complaints(files: Mapping[str, str]) -> list[str]:
    """What is wrong with the files that a commit would hold, given as path from the root to text."""
    wrong = [
        f"{name}: not a part of the fixed top level"
        for name in sorted({path.partition("/")[0] for path in files} - TOP_LEVEL)
    ]
    folders = {str(PurePosixPath(path).parent) for path in files if path.endswith(".py")}
    # With only some of them pytest imports tests/node as `node`, and shadows the package.
    wrong += [f"{folder}: no __init__.py" for folder in sorted(folders) if f"{folder}/__init__.py" not in files]
    for path, text in files.items():
        for number, line in enumerate(text.splitlines(), 1):
            if found := MACHINE.search(line) or REGISTRY.search(line):
                wrong.append(f"{path}:{number}: names a machine's path or a package registry: {found[0]}")
    return wrong


def our_files() -> dict[str, str]:
    """What the next commit could hold: tracked files and new ones that are not ignored, empty when git does not know."""
    git = shutil.which("git")
    if git is None:
        return {}
    command = [git, "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, check=False, cwd=ROOT, capture_output=True).stdout.decode()
    paths = [ROOT / name for name in listing.split("\0") if name]
    return {path.relative_to(ROOT).as_posix(): path.read_text(errors="replace") for path in paths if path.is_file()}


def modules() -> dict[str, str]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}


def test_the_modules_keep_the_house_rules() -> None:
    sources = modules()
    assert {f"{package}/__init__.py" for package in PACKAGES} <= sources.keys()
    assert not (wrong := complaints(sources)), "\n".join(wrong)


def test_every_stateful_dataclass_of_the_table_exists() -> None:
    defined = {
        item.name for text in modules().values() for item in ast.walk(ast.parse(text)) if isinstance(item, ast.ClassDef)
    }
    assert STATEFUL.keys() <= defined


def test_the_files_of_a_commit_keep_the_house_rules() -> None:
    files = our_files()
    if not files:
        pytest.skip("not a git checkout: nothing tells our files from others")
    assert "lucid" in files
    assert not (wrong := file_complaints(files)), "\n".join(wrong)


GOOD: Final = '"""It does one thing."""\n\nimport os\n\nX = os.sep\n'


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("node/a.py", GOOD + "#\n" * 500, "over 500 lines"),
        ("node/a/b/c.py", GOOD, "nested deeper"),
        ("node/utils.py", GOOD, "says nothing"),
        ("node/common/a.py", GOOD, "says nothing"),
        ("node/a.py", "X = 1\n", "no module docstring"),
        ("node/a.py", '"""Later."""\n', "without content"),
        ("node/a.py", GOOD + "def f():\n    return 1\n", "f is public and has no docstring"),
        ("node/a.py", GOOD + "def _f():\n" + "    f()\n" * 70, "_f has over 70 lines"),
        ("node/a.py", GOOD + "async def _f():\n" + "    f()\n" * 70, "_f has over 70 lines"),
        ("node/a.py", GOOD + "class _PeerManager:\n    pass\n", "name the thing it is"),
        (
            "node/a.py",
            GOOD + "class _A:\n    pass\ndef _f():\n    class _A:\n        pass\n",
            "class _A is defined 2 times",
        ),
        ("node/a.py", GOOD + "@dataclass\nclass A:\n    'It.'\n", "without frozen=True, slots=True"),
        (
            "node/a.py",
            GOOD + "@dataclass(frozen=True, slots=False)\nclass A:\n    'It.'\n",
            "without frozen=True, slots=True",
        ),
        ("node/a.py", GOOD + "import dataclasses\n", "imports dataclasses whole"),
        ("node/a.py", GOOD + "import sys\nsys.path.append('')\n", "touches sys.path"),
        ("node/a.py", GOOD + "from sys import path\n", "from sys"),
        ("node/a.py", GOOD + "X = os.environ['A']\n", "os.environ outside"),
        ("node/a.py", GOOD + "X = os.getenv('A')\n", "os.getenv outside"),
        ("node/a.py", GOOD + "from os import environ\n", "from os"),
        ("node/a.py", GOOD + "print(1)\n", "prints outside"),
        ("node/a.py", GOOD + "try:\n    f()\nexcept Exception:\n    g()\n", "catches every exception"),
        ("node/a.py", GOOD + "try:\n    f()\nexcept:\n    raise E\n", "catches every exception"),
        ("node/a.py", GOOD + "from . import b\n", "a relative import"),
        ("node/a.py", GOOD + "import requests.api\n", "requests is in no row"),
        ("node/a.py", GOOD + "import lmdb\n", "lmdb is imported outside"),
        ("consensus/a.py", GOOD + "from trio import sleep\n", "trio is imported outside"),
        (
            "pipeline/a.py",
            GOOD + "def _f():\n    from cryptography.hazmat import x\n",
            "cryptography is imported outside",
        ),
    ],
)
def test_each_rule_for_modules_fires(path: str, text: str, complaint: str) -> None:
    found = complaints({path: text})
    assert len(found) == 1
    assert complaint in found[0]


KEPT: Final = """
import lmdb
from os import path

@dataclass(frozen=True, slots=True)
class Thing:
    "A thing."

@dataclass
class Journal:
    "In the table."

@dataclass
class _State:
    x: int

try:
    f()
except BaseException:
    g()
    raise
"""


def test_a_module_that_keeps_the_rules_is_not_complained_about() -> None:
    assert complaints({"node/store/a.py": GOOD + KEPT}) == []
    assert complaints({"node/config.py": GOOD + "X = os.environ\n", "node/cli.py": GOOD + "print(1)\n"}) == []


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("docs/plan.md", "", "docs: not a part of the fixed top level"),
        ("tests/x/test_a.py", "", "tests/x: no __init__.py"),
        ("README.md", "see /" + "work/main/x", "README.md:1: names"),
        ("README.md", "\n`/" + "home/me/x`", "README.md:2: names"),
        ("lucid", "pip -i https://py" + "pi.org/simple", "lucid:1: names"),
        ("lucid", "https://files.python" + "hosted.org/x", "lucid:1: names"),
    ],
)
def test_each_rule_for_files_fires(path: str, text: str, complaint: str) -> None:
    found = file_complaints({path: text})
    assert len(found) == 1
    assert complaint in found[0]


def test_shell_scripts_are_executable_and_pass_shellcheck() -> None:
    scripts = [ROOT / "lucid", ROOT / ".ci" / "run"]
    assert all(os.access(script, os.X_OK) for script in scripts)
    assert scripts[0].read_text().startswith("#!/bin/sh\n")
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    checked = subprocess.run([shellcheck, *scripts], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_nobody_else_owns_our_names() -> None:
    owners = packages_distributions()
    for name in PACKAGES:
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        assert Path(spec.origin).is_relative_to(ROOT)
        assert set(owners.get(name, ())) <= {"lucid-node"}
