from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.fmp4 import PIECE_BYTES_MAX, MalformedVideo, Splitter, epochs


def box(name: bytes, body: bytes = b"", *, long: bool = False) -> bytes:
    if long:
        return (1).to_bytes(4, "big") + name + (16 + len(body)).to_bytes(8, "big") + body
    return (8 + len(body)).to_bytes(4, "big") + name + body


bodies = st.binary(max_size=40)
others = st.lists(
    st.builds(box, st.sampled_from([b"styp", b"sidx", b"free", b"uuid"]), bodies, long=st.booleans()), max_size=2
)
fragments = st.builds(
    lambda before, moof, between, mdat, long: (
        b"".join(before) + box(b"moof", moof) + b"".join(between) + box(b"mdat", mdat, long=long)
    ),
    others,
    bodies,
    others,
    bodies,
    st.booleans(),
)
heads = st.builds(lambda ftyp, moov: box(b"ftyp", ftyp) + box(b"moov", moov), bodies, bodies)


@st.composite
def portions(draw: st.DrawFn, data: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[a:b] for a, b in pairwise([0, *cuts, len(data)])]


@given(st.data(), heads, st.lists(fragments, min_size=1, max_size=5), st.binary(max_size=7))
def test_pieces_are_the_fragments_however_the_bytes_arrive(
    data: st.DataObject, head: bytes, parts: list[bytes], tail: bytes
) -> None:
    splitter, pieces = Splitter(), []
    for portion in data.draw(portions(head + b"".join(parts) + tail)):
        pieces += splitter.feed(portion)
    assert pieces == [head + parts[0], *parts[1:]]
    assert splitter.pending == len(tail)
    assert splitter.finish() == tail
    assert splitter.finish() == b""


@given(st.data(), st.binary(max_size=200))
def test_no_byte_is_lost_whatever_they_are(data: st.DataObject, garbage: bytes) -> None:
    """Any input, split anyhow: the same pieces, the same verdict, and pieces plus tail are the input."""

    def run(fed: list[bytes]) -> tuple[list[bytes], bytes, bool]:
        splitter, pieces, refused = Splitter(), [], False
        for portion in [*fed, b""]:
            try:
                pieces += splitter.feed(portion)
            except MalformedVideo:
                refused = True
        return pieces, splitter.finish(), refused

    whole = box(b"ftyp") + box(b"moof") + box(b"mdat", b"xyz") + garbage
    pieces, tail, refused = run(data.draw(portions(whole)))
    assert b"".join(pieces) + tail == whole
    assert run([whole]) == (pieces, tail, refused)


@pytest.mark.parametrize(
    "garbage",
    [
        (0).to_bytes(4, "big") + b"mdat" + bytes(8),
        (7).to_bytes(4, "big") + b"mdat" + bytes(8),
        (1).to_bytes(4, "big") + b"mdat" + (15).to_bytes(8, "big"),
        (PIECE_BYTES_MAX + 1).to_bytes(4, "big") + b"mdat",
        (1).to_bytes(4, "big") + b"mdat" + (1 << 63).to_bytes(8, "big"),
        (16).to_bytes(4, "big") + b"\x00\x01\x02\x03" + bytes(8),
        box(b"free", bytes(100)) + (PIECE_BYTES_MAX - 50).to_bytes(4, "big") + b"mdat",
    ],
)
def test_garbage_is_refused_after_what_was_complete(garbage: bytes) -> None:
    good = box(b"ftyp") + box(b"moov") + box(b"moof") + box(b"mdat", b"frame")
    splitter = Splitter()
    assert splitter.feed(good + garbage) == [good]
    with pytest.raises(MalformedVideo):
        splitter.feed(b"")
    assert splitter.finish() == garbage


@given(st.data(), st.lists(st.tuples(heads, st.lists(fragments, max_size=3)), max_size=4), st.binary(max_size=7))
def test_epochs_are_found_at_each_ftyp_and_nowhere_else(
    data: st.DataObject, parts: list[tuple[bytes, list[bytes]]], tail: bytes
) -> None:
    whole, starts = b"", []
    for head, body in parts:
        starts.append(len(whole))
        # The bytes of a ftyp box inside a frame are a frame's bytes.
        whole += head + b"".join(body) + box(b"moof") + box(b"mdat", box(b"ftyp", b"isom"))
    assert list(epochs(data.draw(portions(whole + tail)))) == starts
