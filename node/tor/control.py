"""A client of tor's control port: authenticates, commands, and hands on events.

tor answers in order, so each command leaves a waiter in a queue and one reader gives replies to waiters. A command is sent
whole or not at all; a caller that is cancelled leaves its waiter behind, so that replies stay in step. Events go to
bounded channels; one that is full loses the newest event, and never makes tor or the reader wait.

SAFECOOKIE alone is spoken (and no authentication where tor asks for none): tor proves that it knows the cookie before it
is told anything that depends on it.
Source: Tor control-spec; findings of stem and Bitcoin Core's torcontrol are in README.md's decisions.
"""

import base64
import getpass
import grp
import hmac
import os
import secrets
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import trio

from node.net.endpoints import BadEndpoint, Endpoint, checked, connect, spelled
from node.net.nursery import bare_nursery
from node.tor.onion import Onion, expand, onion_of, parse_onion
from node.tor.wire import ControlReply, NotTor, ReplyParser, TorEvent, event_of, line_of, pairs

ANSWER_S: Final = 30.0
"""How long an answer may take: tor gives them within milliseconds, and a minute of silence is a hung tor."""
COLLISION: Final = 550

_SERVER_HASH: Final = b"Tor safe cookie authentication server-to-controller hash"
_CLIENT_HASH: Final = b"Tor safe cookie authentication controller-to-server hash"


class TorUnreachable(Exception):
    """The control port could not be opened or refused us; the message names it, the method and the mend."""


class TorClosed(Exception):
    """The control connection has ended: tor died, closed it, or is not tor. Whatever was tied to it is gone."""


class TorSilent(Exception):
    """tor holds its control connection open and does not answer: it is frozen, or the machine is overloaded."""


class TorRefusal(Exception):
    """tor answered a command with an error; `code` is control-spec's, 510 and above."""

    def __init__(self, verb: str, code: int, text: str) -> None:
        super().__init__(f"tor refused {verb}: {code} {text}")
        self.code = code


class _Waiter:
    __slots__ = ("done", "reply")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.reply: ControlReply | None = None


