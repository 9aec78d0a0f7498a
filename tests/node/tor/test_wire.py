"""Replies of the control protocol: read whole whatever the packets, and refused when they are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.tor.wire import REPLY_BYTES_MAX, ControlReply, NotTor, ReplyParser, event_of, line_of, pairs

TEXT = st.text(st.characters(blacklist_characters="\r\n\0", blacklist_categories=["Cs"]), max_size=20)
CODES = st.integers(100, 999)
LINES = st.lists(st.tuples(TEXT, st.none() | st.lists(TEXT, max_size=3)), max_size=4)


def written(code: int, lines: list[tuple[str, list[str] | None]], last: str) -> bytes:
    out = ""
    for text, block in lines:
        out += f"{code}{'-' if block is None else '+'}{text}\r\n"
        if block is not None:
            out += "".join(f"{'.' if line.startswith('.') else ''}{line}\r\n" for line in block) + ".\r\n"
    return f"{out}{code} {last}\r\n".encode()


@given(st.lists(st.tuples(CODES, LINES, TEXT), max_size=3), st.integers(1, 50))
def test_replies_are_the_same_in_whatever_pieces_they_come(
    replies: list[tuple[int, list[tuple[str, list[str] | None]], str]], piece: int
) -> None:
    data = b"".join(written(*reply) for reply in replies)
    parser = ReplyParser()
    read = [reply for at in range(0, len(data), piece) for reply in parser.feed(data[at : at + piece])]
    assert [(reply.code, *reply.lines) for reply in read] == [
        (code, *(text for text, _ in lines), last) for code, lines, last in replies
    ]
    for reply, (_, lines, _last) in zip(read, replies, strict=True):
        assert reply.data == {at: "\n".join(block) for at, (_, block) in enumerate(lines) if block is not None}


@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([b"250 OK\r\n", b"250+a\r\n", b".\r\n", b"650-"]), max_size=20)
)
def test_whatever_comes_is_replies_or_not_tor(pieces: list[bytes]) -> None:
    parser = ReplyParser()
    try:
        for piece in pieces:
            for reply in parser.feed(piece):
                assert isinstance(reply, ControlReply)
                assert 100 <= reply.code <= 999
    except NotTor:
        pass


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-x\r\n", b"HTTP/1.1 400 Bad\r\n", b"\r\n", b"250?OK\r\n", b"250-a\r\n251 b\r\n"]
)
def test_another_protocol_is_not_tor(data: bytes) -> None:
    with pytest.raises(NotTor):
        ReplyParser().feed(data)


def test_a_reply_without_end_is_refused_in_bounded_memory() -> None:
    parser, line = ReplyParser(), b"250-" + b"x" * 65_530 + b"\r\n"
    with pytest.raises(NotTor, match="over"):
        for _ in range(REPLY_BYTES_MAX // len(line) + 2):
            parser.feed(line)
    parser = ReplyParser()
    with pytest.raises(NotTor, match="over"):
        for _ in range(REPLY_BYTES_MAX // 65_536 + 2):
            parser.feed(b"2" * 65_536)


@pytest.mark.parametrize("text", ["GETINFO a\r\nSIGNAL HALT", "a\nb", "a\rb", "a\0b"])
def test_one_command_is_never_two(text: str) -> None:
    with pytest.raises(ValueError, match="no line end"):
        line_of(text)


def test_quoted_values_lose_their_quotes_and_escapes() -> None:
    (reply,) = ReplyParser().feed(
        b'650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=45 TAG=a SUMMARY="Asking \\"x\\" \\\\ y"\r\n'
    )
    event = event_of(reply)
    assert (event.name, event.words[:2]) == ("STATUS_CLIENT", ["NOTICE", "BOOTSTRAP"])
    assert event.pairs == pairs(event.text) == {"PROGRESS": "45", "TAG": "a", "SUMMARY": 'Asking "x" \\ y'}
