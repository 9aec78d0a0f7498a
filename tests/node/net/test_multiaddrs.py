import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.net.multiaddrs import binary, written_out

ONION = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd"


def test_known_spellings() -> None:
    assert binary("/ip4/127.0.0.1/tcp/4001").hex() == "047f000001060fa1"  # multiaddr's own encoding of it
    assert binary(f"/onion3/{ONION}:80")[:2].hex() == "bd03"
    assert len(binary(f"/onion3/{ONION}:80")) == 39


@given(st.integers(1, 65_535), st.binary(min_size=35, max_size=35))
def test_an_address_survives_being_written_out(port: int, onion: bytes) -> None:
    for address in (
        bytes((4, 127, 0, 0, 1, 6)) + port.to_bytes(2, "big"),
        b"\xbd\x03" + onion + port.to_bytes(2, "big"),
    ):
        assert binary(written_out(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/10.0.0.1/tcp/1",
        "/dns4/example.org/tcp/1",
        "/ip4/127.0.0.1/tcp/0",
        "/ip4/127.0.0.1/tcp/65536",
        "/ip4/127.0.0.1/udp/1",
        f"/onion3/{ONION[:-1]}:80",
        f"/onion3/{ONION}:0",
        f"/onion3/{ONION}.onion:80",
        "",
    ],
)
def test_all_others_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        binary(text)


@given(st.binary(max_size=45))
def test_any_bytes_are_written_out_exactly_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert binary(written_out(data)) == data
