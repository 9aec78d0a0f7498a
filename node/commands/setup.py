"""init and doctor: a home made, and what this machine and this home lack."""

import argparse
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from consensus.ids import Millis
from node.commands.inspection import reading
from node.commands.keyring import put, say_keys, told
from node.commands.networks import check_file
from node.config import Home, display
from node.console import Console, moment, size
from node.exits import DONE, NO, Ended, Unavailable, Usage
from node.keys import new_passphrase
from node.membership import carrier_of, joined, keep
from node.sessions.drill import last, mend
from node.sessions.records import load, sessions
from node.wallet.vault import Secrets, close

if TYPE_CHECKING:
    from node.commands.pairing import TakenOffer

QUOTA_GB_MAX: Final = 50
"""Offered at most, and a fifth of what is free."""


def init(args: argparse.Namespace, home: Home, console: Console) -> int:
    """Make a home with new keys, in a network if one is given; refuses to overwrite one."""
    if home.vault.exists():
        raise Usage(f"{home.path} is a node's home already; choose another with --home, nothing was changed")
    pair = _taken_offer(args)
    network = check_file(args.network) if args.network else pair.network if pair else None
    quota = _quota(args, home, console, joins=network is not None)
    phrase = None if args.insecure_plaintext_keys else new_passphrase(args.passphrase_file, "the key vault")
    secrets = pair.secrets() if pair else Secrets.generate()
    data = close(secrets, phrase)
    home.create({} if quota is None else {"quota_gb": quota, "replicas_gb": quota})
    if network is not None:
        carrier_of(home, network[1])
        keep(home, network[0], first=not home.network.exists())
    if pair is not None:
        pair.introduce(home, secrets)
    put(home.vault, data)  # the last: a home counts as one from here on
    if phrase is None:
        console.warn("the keys stand in the clear: for tests only")
    console.say(f"Made {home.path}.")
    if network is not None:
        console.say(f"  network   {network[1].genesis.name} {network[1].network.hex()}")
    if quota is not None:
        console.say(f"  disk      {quota} GB for your own chunks, {quota} GB for those of others (config.toml)")
    more: dict[str, object] = {"network": network[1].network if network else None, "quota_gb": quota}
    if pair is not None:
        pair.end(console)
        more["paired_with"] = pair.offer.origin
    say_keys(home, secrets, console, more)
    console.say("Back the keys up now: `lucid-node keys export --out FILE`. Without them no recording can be played.")
    return DONE


def _taken_offer(args: argparse.Namespace) -> "TakenOffer | None":
    """With --pair, what another device of the owner offers; loaded only then."""
    if not args.pair:
        return None
    from node.commands.pairing import take

    return take(args)


