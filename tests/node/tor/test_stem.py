"""Our control client beside stem on one real tor: what it says, what it makes of keys, what it tells by itself, how it quotes."""

import base64
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import stem
import stem.control
import stem.response
import stem.response.events
import trio
from hypothesis import given
from hypothesis import strategies as st

from node.tor.control import TorControl, TorRefusal, open_control
from node.tor.onion import expand, onion_of, parse_onion, reader_key
from node.tor.socks import DialFailed, dial_onion
from node.tor.wire import pairs
from tests.node.tor.conftest import PrivateTor

pytestmark = pytest.mark.filterwarnings("ignore:setDaemon:DeprecationWarning")

KEYS: Final = (
    "version",
    "process/pid",
    "onions/current",
    "events/names",
    "info/names",
    "config/names",
    "ns/all",
    "status/enough-dir-info",
    "config-file",
    "net/listeners/socks",
    "signal/names",
    "circuit-status",
)


@pytest.mark.component
async def test_stem_reads_of_tor_what_our_client_reads(private_tor: PrivateTor) -> None:
    path = private_tor.controls[2]
    seed = secrets.token_bytes(32)
    async with open_control(path) as control:
        onion = await control.add_onion(seed, {80: private_tor.folder / "nobody"})
        mine = {key: await control.info(key) for key in KEYS}
        theirs = await trio.to_thread.run_sync(said_to_stem, path)
        # stem takes whitespace off the ends; the others' connection holds none of this one's onions.
        assert mine.pop("onions/current") == onion
        assert theirs.pop("onions/current") == ""
        stable = set(mine) - {"circuit-status"}
        assert {key: mine[key].strip() for key in stable} == {key: theirs[key].strip() for key in stable}
        assert mine["ns/all"].count("\nw Bandwidth=") == 5
        await agree_on_circuits(control, path)


@contextmanager
def controlled(path: Path) -> Iterator[Any]:
    """stem's connection to a tor, for a thread."""
    with stem.control.Controller.from_socket_file(str(path)) as controller:
        controller.authenticate()
        yield controller


def said_to_stem(path: Path) -> dict[str, str]:
    with controlled(path) as controller:
        return {key: str(value) for key, value in controller.get_info(KEYS).items()}


async def agree_on_circuits(control: TorControl, path: Path) -> None:
    def by_stem() -> set[str]:
        with controlled(path) as controller:
            return {circuit.id for circuit in controller.get_circuits()}

    before = await control.info("circuit-status")
    theirs = await trio.to_thread.run_sync(by_stem)
    after = await control.info("circuit-status")
    seen = [{line.split()[0] for line in said.splitlines()} for said in (before, after)]
    assert seen[0] & seen[1] <= theirs
    assert seen[0] & seen[1]


@pytest.mark.component
async def test_keys_make_the_onions_that_they_make_for_stem(private_tor: PrivateTor) -> None:
    path, nobody = private_tor.controls[2], private_tor.folder / "nobody"
    seed, reader = secrets.token_bytes(32), reader_key(secrets.token_bytes(32))

    def by_stem(kind: str, content: str, **more: Any) -> tuple[str, str]:
        with controlled(path) as controller:
            try:
                made = controller.create_ephemeral_hidden_service({80: f"unix:{nobody}"}, kind, content, **more)
            except stem.ProtocolError as refused:
                return "", str(refused)
            return made.service_id, made.private_key or ""

    async with open_control(path) as control:
        ours = await control.add_onion(seed, {80: nobody}, readers=[reader])
        _, refused = await trio.to_thread.run_sync(by_stem, "ED25519-V3", base64.b64encode(expand(seed)).decode())
        assert "collision" in refused
        await control.del_onion(ours)
        key = base64.b64encode(expand(seed)).decode()
        theirs, _ = await trio.to_thread.run_sync(lambda: by_stem("ED25519-V3", key, client_auth_v3=reader))
        assert theirs == ours == onion_of(seed)
        for kind in ("ED25519-V3", "BEST"):
            made, key = await trio.to_thread.run_sync(by_stem, "NEW", kind)
            reply = await control.command(f"ADD_ONION ED25519-V3:{key} Port=80,unix:{nobody}")
            assert parse_onion(reply.values()["ServiceID"]) == made
            await control.del_onion(parse_onion(made))
        _, refused = await trio.to_thread.run_sync(by_stem, "NEW", "RSA1024")
        with pytest.raises(TorRefusal, match="513") as refusal:
            await control.command(f"ADD_ONION NEW:RSA1024 Port=80,unix:{nobody}")
        assert refused.rpartition(": ")[2] in str(refusal.value)


@pytest.mark.component
async def test_events_and_quoted_strings_are_read_as_stem_reads_them(private_tor: PrivateTor) -> None:
    """Both listen while an onion that nobody publishes is dialled, by a name that tor has to quote."""
    path, onion, name = private_tor.controls[2], onion_of(secrets.token_bytes(32)), 'a = b, "jürgen\'s" \\ \t'
    kinds = [stem.control.EventType.HS_DESC, stem.control.EventType.STREAM]
    send, theirs = trio.open_memory_channel[Any](1000)
    token = trio.lowlevel.current_trio_token()
    async with open_control(path) as control, control.events(*kinds) as ours:
        with controlled(path) as controller:
            await trio.to_thread.run_sync(
                lambda: controller.add_event_listener(
                    lambda event: trio.from_thread.run_sync(send.send_nowait, event, trio_token=token), *kinds
                )
            )
            with pytest.raises(DialFailed):
                await dial_onion(private_tor.socks[2], onion, 80, name)
            with trio.fail_after(60):
                mine = [event async for event in about(onion, ours)]
                stems = [event async for event in about(onion, theirs)]
            await trio.to_thread.run_sync(controller.close)
    assert [event.name for event in mine] == [event.type for event in stems]
    for event, other in zip(mine, stems, strict=True):
        assert f"{event.name} {event.text}" == str(other)
        assert event.words[: len(other.positional_args)] == other.positional_args
        plain = {key: value for key, value in other.keyword_args.items() if not key.startswith("SOCKS_")}
        assert plain.items() <= event.pairs.items()
    quoted = [event for event in mine if event.name == "STREAM"]
    assert {event.pairs["SOCKS_PASSWORD"] for event in quoted} == {name}
    for event in quoted:
        line = stem.response.ControlLine(event.text[event.text.index("SOCKS_PASSWORD=") :])
        assert line.pop_mapping(quoted=True, escaped=True) == ("SOCKS_PASSWORD", name)


async def about(onion: str, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The events that name an onion, until a stream to it is closed."""
    async for event in events:
        text = str(event) if isinstance(event, stem.response.events.Event) else f"{event.name} {event.text}"
        if onion in text:
            yield event
            if text.startswith("STREAM ") and " CLOSED " in text:
                return


def quoted_by_tor(text: str) -> str:
    """esc_for_log of tor's lib/string/escape.c."""
    names = {'"': '\\"', "\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    plain = (names.get(chr(byte)) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in text.encode())
    return f'"{"".join(plain)}"'


@given(st.text(), st.text("ab\\\"'01\n"))
def test_what_tor_quotes_is_read_back(one: str, other: str) -> None:
    line = f"A={quoted_by_tor(one)} B={quoted_by_tor(other)} C=c"
    assert pairs(line) == {"A": one, "B": other, "C": "c"}
    # stem takes the quote after an escaped backslash for an escaped quote, and a value's own "=" for the key's.
    if '\\"' not in one + '"' and "=" not in one:
        assert stem.response.ControlLine(line).pop_mapping(quoted=True, escaped=True) == ("A", one)