class TorControl:
    """An authenticated control connection; made by `open_control`."""

    def __init__(self, stream: trio.abc.Stream, *, answer_s: float = ANSWER_S) -> None:
        self._stream = stream
        self._answer_s = answer_s
        self._waiters: deque[_Waiter] = deque()
        self._sending = trio.Lock()
        self._wanted: set[str] = set()
        self._listeners: list[tuple[frozenset[str], trio.MemorySendChannel[TorEvent]]] = []
        self._closed = trio.Event()
        self._why = "tor closed the control connection"
        self._has_pow = True

    async def command(self, command: str) -> ControlReply:
        """What tor answers to one command line; raises TorRefusal, TorClosed, TorSilent, and ValueError for more than a line."""
        line = line_of(command)
        waiter = _Waiter()
        async with self._sending:
            self._ensure_open()
            self._waiters.append(waiter)
            await self._send(line)
        with trio.move_on_after(self._answer_s):
            await waiter.done.wait()
        verb = command.partition(" ")[0]
        if waiter.reply is None:
            self._ensure_open()
            raise TorSilent(f"tor did not answer {verb} within {self._answer_s:g} s")
        if not waiter.reply.ok:
            raise TorRefusal(verb, waiter.reply.code, "; ".join(waiter.reply.lines))
        return waiter.reply

    async def info(self, key: str) -> str:
        """GETINFO of one key."""
        return (await self.command(f"GETINFO {key}")).values()[key]

    async def signal(self, name: str) -> None:
        """RELOAD, ACTIVE, SHUTDOWN and others. NEWNYM forgets what all users of that tor share: never for one peer."""
        await self.command(f"SIGNAL {name}")

    async def version(self) -> str:
        """Such as "0.4.9.11", without what follows the number."""
        return (await self.info("version")).split()[0]

    async def bootstrap(self) -> dict[str, str]:
        """PROGRESS, TAG, SUMMARY and, in trouble, WARNING and REASON of tor's way into the network."""
        return pairs(await self.info("status/bootstrap-phase"))

    async def add_onion(
        self,
        seed: bytes,
        ports: Mapping[int, Endpoint],
        *,
        readers: Sequence[str] = (),
        streams_max: int = 0,
        defend: bool = True,
    ) -> Onion:
        """Starts publishing the onion of a seed, tied to this connection, and returns its address at once.

        `ports` leads each virtual port to a local endpoint. With `readers` (`onion.reader_key`) only they can find it.
        `streams_max` bounds the streams of one circuit; breaking it closes the circuit. `defend` asks for proof of work under
        load, and is left out where tor does not know it. TorRefusal with code COLLISION: this tor has that onion already.
        """
        flags = ["DiscardPK", *(["V3Auth"] if readers else []), *(["MaxStreamsCloseCircuit"] if streams_max else [])]
        words = [f"ADD_ONION ED25519-V3:{base64.b64encode(expand(seed)).decode()}", f"Flags={','.join(flags)}"]
        words += [f"MaxStreams={streams_max}"] if streams_max else []
        words += [f"Port={port},{target(endpoint)}" for port, endpoint in ports.items()]
        words += [f"ClientAuthV3={reader}" for reader in readers]
        try:
            reply = await self.command(
                " ".join([*words, *(["PoWDefensesEnabled=1"] if defend and self._has_pow else [])])
            )
        except TorRefusal as refusal:
            if refusal.code == COLLISION or not (defend and self._has_pow):
                raise
            reply = await self.command(" ".join(words))
            self._has_pow = False
        onion = parse_onion(reply.values()["ServiceID"])
        if onion != onion_of(seed):
            raise NotTor(f"tor published {onion} for the key of another onion")
        return onion

    async def del_onion(self, onion: Onion) -> None:
        """Ends new connections to an onion of this connection; streams that are open stay."""
        await self.command(f"DEL_ONION {onion}")

    async def fetch_descriptor(self, onion: Onion) -> None:
        """Makes tor renew what it knows of an onion: after a peer's tor restarted, the cached introduction points are dead."""
        await self.command(f"HSFETCH {onion}")

    async def add_reader(self, onion: Onion, secret: bytes) -> None:
        """Gives tor the 32-byte X25519 secret that finds and opens an onion with readers, until tor ends."""
        await self.command(f"ONION_CLIENT_AUTH_ADD {onion} x25519:{base64.b64encode(secret).decode()}")

    @asynccontextmanager
    async def events(self, *names: str, most: int = 1000) -> AsyncIterator[trio.MemoryReceiveChannel[TorEvent]]:
        """A channel of at most so many unread events of these names; it ends with the connection."""
        send, receive = trio.open_memory_channel[TorEvent](most)
        listener = (frozenset(names), send)
        self._listeners.append(listener)
        try:
            if not self._wanted.issuperset(names):
                # Only ever grows, so that leaving needs no answer of tor's: what nobody listens for is thrown away.
                self._wanted.update(names)
                await self.command(f"SETEVENTS {' '.join(sorted(self._wanted))}")
            async with receive:
                yield receive
        finally:
            if listener in self._listeners:
                self._listeners.remove(listener)
            send.close()
            receive.close()

    async def wait_closed(self) -> str:
        """Returns when the connection has ended, with the reason."""
        await self._closed.wait()
        return self._why

    async def read(self) -> None:
        """Takes in what tor sends until the connection ends; run once, by `open_control`."""
        parser = ReplyParser()
        try:
            while data := await self._stream.receive_some(65536):
                for reply in parser.feed(bytes(data)):
                    self._take(reply)
        except NotTor as error:
            self._why = str(error)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._why = f"the control connection broke: {error}"
        finally:
            self._end()

    def _take(self, reply: ControlReply) -> None:
        if not reply.asynchronous:
            if not self._waiters:
                raise NotTor("an answer came over the control connection to what was not asked")
            waiter = self._waiters.popleft()
            waiter.reply = reply
            waiter.done.set()
            return
        event = event_of(reply)
        for names, send in self._listeners:
            if event.name in names:
                # A slow listener loses the newest, and one that is leaving needs none.
                with suppress(trio.WouldBlock, trio.BrokenResourceError):
                    send.send_nowait(event)

    def _end(self) -> None:
        self._closed.set()
        for waiter in self._waiters:
            waiter.done.set()
        for _, send in self._listeners:
            send.close()
        self._listeners.clear()

    async def _send(self, line: bytes) -> None:
        # Shielded: half a command on the wire would be finished by whatever is sent next.
        with trio.CancelScope(shield=True), trio.move_on_after(self._answer_s) as patience:
            try:
                await self._stream.send_all(line)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise TorClosed(f"the control connection broke: {error}") from error
        if patience.cancelled_caught:
            await trio.aclose_forcefully(self._stream)
            raise TorSilent(f"tor took no command for {self._answer_s:g} s")

    def _ensure_open(self) -> None:
        if self._closed.is_set():
            raise TorClosed(self._why)