def _quota(args: argparse.Namespace, home: Home, console: Console, *, joins: bool) -> int | None:
    """How many GB the node may take for its own chunks, and as many for others'; None leaves the settings as they come."""
    if args.quota_gb is not None or not joins:
        chosen: int | None = args.quota_gb
        return chosen
    usual = max(1, min(QUOTA_GB_MAX, _free_bytes(home) // 5_000_000_000))
    if console.as_json or not sys.stdin.isatty():
        return usual
    answer = input(f"Gigabytes of disk for your own chunks, and as many for those of others [{usual}]: ").strip()
    if not answer.isascii() or not (answer or "0").isdigit() or len(answer) > 6:
        raise Usage(f"{answer} is no number of gigabytes; nothing was changed")
    return int(answer or usual)


def _free_bytes(home: Home) -> int:
    folder = next(path for path in (home.path, *home.path.parents) if path.exists())
    return shutil.disk_usage(folder).free


def doctor(args: argparse.Namespace, home: Home, console: Console) -> int:
    """Check what this machine and this home need; exit 1 when something is wrong, each with a mend."""
    checks: list[tuple[str, str | None]] = []
    for name, find in _CHECKS.items():
        checks.append((name, find(home, args)))
    for name, wanted in checks:
        console.say(f"  {'ok  ' if wanted is None else 'MEND'}  {name}" + ("" if wanted is None else f": {wanted}"))
    tried = last(home.drill)
    if tried is not None:
        console.say(f"  The keys were last drilled at {moment(tried.at)}, from {tried.file}.")
    wrong = [{"check": name, "mend": wanted} for name, wanted in checks if wanted is not None]
    console.result({"ok": not wrong, "findings": wrong, "checked": [name for name, _ in checks], "drill": told(tried)})
    return NO if wrong else DONE


def _home(home: Home, _args: argparse.Namespace) -> str | None:
    try:
        home.check()
        home.config()
    except (Unavailable, Usage) as error:
        return str(error)
    mode = home.path.stat().st_mode & 0o077
    return f"others can look into it: chmod 700 {home.path}" if mode else None


def _vault(home: Home, _args: argparse.Namespace) -> str | None:
    if not home.vault.exists():
        return "there is no key vault: `lucid-node init` makes one"
    return f"others can read it: chmod 600 {home.vault}" if home.vault.stat().st_mode & 0o077 else None


def _drilled(home: Home, _args: argparse.Namespace) -> str | None:
    if not (home.store / "data.mdb").exists():
        return None
    try:
        with reading(home) as reader:
            used = [kept.opening.key_generation for kept in map(partial(load, reader), sessions(reader)) if kept]
    except Ended as error:
        return str(error)
    return mend(last(home.drill), used, Millis(time.time_ns() // 1_000_000))


def _disk(home: Home, _args: argparse.Namespace) -> str | None:
    free = _free_bytes(home)
    return f"only {size(free)} are free for {home.path}: free 1 GB or more" if free < 1_000_000_000 else None


def _network(home: Home, _args: argparse.Namespace) -> str | None:
    try:
        terms = joined(home)
        if terms is not None:
            carrier_of(home, terms)
    except (Unavailable, Usage) as error:
        return str(error)
    return None


def _program(name: str, package: str) -> Callable[[Home, argparse.Namespace], str | None]:
    def check(_home: Home, _args: argparse.Namespace) -> str | None:
        return None if shutil.which(name) else f"{name} is not installed: apt-get install {package}"

    return check


def _encoder(_home: Home, _args: argparse.Namespace) -> str | None:
    import trio

    from pipeline.capture import NoEncoder, probe

    async def first() -> str | None:
        try:
            await probe()
        except NoEncoder as error:
            return str(error)
        return None

    return trio.run(first)


def _screen(_home: Home, args: argparse.Namespace) -> str | None:
    import trio

    from pipeline.capture import screen_size
    from pipeline.desktop import NoDisplay

    name = args.display or display()
    if name is None:
        return "no display is set: name one with --display :N, or record a file with --input"
    try:
        trio.run(screen_size, name)
    except NoDisplay as error:
        return str(error)
    return None


def _python(_home: Home, _args: argparse.Namespace) -> str | None:
    found = platform.python_version_tuple()
    return (
        None
        if (int(found[0]), int(found[1])) >= (3, 11)
        else f"Python {platform.python_version()} is too old: 3.11 or later"
    )


def _clock(_home: Home, _args: argparse.Namespace) -> str | None:
    synced = Path("/run/systemd/timesync/synchronized").exists() or not shutil.which("timedatectl")
    if synced:
        return None
    answer = subprocess.run(
        ["timedatectl", "show", "-p", "NTPSynchronized", "--value"], capture_output=True, text=True, check=False
    )
    unsynced = answer.returncode == 0 and answer.stdout.strip() == "no"
    return "the clock is not synchronised, and recordings carry its time: set it" if unsynced else None


_CHECKS: dict[str, Callable[[Home, argparse.Namespace], str | None]] = {
    "Python": _python,
    "home and settings": _home,
    "key vault": _vault,
    "restore drill": _drilled,
    "network": _network,
    "disk": _disk,
    "clock": _clock,
    "FFmpeg": _program("ffmpeg", "ffmpeg"),
    "setpriv": _program("setpriv", "util-linux"),
    "video encoder": _encoder,
    "display": _screen,
}
