"""Installs the unit of a node into this machine's systemd, says how it does, and takes it out again."""

import grp
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import consensus
from node.appliance.unit import CREDENTIAL, NAME, Reach, Service, unit
from node.config import Config, Home
from node.exits import Unavailable, Usage
from node.membership import joined
from node.net.endpoints import BadEndpoint, parse_endpoint
from node.network import Carrier
from pipeline import durable

UNIT: Final = Path("/etc/systemd/system") / NAME
SEALED: Final = Path("/etc/credstore.encrypted/lucid-node.passphrase")
BOOTED: Final = Path("/run/systemd/system")
"""Is there where systemd was booted: sd_booted(3)."""
VERSION_MIN: Final = 250
"""Of systemd: encrypted credentials, and their folder's name in a unit."""

_FACTS: Final = ("LoadState", "UnitFileState", "ActiveState", "SubState", "Result", "NRestarts", "MainPID")


class Account(NamedTuple):
    """Whom a service runs as."""

    user: str
    group: str


def account(home: Home, wanted: str | None) -> Account:
    """The named user, else the owner of the home, else whoever asks; raises Usage for a user that there is not."""
    try:
        if wanted is not None:
            found = pwd.getpwnam(wanted)
        else:
            found = pwd.getpwuid(home.path.stat().st_uid if home.path.exists() else os.getuid())
        return Account(found.pw_name, grp.getgrgid(found.pw_gid).gr_name)
    except KeyError:
        raise Usage(
            f"this machine knows no user {wanted or 'that owns ' + str(home.path)}: name one with --user"
        ) from None


def reach(home: Home) -> tuple[Reach, Path | None]:
    """What of the network this home's daemon needs, and a socket of the tor that others run for it; raises Usage."""
    config, terms = home.config(), joined(home)
    if terms is not None and terms.genesis.carrier is Carrier.LOOPBACK:
        return Reach.LOOPBACK, None
    return _of_tor(config)


def _of_tor(config: Config) -> tuple[Reach, Path | None]:
    if config.tor_mode == "managed":
        return Reach.INTERNET, None
    places = [config.tor_control, config.tor_socks]
    if config.tor_mode == "external" and not config.listen.endswith(":0"):
        places.append(config.listen)
    try:
        endpoints = [parse_endpoint(text) for text in places if text]
    except BadEndpoint as error:
        raise Usage(f"[tor] in config.toml: {error}") from error
    if not all(isinstance(endpoint, Path) for endpoint in endpoints):
        return Reach.LOOPBACK, None
    return Reach.NONE, Path(config.tor_control or config.tor_socks)


def described(home: Home, user: str | None, *, closed: bool) -> Service:
    """The service of a home, whose vault is `closed` by a passphrase or not; raises Usage."""
    place = Home(home.path.resolve())
    who = account(place, user)
    needed, control = reach(place)
    # Debian opens tor's control socket to a group of its own; root's is nobody's business.
    group = control.stat().st_gid if control is not None and control.exists() else 0
    groups = (grp.getgrgid(group).gr_name,) if group else ()
    # Of an environment its own folder, the Python that it was made with, and the project itself where that is not installed.
    needs = {Path(sys.prefix), Path(sys.base_prefix), Path(consensus.__file__ or "").parent.parent}
    command = (sys.executable, "-P", "-m", "node")
    return Service(place.path, *who, command, tuple(sorted(needs)), needed, SEALED if closed else None, groups)


def require_systemd() -> None:
    """Raises Unavailable where no service can be installed, with what to do instead."""
    instead = "`service install --print` writes the unit for a machine that has it"
    if not BOOTED.exists():
        raise Unavailable(
            f"systemd does not run this machine, so `lucid-node run` has to be started another way; {instead}"
        )
    words = _run("systemctl", "--version").split()
    if int(words[1]) < VERSION_MIN:
        raise Unavailable(f"systemd is of version {words[1]}, and the unit needs {VERSION_MIN} or newer; {instead}")
    if os.geteuid() != 0:
        raise Unavailable("only root may install a service: type the same with sudo, and name the home with --home")


def install(service: Service, passphrase: bytes | None) -> None:
    """Put the unit in place, with the passphrase sealed to this machine, and start it now and on boot.

    Raises Usage, Unavailable. An older unit of this name is replaced.
    """
    owner = pwd.getpwnam(service.user).pw_uid
    if service.home.stat().st_uid != owner:
        raise Usage(
            f"{service.home} does not belong to {service.user}: `chown -R {service.user} {service.home}`, or another --user"
        )
    text = unit(service)
    try:
        if passphrase is not None and service.credential is not None:
            service.credential.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            sealed = _run("systemd-creds", "encrypt", f"--name={CREDENTIAL}", "-", "-", typed=passphrase + b"\n")
            durable.replace(service.credential, sealed.encode(), 0o600)
        durable.replace(UNIT, text.encode(), 0o644)
    except OSError as error:
        raise Unavailable(f"{error.filename} cannot be written: {error.strerror}") from error
    _run("systemctl", "daemon-reload")
    _run("systemctl", "enable", NAME)
    # It may wait long for its turn, and a restart takes up a unit that has changed.
    _run("systemctl", "--no-block", "restart", NAME)


def uninstall() -> bool:
    """Stop the service and take it out; whether there was one. The home stays as it is."""
    there = UNIT.exists()
    if there:
        _run("systemctl", "disable", "--now", NAME)
    UNIT.unlink(missing_ok=True)
    SEALED.unlink(missing_ok=True)
    if there:
        _run("systemctl", "daemon-reload")
    return there


def state() -> dict[str, str]:
    """What systemd says of the service, by the names of systemctl(1); raises Unavailable where there is no systemd."""
    if not BOOTED.exists():
        raise Unavailable(
            "systemd does not run this machine, so there is no service: `lucid-node status` asks the daemon"
        )
    said = _run("systemctl", "show", NAME, "--property", ",".join(_FACTS))
    return dict(line.partition("=")[::2] for line in said.splitlines() if line)


def _run(*command: str, typed: bytes = b"") -> str:
    """What a program of systemd's prints; raises Unavailable with its own last words."""
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is not installed: apt-get install systemd")
    done = subprocess.run(command, input=typed, capture_output=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-1:]
        raise Unavailable(f"`{' '.join(command)}` failed: {' '.join(last) or done.returncode}")
    return done.stdout.decode()