@asynccontextmanager
async def open_control(endpoint: Endpoint, *, answer_s: float = ANSWER_S) -> AsyncIterator[TorControl]:
    """A connection to the tor whose control port is there, authenticated; what is tied to it ends with the context.

    Raises TorUnreachable, TorClosed, TorSilent, NotTor; what the body raises comes out as it is, in no group.
    """
    stream = await _connected(endpoint)
    control = TorControl(stream, answer_s=answer_s)
    async with bare_nursery() as nursery:
        nursery.start_soon(control.read)
        try:
            await _authenticate(control, spelled(endpoint))
            yield control
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()


async def _connected(endpoint: Endpoint) -> trio.SocketStream:
    try:
        return await connect(endpoint)
    except PermissionError as error:
        assert isinstance(endpoint, Path)
        raise TorUnreachable(f"{_may_not(endpoint, 'open the control socket')}") from error
    except OSError as error:
        raise TorUnreachable(
            f"nothing answers at tor's control port {spelled(endpoint)} ({error.strerror}): start tor with "
            f"`{'ControlSocket' if isinstance(endpoint, Path) else 'ControlPort'}` set to it, or name the right one"
        ) from error


async def _authenticate(control: TorControl, place: str) -> None:
    answer = await control.command("PROTOCOLINFO 1")
    offer = next((line for line in answer.lines if line.startswith("AUTH ")), "")
    methods = pairs(offer).get("METHODS", "").split(",")
    if "SAFECOOKIE" in methods:
        path = Path(pairs(offer).get("COOKIEFILE", ""))
        proof = await _proof(control, place, path)
    elif "NULL" in methods:
        proof = ""
    else:
        raise TorUnreachable(
            f"tor at {place} offers the authentication {','.join(methods) or 'none'}, and this program speaks SAFECOOKIE: "
            "set `CookieAuthentication 1` in its torrc"
        )
    try:
        await control.command(f"AUTHENTICATE {proof}".rstrip())
    except TorRefusal as refusal:
        raise TorUnreachable(
            f"tor at {place} refused our proof of its cookie ({refusal}): reload tor and try again"
        ) from refusal


async def _proof(control: TorControl, place: str, path: Path) -> str:
    """What AUTHENTICATE wants: a hash over the cookie and both sides' nonces, after tor has shown the like."""
    try:
        cookie = path.read_bytes()
    except PermissionError as error:
        raise TorUnreachable(_may_not(path, f"read the SAFECOOKIE of tor at {place},")) from error
    except OSError as error:
        raise TorUnreachable(
            f"the SAFECOOKIE of tor at {place} should be in {path}, which cannot be read ({error.strerror}): tor may run in "
            "another container or chroot; give both the same path with `CookieAuthFile`"
        ) from error
    ours = secrets.token_bytes(32)
    answer = pairs((await control.command(f"AUTHCHALLENGE SAFECOOKIE {ours.hex()}")).lines[0])
    try:
        shown, theirs = bytes.fromhex(answer["SERVERHASH"]), bytes.fromhex(answer["SERVERNONCE"])
    except (KeyError, ValueError) as error:
        raise NotTor(f"what listens at {place} answered AUTHCHALLENGE without a hash") from error
    message = cookie + ours + theirs
    if len(cookie) != 32 or not hmac.compare_digest(hmac.digest(_SERVER_HASH, message, "sha256"), shown):
        raise TorUnreachable(
            f"what listens at {place} does not know the cookie in {path}: something else has tor's port, or the file is of "
            "another tor; stop what listens there and restart tor"
        )
    return hmac.digest(_CLIENT_HASH, message, "sha256").hex()


def _may_not(path: Path, act: str) -> str:
    """The sentence for a permission that is missing, with the group that has it and how to get in."""
    user = getpass.getuser()
    group = _group(path)
    return (
        f"{user} may not {act} {path}: only its owner and the group {group} may; add yourself with "
        f"`adduser {user} {group}`, log in anew and start again"
    )


def _group(path: Path) -> str:
    for place in (path, *path.parents):
        try:
            return grp.getgrgid(os.stat(place).st_gid).gr_name
        except (OSError, KeyError):
            continue
    return "debian-tor"


def target(endpoint: Endpoint) -> str:
    """The endpoint as ADD_ONION takes it; raises BadEndpoint for what it cannot name."""
    text = spelled(checked(endpoint))
    if any(character.isspace() or character in '",\\' for character in text):
        raise BadEndpoint(f"{text} has a space, comma or quote in it, which ADD_ONION cannot name: use another folder")
    return text
