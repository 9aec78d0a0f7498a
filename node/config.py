"""A home directory: where everything of one node lies, its version, and its settings from one TOML file.

    HOME/version      layout of this directory; a newer one than ours is refused, never guessed at
    HOME/config.toml  settings, commented; all errors in it are reported at once
    HOME/vault        keys (node/wallet/vault)
    HOME/drill        what the last restore drill found (node/sessions/drill)
    HOME/network      the signed file of the network that this node has joined, if any (node/membership)
    HOME/store        records (LMDB)
    HOME/chunks       sealed chunks, content-addressed
    HOME/journals     open chunks of a session that is being recorded, one folder a session

This module alone reads the environment.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from consensus.ids import SessionId
from node.exits import Unavailable, Usage

HOME_VERSION: Final = 1

TEMPLATE: Final = """\
# Settings of this Lucid node. Every line is optional; what is commented out shows the default.

[record]
# fps = 15                 # frames a second of the screen, 1 to 60
# encoder = "auto"         # "auto" takes the first of FFmpeg's H.264 encoders that really encodes here
# audit = true             # key classes, focus, clipboard owner; never what was typed
# titles = false           # window titles in the audit trail: they can hold what was written

[store]
# quota_gb = 0             # most gigabytes (10^9 bytes) of sealed chunks of your own to keep; 0: whatever the disk has
# replicas_gb = 0          # most gigabytes to keep for others; 0: none

[network]
# transport = "auto"       # "auto" is what the network's file says; "tor", or "loopback" for devnets
# listen = "127.0.0.1:0"   # loopback: where the daemon waits for other nodes of a devnet; port 0: a free one. Over tor only with
                           # mode "external": where your onion leads; port 0: to the unix socket `onion.socket` beside this file
# rpc = ""                 # Ethereum's JSON-RPC for programs of this machine, as "127.0.0.1:8545"; empty: none
# rpc_reader = ""          # who else may ask it, over an onion of its own: the key that `lucid-node keys reader` printed there;
                           # empty: nobody
# stripes = 3              # holders that send parts of one chunk at once when it is fetched, each on a circuit of its own; 1 to 4

[tor]
# mode = "managed"         # "managed": a tor of our own; "system": the machine's tor by its control port; "external": you
                           # run the onion service yourself and the daemon touches no control port
# control = ""             # system: the control socket or port, as /run/tor/control or 127.0.0.1:9051
# socks = ""               # external: the SOCKS socket or port of your tor, as 127.0.0.1:9050; system: else /run/tor/socks
# onion = ""               # external: your onion address and port, as ADDRESS.onion:4001; it has to lead to network.listen,
                           # in the torrc: HiddenServicePort 4001 127.0.0.1:PORT, or HiddenServicePort 4001 unix:HOME/onion.socket
# allow_outdated = false   # true accepts a tor older than 0.4.9.11 on a public network
"""

AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one home."""

    fps: int = 15
    encoder: str = "auto"
    audit: bool = True
    titles: bool = False
    quota_gb: int = 0
    replicas_gb: int = 0
    transport: str = AUTO
    listen: str = "127.0.0.1:0"
    rpc: str = ""
    rpc_reader: str = ""
    stripes: int = 3
    tor_mode: str = "managed"
    tor_control: str = ""
    tor_socks: str = ""
    tor_onion: str = ""
    tor_allow_outdated: bool = False


_SECTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    # By section, the name of each setting in the file and in Config.
    "record": {"fps": "fps", "encoder": "encoder", "audit": "audit", "titles": "titles"},
    "store": {"quota_gb": "quota_gb", "replicas_gb": "replicas_gb"},
    "network": {
        "transport": "transport",
        "listen": "listen",
        "rpc": "rpc",
        "rpc_reader": "rpc_reader",
        "stripes": "stripes",
    },
    "tor": {
        "mode": "tor_mode",
        "control": "tor_control",
        "socks": "tor_socks",
        "onion": "tor_onion",
        "allow_outdated": "tor_allow_outdated",
    },
}
_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "fps": (1, 60),
    "quota_gb": (0, 1_000_000),
    "replicas_gb": (0, 1_000_000),
    "stripes": (1, 4),
}
_PORT: Final = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_FORMS: Final[Mapping[str, tuple[str, str]]] = {
    # What a text has to look like, and in words; whatever leads off this machine other than by tor has no form here.
    "transport": ("auto|tor|loopback", '"auto", "tor" or "loopback"'),
    "listen": (rf"127\.0\.0\.1:(?:0|{_PORT})", "127.0.0.1:PORT"),
    "rpc": (rf"|127\.0\.0\.1:{_PORT}", "127.0.0.1:PORT, or nothing"),
    "rpc_reader": ("|[A-Z2-7]{52}", "a key of 52 letters and digits, or nothing"),
    "tor_mode": ("managed|system|external", '"managed", "system" or "external"'),
    "tor_control": (rf"|/.+|127\.0\.0\.1:{_PORT}", "a socket's whole path or 127.0.0.1:PORT"),
    "tor_socks": (rf"|/.+|127\.0\.0\.1:{_PORT}", "a socket's whole path or 127.0.0.1:PORT"),
    "tor_onion": (rf"|[a-z2-7]{{56}}\.onion:{_PORT}", "ADDRESS.onion:PORT"),
}
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {"system": ("tor_control",), "external": ("tor_socks", "tor_onion")}


