"""Dialling onions through tor's SOCKS port: nothing but a v3 onion ever goes out, and each peer has circuits of its own.

With `IsolateSOCKSAuth` (tor's default) streams of different user or password share no circuit. The user is a prefix that
changes with each start, because counters that restart at one would find the circuits of the run before.

The method list and the password may not go out in one write: when both arrive in one read, tor 0.4.9.11 overwrites its
answer to the first with that to the second, and two bytes are missing.
Source: RFC 1928, RFC 1929; Tor socks-extensions, proposal 304 (`ExtendedErrors`).
"""

import secrets
from typing import Final

import trio

from node.net.endpoints import Endpoint, connect, spelled
from node.tor.onion import SUFFIX, Onion

DIAL_S: Final = 45.0
"""A dead onion can hang a dial for tor's own 120 s; a live one answers within 15 s at the worst on the real network."""

BACKEND_REFUSED: Final = 0x01

MEANINGS: Final = {
    BACKEND_REFUSED: ("the onion is there, and what should listen behind it does not", True),
    0x02: ("tor's SOCKS port does not allow it", False),
    0x03: ("the network is unreachable", True),
    0x04: ("the onion's host is unreachable", True),
    0x05: ("the onion does not have that port, or takes no more streams on this circuit", False),
    0x06: ("tor gave up after its own deadline", True),
    0x07: ("tor does not know the request", False),
    0x08: ("tor does not know that kind of address", False),
    0xF0: ("no descriptor of the onion was found: it is down, or published a moment ago", True),
    0xF1: ("the onion's descriptor is invalid", False),
    0xF2: ("introduction to the onion failed", True),
    0xF3: ("the rendezvous with the onion failed", True),
    0xF4: ("the onion opens only for its readers, and tor has no key for it", False),
    0xF5: ("the onion opens only for its readers, and our key is not one of theirs", False),
    0xF6: ("the onion's address is invalid", False),
    0xF7: ("introduction to the onion timed out", True),
}
"""Reply code to what it means and whether to try again."""

_PREFIX: Final = secrets.token_hex(8)


class DialFailed(Exception):
    """The onion was not reached; `code` is SOCKS', None when there was none; `retry` says whether later may be better."""

    def __init__(self, onion: Onion, why: str, *, code: int | None, retry: bool) -> None:
        super().__init__(f"{onion[:8]}….onion was not reached: {why}")
        self.code = code
        self.retry = retry


async def dial_onion(
    socks: Endpoint, onion: Onion, port: int, isolation: str, *, deadline_s: float = DIAL_S
) -> trio.SocketStream:
    """A stream to an onion's virtual port through the tor whose SOCKS port is there; raises DialFailed.

    Dials of one `isolation`, at most 255 bytes and usually the peer's id, may share a circuit, and those of two never do.
    """
    if not 0 < len(isolation.encode()) < 256:
        raise ValueError("an isolation is 1 to 255 bytes long")
    with trio.move_on_after(deadline_s):
        try:
            stream = await connect(socks)
        except OSError as error:
            why = f"nothing answers at tor's SOCKS port {spelled(socks)} ({error.strerror}): is tor running?"
            raise DialFailed(onion, why, code=None, retry=True) from error
        try:
            await _request(stream, onion, port, isolation.encode())
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
            raise
        return stream
    raise DialFailed(onion, f"no answer within {deadline_s:g} s", code=None, retry=True)


async def _request(stream: trio.SocketStream, onion: Onion, port: int, isolation: bytes) -> None:
    def cut(why: str) -> DialFailed:
        return DialFailed(onion, why, code=None, retry=True)

    user, host = _PREFIX.encode(), (onion + SUFFIX).encode()
    try:
        await stream.send_all(b"\x05\x01\x02")
        if await _exactly(stream, 2) != b"\x05\x02":
            raise cut("what listens at tor's SOCKS port does not speak SOCKS5 with a user and password")
        credentials = b"\x01" + bytes([len(user)]) + user + bytes([len(isolation)]) + isolation
        await stream.send_all(credentials + b"\x05\x01\x00\x03" + bytes([len(host)]) + host + port.to_bytes(2, "big"))
        if await _exactly(stream, 2) != b"\x01\x00":
            raise cut("tor's SOCKS port refused the user and password")
        version, code, _, kind = await _exactly(stream, 4)
        size = {1: 4, 3: -1, 4: 16}.get(kind)
        if version != 5 or size is None:
            raise cut("what listens at tor's SOCKS port gave no SOCKS5 answer")
        await _exactly(stream, (size if size > 0 else (await _exactly(stream, 1))[0]) + 2)
    except (EOFError, trio.BrokenResourceError) as error:
        raise cut("tor closed the SOCKS connection") from error
    if code:
        why, retry = MEANINGS.get(code, (f"tor gave the unknown SOCKS error {code:#04x}", True))
        raise DialFailed(onion, why, code=code, retry=retry)


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    """So many bytes and none further, since what follows the answer is the peer's; raises EOFError."""
    data = b""
    while len(data) < count:
        more = await stream.receive_some(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data
