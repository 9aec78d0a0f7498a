"""What the daemon tells its operator: one line a fact, a dotted name and fields, as text or as JSON.

    2026-11-25 20:08:18.123 info  peer.up peer=3dac3c75 dialled=true

Levels by reader: error wakes someone, warning will need someone, info is the life of the node, debug is traffic. Ids are
cut to eight hex digits; keys, other people's onion addresses and what is recorded never stand here. Source: findings/style.md §5.
"""

import json
import sys
import time
from dataclasses import dataclass, field
from typing import Final, TextIO

LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class EventLog:
    """Writes facts from a level on to a stream, by default stderr, which journald keeps."""

    level: str = "info"
    as_json: bool = False
    out: TextIO = field(default_factory=lambda: sys.stderr)

    def debug(self, name: str, **fields: object) -> None:
        """Traffic."""
        self._tell("debug", name, fields)

    def info(self, name: str, **fields: object) -> None:
        """The life of the node."""
        self._tell("info", name, fields)

    def warning(self, name: str, **fields: object) -> None:
        """What will need someone."""
        self._tell("warning", name, fields)

    def error(self, name: str, **fields: object) -> None:
        """What needs someone now."""
        self._tell("error", name, fields)

    def _tell(self, level: str, name: str, fields: dict[str, object]) -> None:
        if LEVELS.index(level) < LEVELS.index(self.level):
            return
        now = time.time()
        if self.as_json:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
            line = json.dumps(
                {"time": stamp, "level": level, "event": name, **{k: _plain(v) for k, v in fields.items()}}
            )
        else:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}"
            line = " ".join([stamp, f"{level:<7}", name, *(f"{k}={_word(_plain(v))}" for k, v in fields.items())])
        self.out.write(line + "\n")
        self.out.flush()


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value[:4].hex()
    return value if isinstance(value, (int, float, str, bool)) or value is None else str(value)


def _word(value: object) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return json.dumps(text) if any(letter in text for letter in ' "\n\r\t=') or not text else text
