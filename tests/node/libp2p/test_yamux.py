"""Yamux as bytes in and bytes out: two sessions against each other, and one against whatever comes."""

import struct
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.encoding import Malformed
from node.libp2p.yamux import CONTROL_BYTES_MAX, WINDOW_BYTES, Yamux, YamuxStream
from tests.examples import examples

DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8


def frame(kind: int, flags: int, number: int, value: int, body: bytes = b"", version: int = 0) -> bytes:
    return struct.pack("!BBHII", version, kind, flags, number, value) + body


class Ear:
    """A listener that keeps what it is told; `reads` makes room at once."""

    def __init__(self, reads: bool = True) -> None:
        self.reads = reads
        self.stream: YamuxStream
        self.heard = bytearray()
        self.fate = ""
        self.then: Callable[[], None] = lambda: None

    def data(self, data: bytes) -> None:
        self.heard += data
        if self.reads:
            self.stream.consumed(len(data))
        self.then()

    def ended(self) -> None:
        self.fate += "ended "

    def broken(self) -> None:
        self.fate += "broken "

    def writable(self) -> None:
        pass

    def late(self, now: float) -> None:
        pass

    def stuck(self) -> None:
        pass


class Session:
    def __init__(self, *, client: bool = False, reads: bool = True, most: int = 8) -> None:
        self.ears: list[Ear] = []
        self.reads = reads
        self.mux = Yamux(client=client, streams_max=most, opened=self.opened, wake=lambda: None)

    def opened(self, stream: YamuxStream) -> None:
        ear = Ear(self.reads)
        ear.stream = stream
        stream.listener = ear
        self.ears.append(ear)

    def open(self, first: bytes) -> Ear:
        ear = Ear(self.reads)
        ear.stream = self.mux.open(first, ear)
        return ear

    def drain(self) -> bytes:
        out = b""
        while self.mux.pending:
            out += self.mux.take(65_519)
        return out


@settings(max_examples=examples(25))
@given(st.integers(0, 1 << 32), st.lists(st.integers(0, 400_000), min_size=1, max_size=4))
def test_whatever_is_written_arrives_once_in_order_however_it_is_cut(seed: int, sizes: list[int]) -> None:
    rng = Random(seed)
    one, other = Session(client=True), Session()
    texts = [rng.randbytes(size) for size in sizes]
    opened = [one.open(b"#%d " % place) for place in range(len(texts))]
    left = [bytearray(text) for text in texts]
    while any(left) or one.mux.pending or other.mux.pending:
        for ear, text in zip(opened, left, strict=True):
            if text and rng.random() < 0.5:
                count = rng.randrange(1, 100_000)
                ear.stream.write(bytes(text[:count]))
                del text[:count]
                if not text:
                    ear.stream.finish()
        for source, target in ((one, other), (other, one)):
            data = source.mux.take(rng.choice([16_408, 65_519]))
            while data:
                cut = rng.randrange(1, 50_000)
                target.mux.receive(data[:cut])
                data = data[cut:]
    assert [bytes(ear.heard) for ear in other.ears] == [b"#%d " % n + text for n, text in enumerate(texts)]
    assert all(ear.fate == ("ended " if text else "") for ear, text in zip(other.ears, texts, strict=True))


def test_nobody_sends_more_than_the_window_and_whoever_does_is_cut_off() -> None:
    one, other = Session(client=True), Session(reads=False)
    ear = one.open(b"x")
    ear.stream.write(bytes(1_000_000))
    other.mux.receive(one.drain())
    assert len(other.ears[0].heard) == WINDOW_BYTES
    assert ear.stream.stalled
    other.ears[0].stream.consumed(WINDOW_BYTES)
    one.mux.receive(other.drain())
    other.mux.receive(one.drain())
    assert len(other.ears[0].heard) == 2 * WINDOW_BYTES
    with pytest.raises(Malformed):
        other.mux.receive(frame(DATA, 0, 1, 1, b"x"))


def test_who_finishes_after_the_peer_says_so_and_is_gone_then() -> None:
    session = Session()
    session.mux.receive(frame(DATA, SYN, 1, 1, b"x"))
    stream = session.ears[0].stream
    stream.write(b"y")
    assert session.drain() == frame(WINDOW, ACK, 1, 0) + frame(DATA, 0, 1, 1, b"y")
    session.ears[0].ended = stream.finish  # type: ignore[method-assign]
    session.mux.receive(frame(WINDOW, FIN, 1, 0))
    assert session.drain() == frame(WINDOW, FIN, 1, 0), "else the peer waits for it"
    assert session.mux.streams == ()


