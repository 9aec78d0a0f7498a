"""The bytes of Tor's control protocol: lines to replies and events, and what may stand in a command.

    reply = *(CODE "-" text CRLF / CODE "+" text CRLF *(data CRLF) "." CRLF) CODE " " text CRLF        CODE = 3 digits

Input comes from tor, which may be an impostor on its port, so it is bounded and everything else is refused.
Source: Tor control-spec §2.3, §4.1.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

REPLY_BYTES_MAX: Final = 16 << 20
"""One reply, all its lines; the longest that we ask for, a descriptor or a private network's consensus, has some 100 kB."""

_CODE: Final = re.compile(rb"[1-9][0-9]{2}[ +-]")
_PAIR: Final = re.compile(r'([A-Za-z0-9_/.-]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))')
_ESCAPE: Final = re.compile(rb"\\(?:([0-3]?[0-7]{1,2})|(.))", re.DOTALL)
_LETTERS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_UNSAFE: Final = re.compile(r"[\r\n\0]")
_ASYNCHRONOUS: Final = 650


class NotTor(Exception):
    """What came over the control connection is not the control protocol: something else than tor has the port."""


@dataclass(frozen=True, slots=True)
class ControlReply:
    """One reply: its code, the text of each line, and the data behind a line by the line's number."""

    code: int
    lines: tuple[str, ...]
    data: Mapping[int, str]

    @property
    def ok(self) -> bool:
        return 200 <= self.code < 300

    @property
    def asynchronous(self) -> bool:
        return self.code == _ASYNCHRONOUS

    def values(self) -> dict[str, str]:
        """`KEY=value` lines by their key; a value of several lines is the data behind its line."""
        pairs = {}
        for number, line in enumerate(self.lines):
            key, equals, value = line.partition("=")
            if equals:
                pairs[key] = self.data.get(number, value)
        return pairs


@dataclass(frozen=True, slots=True)
class TorEvent:
    """One asynchronous event: its name, and the rest of its first line."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return self.text.split()

    @property
    def pairs(self) -> dict[str, str]:
        return pairs(self.text)


def event_of(reply: ControlReply) -> TorEvent:
    """The event in an asynchronous reply."""
    name, _, text = reply.lines[0].partition(" ")
    return TorEvent(name, text)


def pairs(text: str) -> dict[str, str]:
    """`KEY=word` and `KEY="quoted text"` in a line, by key, unquoted."""
    found = {}
    for match in _PAIR.finditer(text):
        quoted = match[2]
        found[match[1]] = match[3] if quoted is None else _unescaped(quoted)
    return found


def _unescaped(text: str) -> str:
    """What C's escapes spell; tor writes each byte beyond ASCII as octal digits (esc_for_log, lib/string/escape.c)."""

    def spelled(match: "re.Match[bytes]") -> bytes:
        return bytes([int(match[1], 8)]) if match[1] else _LETTERS.get(match[2], match[2])

    return _ESCAPE.sub(spelled, text.encode()).decode("utf-8", "replace")


def line_of(command: str) -> bytes:
    """The command as a line; raises ValueError for one that would be several, or that is not text."""
    if _UNSAFE.search(command):
        raise ValueError("a control command has no line end or NUL in it: one of its arguments was not checked")
    return command.encode() + b"\r\n"


class ReplyParser:
    """Bytes in as they come, replies out as they are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._size = 0
        self._code = 0
        self._lines: list[str] = []
        self._data: dict[int, str] = {}
        self._block: list[str] | None = None

    def feed(self, data: bytes) -> list[ControlReply]:
        """The replies that these bytes complete; raises NotTor for what is no reply, and is of no use afterwards."""
        self._buffer += data
        replies = []
        start = 0
        while (end := self._buffer.find(b"\r\n", max(start, self._searched))) >= 0:
            line = bytes(self._buffer[start:end])
            start = self._searched = end + 2
            self._size += len(line)
            if (reply := self._line(line)) is not None:
                replies.append(reply)
        del self._buffer[:start]
        self._searched = max(0, len(self._buffer) - 1)
        if self._size + len(self._buffer) > REPLY_BYTES_MAX:
            raise NotTor(f"a reply of over {REPLY_BYTES_MAX} bytes came over the control connection")
        return replies

    def _line(self, raw: bytes) -> ControlReply | None:
        if self._block is not None:
            self._data_line(raw.decode("utf-8", "replace"))
            return None
        if not _CODE.match(raw):
            raise NotTor(f"{raw[:40]!r} came over the control connection, which is not a reply of tor")
        code, kind, text = int(raw[:3]), raw[3:4], raw[4:].decode("utf-8", "replace")
        if self._lines and code != self._code:
            raise NotTor(f"a reply began with the code {self._code} and went on with {code}")
        self._code = code
        self._lines.append(text)
        if kind == b"+":
            self._block = []
        if kind != b" ":
            return None
        reply = ControlReply(code, tuple(self._lines), MappingProxyType(self._data))
        self._lines, self._data, self._size = [], {}, 0
        return reply

    def _data_line(self, line: str) -> None:
        assert self._block is not None
        if line == ".":
            self._data[len(self._lines) - 1] = "\n".join(self._block)
            self._block = None
        else:
            self._block.append(line.removeprefix("."))
