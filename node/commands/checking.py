"""doctor: what is wrong with this machine and this home, each with a mend; it asks the daemon and tor, and nobody else."""

import argparse
import re
import socket
import struct
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from consensus.ids import Millis
from node.appliance import exposure, machine, network
from node.appliance.findings import Check, Finding
from node.commands.inspection import reading
from node.commands.keyring import told
from node.config import Home, display
from node.console import Console, moment
from node.control.client import NoDaemon, ask, connect
from node.exits import DONE, NO, Ended
from node.sessions.drill import last, mend
from node.sessions.records import load, sessions
from node.wallet.vault import needs_passphrase

PATIENCE_S: Final = 10.0
"""A daemon that works answers within milliseconds; one on a busy machine is not to be called frozen."""


def doctor(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node doctor`: exit 1 when something stops the node, 0 with warnings."""
    found = [(name, list(check(home))) for name, check in _checks(args.display).items()]
    for name, findings in found:
        for one in findings:
            console.say(f"  {'MEND' if one.stops else 'warn'}  {name}: {one.mend}")
        if not findings:
            console.say(f"  ok    {name}")
    tried = last(home.drill)
    if tried is not None:
        console.say(f"  The keys were last drilled at {moment(tried.at)}, from {tried.file}.")
    listed = [
        {"check": name, "code": one.code, "stops": one.stops, "mend": one.mend}
        for name, findings in found
        for one in findings
    ]
    stopped = any(one["stops"] for one in listed)
    facts = {"ok": not stopped, "findings": listed, "checked": [name for name, _ in found], "drill": told(tried)}
    console.result(facts)
    return NO if stopped else DONE


def _checks(screen: str | None) -> dict[str, Check]:
    return {
        "Python": machine.python,
        "libraries": machine.packages,
        "home and settings": _home,
        "permissions": exposure.permissions,
        "key vault": _vault,
        "restore drill": _drilled,
        "network": network.membership,
        "tor": network.tor,
        "setpriv": machine.program("setpriv", "util-linux", stops=True),
        "daemon": _daemon,
        "service": machine.boot,
        "disk": machine.disk,
        "clock": machine.clock,
        "FFmpeg": machine.program("ffmpeg", "ffmpeg"),
        "video encoder": _encoder,
        "display": partial(_screen, screen),
    }


def _home(home: Home) -> Iterator[Finding]:
    try:
        home.check()
        home.config()
    except Ended as error:
        yield Finding("home.invalid", str(error), stops=True)
    if re.search(r'[\s,"]', str(home.path)):
        yield Finding(
            "home.name", f"tor cannot be told of {home.path}, with a space, comma or quote: move the home", stops=True
        )


def _vault(home: Home) -> Iterator[Finding]:
    try:
        closed = needs_passphrase(home.vault.read_bytes())
    except FileNotFoundError:
        yield Finding("vault.missing", "there is no key vault: `lucid-node init` makes one", stops=True)
    except OSError as error:
        yield Finding(
            "vault.unreadable", f"{home.vault} cannot be read ({error.strerror}): check its owner", stops=True
        )
    except Ended as error:
        yield Finding("vault.damaged", str(error), stops=True)
    else:
        if not closed:
            mend = "`keys export` with a passphrase, and `keys import` into a new home"
            yield Finding("vault.plaintext", f"the keys lie in the clear, which is for tests only: {mend}")


def _drilled(home: Home) -> Iterator[Finding]:
    if not (home.store / "data.mdb").exists():
        return
    try:
        with reading(home) as reader:
            used = [kept.opening.key_generation for kept in map(partial(load, reader), sessions(reader)) if kept]
    except Ended as error:
        yield Finding("store.damaged", str(error), stops=True)
        return
    wanted = mend(last(home.drill), used, Millis(time.time_ns() // 1_000_000))
    if wanted is not None:
        yield Finding("drill.due", wanted)


def _daemon(home: Home) -> Iterator[Finding]:
    """Whether it answers, what it says of tor, and what its sockets are."""
    try:
        facts, pid = ask(home.path, "status", patience_s=PATIENCE_S), _served_by(home)
    except NoDaemon as error:
        yield Finding("daemon.absent", str(error))
        return
    except TimeoutError:
        pid = _served_by(home)
        mend = f"`kill -KILL {pid}`, and start it again"
        yield Finding(
            "daemon.frozen", f"the daemon ({pid}) does not answer within {PATIENCE_S:g} s: {mend}", stops=True
        )
    except Ended as error:
        yield Finding("daemon.refuses", str(error), stops=True)
        return
    else:
        yield from _tor(facts.get("tor"))
    yield from exposure.leaks(pid)


def _served_by(home: Home) -> int:
    """The process that serves the home's control socket."""
    with connect(home.path) as sock:
        pid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return pid


def _tor(facts: dict[str, Any] | None) -> Iterator[Finding]:
    if facts is not None and facts["state"] != "up":
        why = facts["reason"] or "it is on its way; ask again in a minute"
        yield Finding(f"tor.{facts['state']}", f"the daemon's tor is {facts['state']}: {why}")


def _encoder(_home: Home) -> Iterator[Finding]:
    import trio

    from pipeline.capture import NoEncoder, probe

    try:
        trio.run(probe)
    except NoEncoder as error:
        yield Finding("encoder.missing", str(error))


def _screen(wanted: str | None, _home: Home) -> Iterator[Finding]:
    import trio

    from pipeline.capture import screen_size
    from pipeline.desktop import NoDisplay

    name = wanted or display()
    if name is None:
        mend = "name one with --display :N, or record a file with --input"
        yield Finding("display.none", f"no display is set: {mend}")
        return
    try:
        trio.run(screen_size, name)
    except NoDisplay as error:
        yield Finding("display.closed", str(error))