@dataclass(frozen=True, slots=True)
class Home:
    """The directory of one node, which may not exist yet."""

    path: Path

    @property
    def vault(self) -> Path:
        """The file with the keys."""
        return self.path / "vault"

    @property
    def drill(self) -> Path:
        """The file with what the last restore drill found."""
        return self.path / "drill"

    @property
    def network(self) -> Path:
        """The file of the network that was joined."""
        return self.path / "network"

    @property
    def store(self) -> Path:
        """The folder of the records."""
        return self.path / "store"

    @property
    def chunks(self) -> Path:
        """The folder of the sealed chunks."""
        return self.path / "chunks"

    def journals(self, session: SessionId) -> Path:
        """The folder of one session's journals."""
        return self.path / "journals" / session.hex()

    def journal_folders(self) -> list[Path]:
        """The folders of journals that there are, by session."""
        folder = self.path / "journals"
        return sorted(path for path in folder.glob("?" * 64) if path.is_dir()) if folder.exists() else []

    def create(self, chosen: Mapping[str, int] | None = None) -> None:
        """Make the directory with its version and commented settings, those that were chosen in force.

        Raises Usage where there is a node already, Unavailable where none can be.
        """
        if self.vault.exists():
            raise Usage(f"{self.path} is a node's home already; choose another with --home, nothing was changed")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / "version").write_text(f"{HOME_VERSION}\n")
            settings = self.path / "config.toml"
            if not settings.exists():
                settings.write_text(_settings(chosen or {}))
        except OSError as error:
            raise Unavailable(
                f"{self.path} cannot be made a home ({error.strerror}); choose another with --home"
            ) from error

    def check(self) -> None:
        """Refuse a home that is missing or that a newer program wrote; raises Unavailable or Usage."""
        try:
            text = (self.path / "version").read_text()
        except FileNotFoundError:
            raise Unavailable(f"{self.path} is no node's home yet: make it one with `lucid-node init`") from None
        except OSError as error:
            raise Unavailable(
                f"{self.path} cannot be read ({error.strerror}): check its owner and permissions"
            ) from error
        if not text.strip().isdigit():
            raise Usage(f"{self.path / 'version'} is damaged: it should hold the number {HOME_VERSION}")
        if int(text) > HOME_VERSION:
            raise Usage(
                f"{self.path} was written by a newer lucid-node (layout {int(text)}, this program knows {HOME_VERSION}): "
                "update this program; nothing was changed"
            )

    def config(self) -> Config:
        """The settings in config.toml; raises Usage naming every error in it at once."""
        file = self.path / "config.toml"
        try:
            table = tomllib.loads(file.read_text())
        except FileNotFoundError:
            return Config()
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Usage(f"{file} is not TOML: {error}") from error
        return _checked(file, table)


def _settings(chosen: Mapping[str, int]) -> str:
    """The template with some settings of whole numbers in force instead of commented."""
    text = TEMPLATE
    for name, value in chosen.items():
        text, count = re.subn(rf"(?m)^# {name} = \d+", f"{name} = {value}", text)
        assert count == 1
    return text


def _checked(file: Path, table: Mapping[str, Any]) -> Config:
    wrong, values = [], dict[str, Any]()
    kinds = {field.name: type(getattr(Config(), field.name)) for field in fields(Config)}
    for section, settings in table.items():
        if section not in _SECTIONS or not isinstance(settings, dict):
            wrong.append(f"[{section}] is no section; the sections are {', '.join(_SECTIONS)}")
            continue
        for name, value in settings.items():
            if name not in _SECTIONS[section]:
                wrong.append(f"{section}.{name} is no setting; {section} has {', '.join(_SECTIONS[section])}")
                continue
            key = _SECTIONS[section][name]
            if type(value) is not kinds[key]:
                wrong.append(f"{section}.{name} must be of type {kinds[key].__name__}")
            elif key in _RANGES and not _RANGES[key][0] <= value <= _RANGES[key][1]:
                wrong.append(f"{section}.{name} must be {_RANGES[key][0]} to {_RANGES[key][1]}")
            elif key in _FORMS and not re.fullmatch(_FORMS[key][0], value):
                wrong.append(f"{section}.{name} must be {_FORMS[key][1]}")
            else:
                values[key] = value
    mode = values.get("tor_mode", "")
    lacking = [key.removeprefix("tor_") for key in _NEEDED.get(mode, ()) if not values.get(key)]
    wrong += [f'tor.mode = "{mode}" needs tor.{name}' for name in lacking]
    if wrong:
        raise Usage(f"{file}: " + "; ".join(wrong))
    return Config(**values)


def home(option: str | None) -> Home:
    """The home that --home names, else LUCID_HOME, else ~/.lucid."""
    return Home(Path(option or os.environ.get("LUCID_HOME") or Path.home() / ".lucid").absolute())


def passphrase_file(option: str | None) -> str | None:
    """The file that --passphrase-file names, else LUCID_PASSPHRASE_FILE."""
    return option or os.environ.get("LUCID_PASSPHRASE_FILE")


def display() -> str | None:
    """The X display of the environment, if any."""
    return os.environ.get("DISPLAY") or None


def notify_socket() -> str | None:
    """Where systemd wants to be told that we are ready, if it does: NOTIFY_SOCKET."""
    return os.environ.get("NOTIFY_SOCKET") or None


def watchdog_s() -> float | None:
    """After how many seconds of silence systemd kills this process, None for never: WATCHDOG_USEC, WATCHDOG_PID."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if ours and microseconds.isdecimal() and int(microseconds) else None


def demo_source() -> str | None:
    """What `./lucid run` shall record: LUCID_RECORD."""
    return os.environ.get("LUCID_RECORD") or None
