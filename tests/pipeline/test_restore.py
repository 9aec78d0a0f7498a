"""The way back: exactly what was recorded, or the name of the chunk that is at fault."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from blake3 import blake3

from consensus.encoding import Malformed
from consensus.ids import Digest, SessionId
from pipeline.manifest import Chunk
from pipeline.restore import Damaged, stream_bytes
from pipeline.seal import SessionKeys, Unauthentic, open_sealed
from pipeline.sealed import Flags
from pipeline.stream import Stream
from tests.pipeline.sessions import BOTH, Made, keys, replaced, seal, seed, small, terms

PLAIN = {
    Stream.VIDEO: [bytes(range(256)) * 5, b"frame" * 300, b""],
    Stream.AUDIT: [b'{"key":"letter"}\n' * 50, b"end\n"],
}
MADE = seal(terms(), PLAIN)


def played(made: Made, stream: Stream, secret: bytes = MADE.terms.secret) -> list[bytes]:
    return list(stream_bytes(made.opening, made.chunks, stream, secret, lambda chunk: made.files[chunk.file]))


def test_each_stream_comes_back_chunk_by_chunk() -> None:
    assert {stream: played(MADE, stream) for stream in BOTH} == PLAIN


@pytest.mark.parametrize("secret", [seed("another"), bytes(32), MADE.terms.secret[::-1]])
def test_a_wrong_secret_opens_nothing(secret: bytes) -> None:
    with pytest.raises(Damaged, match="video/0 cannot be played: it was sealed under another session's key"):
        played(MADE, Stream.VIDEO, secret)


def dropped(made: Made, name: str) -> Made:
    return replace(made, chunks=tuple(chunk for chunk in made.chunks if chunk.name != name))


def resealed(made: Made, name: str, change: Callable[[bytes], bytes]) -> Made:
    """The chunk's bytes changed and listed as if they had been so."""
    data = change(made.files[next(chunk.file for chunk in made.chunks if chunk.name == name)])
    file = Digest(blake3(data).digest())
    return replaced(replace(made, files={**made.files, file: data}), name, file=file)


def flip(at: int, data: bytes) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("damage", "name", "reason"),
    [
        (partial(dropped, name="video/0"), "video/0", "video/1 stands in its place"),
        (partial(dropped, name="video/1"), "video/1", "video/2 stands in its place"),
        (partial(dropped, name="video/2"), "video/2", "is not the stream's last"),
        (partial(replaced, name="video/1", file=Digest(bytes(32))), "video/1", "missing"),
        (partial(replaced, name="video/1", commitment=Digest(bytes(32))), "video/1", "another session's key"),
        (partial(replaced, name="video/1", gaps=1), "video/1", "otherwise than the listing"),
        (partial(replaced, name="video/1", plain=7), "video/1", "otherwise than the listing"),
        (partial(replaced, name="video/1", flags=int(Flags.LAST)), "video/1", "otherwise than the listing"),
        (partial(resealed, name="video/1", change=partial(flip, 130)), "video/1", "does not open"),
        (partial(resealed, name="video/1", change=partial(flip, 100)), "video/1", "does not open"),
        (partial(resealed, name="video/1", change=partial(flip, 10)), "video/1", "does not open"),
        (partial(resealed, name="video/1", change=partial(flip, 0)), "video/1", "first bytes are wrong"),
        (partial(resealed, name="video/1", change=lambda data: data[:50]), "video/1", "too few"),
    ],
)
def test_damage_names_the_chunk(damage: Callable[[Made], Made], name: str, reason: str) -> None:
    with pytest.raises(Damaged, match=reason) as caught:
        played(damage(MADE), Stream.VIDEO)
    assert caught.value.chunk == name


def test_bytes_that_are_not_the_listed_ones_give_nothing_out() -> None:
    files = dict(MADE.files)
    first = MADE.chunks[0]
    files[first.file] = flip(200, files[first.file])
    with pytest.raises(Damaged, match="video/0 cannot be played: its bytes are not those that were sealed"):
        played(replace(MADE, files=files), Stream.VIDEO)


def test_a_stream_without_chunks_is_not_an_empty_stream() -> None:
    made = small()
    with pytest.raises(Damaged, match="audit/0"):
        played(replace(made, chunks=made.chunks[:3]), Stream.AUDIT, made.terms.secret)


def test_a_chunk_opens_under_its_own_key_only() -> None:
    """Its place, its session and its flags are part of what is authenticated."""
    right = keys(MADE.terms)
    chunk = next(chunk for chunk in MADE.chunks if chunk.name == "audit/0")
    sealed = MADE.files[chunk.file]
    assert open_sealed(right.chunk(Stream.AUDIT, 0).key, sealed)[1] == PLAIN[Stream.AUDIT][0]
    other = SessionKeys(right.network, SessionId(bytes(32)), right.secret)
    for key in (right.chunk(Stream.AUDIT, 1), right.chunk(Stream.VIDEO, 0), other.chunk(Stream.AUDIT, 0)):
        with pytest.raises(Unauthentic):
            open_sealed(key.key, sealed)
    for at in range(len(sealed)):
        with pytest.raises((Unauthentic, Malformed)):
            open_sealed(right.chunk(Stream.AUDIT, 0).key, flip(at, sealed))


def test_damage_stops_the_stream_before_the_chunk_and_not_before_the_stream() -> None:
    bad = replaced(MADE, "video/1", file=Digest(bytes(32)))
    given: list[bytes] = []

    def read(chunk: Chunk) -> bytes:
        return bad.files[chunk.file]

    with pytest.raises(Damaged, match="video/1"):
        given.extend(stream_bytes(bad.opening, bad.chunks, Stream.VIDEO, bad.terms.secret, read))
    assert given == PLAIN[Stream.VIDEO][:1]