def test_streams_take_turns() -> None:
    one, other = Session(client=True), Session()
    bulk, short = one.open(b""), one.open(b"")
    bulk.stream.write(bytes(200_000))
    short.stream.write(b"short")
    other.mux.receive(one.mux.take(65_519))
    assert other.ears[1].heard == b"short"
    assert len(other.ears[0].heard) < 65_519


def test_what_waits_can_be_given_up_but_for_what_has_begun() -> None:
    one, other = Session(client=True), Session(reads=False)
    ear = one.open(b"")
    for letter in b"abc":
        ear.stream.write(bytes([letter]) * 200_000)
    other.mux.receive(one.drain())
    assert ear.stream.waiting == 2
    assert ear.stream.give_up_oldest()
    assert not ear.stream.give_up_oldest()
    assert ear.stream.queued == 400_000 - WINDOW_BYTES
    other.ears[0].stream.consumed(WINDOW_BYTES)
    one.mux.receive(other.drain())
    other.mux.receive(one.drain())
    assert other.ears[0].heard == b"a" * 200_000 + b"b" * 200_000


def test_a_session_that_is_closed_while_it_takes_data_takes_no_more() -> None:
    session = Session()
    two = frame(DATA, SYN, 1, 1, b"x") + frame(DATA, 0, 1, 1, b"y") + frame(DATA, SYN, 3, 1, b"z")
    session.mux.receive(frame(WINDOW, SYN, 5, 0))
    session.drain()
    session.ears[0].then = session.mux.close
    session.mux.receive(frame(DATA, 0, 5, 1, b"!") + two)
    assert len(session.ears) == 1
    assert session.ears[0].fate == "broken "
    assert not session.mux.pending


def test_streams_beyond_the_most_are_reset_and_room_comes_back() -> None:
    session = Session(most=2)
    session.mux.receive(b"".join(frame(WINDOW, SYN, number, 0) for number in (1, 3, 5)))
    assert session.drain() == frame(WINDOW, ACK, 1, 0) + frame(WINDOW, ACK, 3, 0) + frame(WINDOW, RST, 5, 0)
    session.mux.receive(frame(WINDOW, RST, 1, 0) + frame(WINDOW, SYN, 7, 0))
    assert session.drain() == frame(WINDOW, ACK, 7, 0)
    assert [ear.fate for ear in session.ears] == ["broken ", "", ""]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("another version", frame(DATA, SYN, 1, 0, version=1)),
        ("no such frame", frame(4, 0, 0, 0)),
        ("our number", frame(DATA, SYN, 2, 0)),
        ("number 0", frame(DATA, SYN, 0, 0)),
        ("a number twice", frame(DATA, SYN, 1, 0) * 2),
        ("a window of over 32 bits", frame(DATA, SYN, 1, 0) + frame(WINDOW, 0, 1, 0xFFFFFFFF)),
        ("more than the window", frame(DATA, SYN, 1, WINDOW_BYTES + 1, bytes(WINDOW_BYTES + 1))),
        ("pings that it does not let be answered", frame(PING, SYN, 0, 1) * (CONTROL_BYTES_MAX // 12 + 1)),
        ("streams that it does not let be refused", b"".join(frame(DATA, SYN, n, 0) for n in range(1, 12_000, 2))),
    ],
)
def test_what_no_peer_may_send_ends_the_session(name: str, data: bytes) -> None:
    with pytest.raises(Malformed):
        Session(reads=False).mux.receive(data)


def test_a_frame_of_four_gigabytes_for_no_stream_holds_nothing() -> None:
    session = Session()
    session.mux.receive(frame(DATA, 0, 9, 0xFFFFFFFF))
    for _ in range(100):
        session.mux.receive(bytes(100_000))
    assert session.ears == []
    assert not session.mux.pending


frames = st.builds(
    frame,
    st.integers(0, 3),
    st.integers(0, 15),
    st.integers(0, 9),
    st.integers(0, 40),
    st.binary(max_size=40),
)


@given(st.lists(st.one_of(frames, st.binary(max_size=30)), max_size=30))
def test_whatever_comes_is_taken_or_malformed_and_bounded(pieces: list[bytes]) -> None:
    session = Session()
    session.open(b"ours")
    try:
        for piece in pieces:
            session.mux.receive(piece)
            session.drain()
    except Malformed:
        pass
    assert len(session.mux.streams) <= 9
    session.mux.close()
    assert all(ear.fate.count("broken") <= 1 for ear in session.ears)
