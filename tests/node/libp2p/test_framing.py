"""Frames and protocol names in byte streams, however they are cut."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Malformed
from node.libp2p.framing import Frames, prefixed
from node.libp2p.multistream import PROPOSALS_MAX, Accepting, NotSpoken, Proposed, proposal


@given(st.lists(st.binary(max_size=300)), st.integers(1, 50))
def test_frames_come_out_as_they_went_in(bodies: list[bytes], cut: int) -> None:
    data, frames, got = b"".join(map(prefixed, bodies)), Frames(300), []
    for at in range(0, len(data), cut):
        frames.feed(data[at : at + cut])
        got += list(frames)
    assert got == bodies
    assert len(frames) == 0


def test_a_length_is_a_varint() -> None:
    assert prefixed(bytes(300)) == b"\xac\x02" + bytes(300)
    assert prefixed(b"") == b"\x00"


@pytest.mark.parametrize("data", [prefixed(bytes(11))[:1], b"\xff\xff\xff\xff\x0f", b"\xff" * 5, b"\x80" * 6])
def test_a_length_over_the_limit_is_refused_before_its_body_comes(data: bytes) -> None:
    frames = Frames(10)
    frames.feed(data)
    with pytest.raises(Malformed):
        frames.pop()


@given(st.integers(1, 40), st.binary(max_size=40))
def test_both_sides_agree_on_a_protocol_without_waiting(cut: int, more: bytes) -> None:
    said = proposal("/a/1") + more
    accepting, answer, rest = Accepting({"/a/1", "/b/1"}), b"", b""
    for at in range(0, len(said), cut):
        if accepting.chosen is None:
            part, rest = accepting.feed(said[at : at + cut])
            answer += part
        else:
            rest += said[at : at + cut]
    assert (accepting.chosen, rest) == ("/a/1", more)
    proposed, back = Proposed("/a/1"), answer + more
    got: bytes | None = None
    for at in range(0, len(back), cut):
        got = proposed.feed(back[at : at + cut]) if got is None else got + back[at : at + cut]
    assert got == more


def test_unknown_protocols_are_refused_and_the_next_is_heard() -> None:
    accepting = Accepting({"/b/1"})
    answer, rest = accepting.feed(proposal("/a/1") + prefixed(b"/b/1\n") + b"data")
    assert (accepting.chosen, rest) == ("/b/1", b"data")
    assert answer == prefixed(b"/multistream/1.0.0\n") + prefixed(b"na\n") + prefixed(b"/b/1\n")
    with pytest.raises(NotSpoken):
        Proposed("/a/1").feed(answer)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: text/html, image/png, */*\r\n\r\n",
        prefixed(b"/multistream/2.0.0\n"),
        prefixed(b"/multistream/1.0.0\n") + prefixed(b"/x\n") * (PROPOSALS_MAX + 1),
        prefixed(b"/multistream/1.0.0\n") + prefixed(bytes(300)),
    ],
)
def test_what_is_no_negotiation_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        Accepting({"/a/1"}).feed(data)
    if not data.startswith(prefixed(b"/multistream/1.0.0\n")):
        with pytest.raises(Malformed):
            Proposed("/a/1").feed(data)


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_choice_a_wait_or_malformed(data: bytes) -> None:
    for side in (Accepting({"/a/1"}), Proposed("/a/1")):
        with suppress(Malformed, NotSpoken):
            side.feed(data)
