"""The systemd unit of a node: what starts it on boot, and what it may do while it runs.

The daemon needs its home, a unix socket or two, and nothing else, so everything else is taken from it. What it needs of the
network follows from its tor: one that somebody else runs behind unix sockets needs none, which is the wall that
node/net/leaks is only the tripwire of; a managed tor is a child of the daemon, shares its confinement, and has to reach the
Tor network itself. The passphrase comes as a credential, a file that the service alone sees, never on a command line or
in the environment. Source: systemd.exec(5), systemd.service(5), systemd.syntax(7); DESIGN §12.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from node.exits import Usage

NAME: Final = "lucid-node.service"
CREDENTIAL: Final = "passphrase"
WATCHDOG_S: Final = 60

_EMPTIED: Final = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - nothing is written there
_HIDDEN: Final = (Path("/home"), Path("/root"), Path("/run/user"), *_EMPTIED)
"""What ProtectHome= and PrivateTmp= cover; the parts of it that the service needs are bound back in."""


class Reach(Enum):
    """How much of the network a daemon needs."""

    NONE = "none"
    """Unix sockets alone: the system's tor, spoken to through its control and SOCKS sockets."""
    LOOPBACK = "loopback"
    """127.0.0.1: a devnet, or a tor with ports."""
    INTERNET = "internet"
    """A managed tor, which is a child of the daemon."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a unit is made from; all paths are absolute, and `home` has no symbolic link in it."""

    home: Path
    user: str
    group: str
    command: tuple[str, ...]
    """What starts lucid-node: a program's path, and arguments."""
    needs: tuple[Path, ...]
    """Folders that the program is read from."""
    reach: Reach
    credential: Path | None
    """The encrypted passphrase of the vault; None where the keys lie in the clear."""
    groups: tuple[str, ...] = ()
    """Groups besides the user's own, as that of the system's tor."""


def quoted(text: str) -> str:
    """A word of a unit's line, whatever its characters; raises Usage for those that no line can hold."""
    if not text.isprintable():
        raise Usage(f"{text!r} has a character in it that no systemd unit can name: use another path")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def unit(service: Service) -> str:
    """The unit's text; raises Usage for a home that a service cannot have."""
    home = service.home
    if any(home.is_relative_to(folder) for folder in _EMPTIED):
        raise Usage(f"{home} is emptied from time to time, and a service sees one of its own there: move the home")
    command = [*service.command, "run", "--home", str(home)]
    words = " ".join(map(quoted, command))
    if service.credential is not None:
        words += f" --passphrase-file %d/{CREDENTIAL}"
    sections = {
        "Unit": [
            "Description=Lucid node",
            "# The Tor network and recordings both need a clock that is right.",
            "After=network.target time-sync.target tor.service tor@default.service",
        ],
        "Service": [
            "Type=notify",
            "# A colon: no dollar sign is taken for a variable.",
            f"ExecStart=:{words}",
            f"User={service.user}",
            f"Group={service.group}",
            *[f"SupplementaryGroups={name}" for name in service.groups],
            *([f"LoadCredentialEncrypted={CREDENTIAL}:{service.credential}"] if service.credential else []),
            "Restart=on-failure",
            "RestartSec=5",
            "# 2: the settings are wrong, and trying again changes nothing.",
            "RestartPreventExitStatus=2",
            "# A busy machine takes its time to load the program, and is no reason to begin again.",
            "TimeoutStartSec=300",
            f"WatchdogSec={WATCHDOG_S}",
            "# SIGTERM is for the daemon, which ends its tor itself; whatever is left after that is killed.",
            "KillMode=mixed",
            "TimeoutStopSec=15",
            "",
            *_files(home, service.needs),
            "",
            *_network(service.reach),
            "",
            *_CONFINED,
        ],
        "Install": ["WantedBy=multi-user.target"],
    }
    made = "\n\n".join("\n".join([f"[{name}]", *lines]) for name, lines in sections.items())
    return (
        f"# Written by `lucid-node service install`, which writes it anew; local changes go into a drop-in.\n{made}\n"
    )


def _files(home: Path, needs: Sequence[Path]) -> list[str]:
    """The home and nothing else can be written, and of other people's homes nothing can be seen."""
    lines = ["UMask=0077", "ProtectSystem=strict", "PrivateTmp=yes", "PrivateDevices=yes", "ProtectHome=tmpfs"]
    lines += [f"BindReadOnlyPaths={quoted(str(path))}" for path in needs if _is_hidden(path) and path != home]
    return [*lines, f"{'BindPaths' if _is_hidden(home) else 'ReadWritePaths'}={quoted(str(home))}"]


def _is_hidden(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in _HIDDEN)


def _network(reach: Reach) -> list[str]:
    match reach:
        case Reach.NONE:
            return [
                "# The system's tor is reached through unix sockets: there is no network here that anything could leak into.",
                "PrivateNetwork=yes",
                "RestrictAddressFamilies=AF_UNIX",
                "IPAddressDeny=any",
            ]
        case Reach.LOOPBACK:
            return [
                "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
                "IPAddressDeny=any",
                "IPAddressAllow=localhost",
            ]
        case Reach.INTERNET:
            return [
                "# tor is a child of the daemon and has to reach its relays, so no address is denied here, and what keeps",
                '# the daemon from them is its own audit hook. With tor.mode = "system" this becomes PrivateNetwork=yes.',
                "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
            ]


_CONFINED: Final = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
PrivateUsers=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# Of setpriv, through which children are started so that they die with the daemon; there is no capability to set.
SystemCallFilter=capset
SystemCallErrorNumber=EPERM
LimitCORE=0
LimitNOFILE=8192""".splitlines()
