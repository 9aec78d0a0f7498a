"""Keccak-256 and session ids, against published values and a Keccak written out here."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import MB, NO_NETWORK, Address, keccak256, session_id
from tests.vectors.stored import vector

VECTORS = vector("keccak")
LANE = (1 << 64) - 1


def permuted(lanes: list[list[int]]) -> list[list[int]]:
    """Keccak-f[1600] as FIPS 202 §3.2 states it, on lanes[x][y]."""

    def turned(lane: int, by: int) -> int:
        return (lane << by % 64 | lane >> (64 - by % 64)) & LANE

    register = 1
    for _ in range(24):
        column = [lanes[x][0] ^ lanes[x][1] ^ lanes[x][2] ^ lanes[x][3] ^ lanes[x][4] for x in range(5)]
        spread = [column[(x - 1) % 5] ^ turned(column[(x + 1) % 5], 1) for x in range(5)]
        lanes = [[lanes[x][y] ^ spread[x] for y in range(5)] for x in range(5)]
        x, y, current = 1, 0, lanes[1][0]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            current, lanes[x][y] = lanes[x][y], turned(current, (step + 1) * (step + 2) // 2)
        lanes = [[lanes[x][y] ^ ~lanes[(x + 1) % 5][y] & lanes[(x + 2) % 5][y] for y in range(5)] for x in range(5)]
        for bit in range(7):
            lanes[0][0] ^= (register & 1) << ((1 << bit) - 1)
            register = register << 1 ^ (0x171 if register & 0x80 else 0)
    return lanes


def sponge(data: bytes, suffix: int) -> bytes:
    """256 bits of Keccak with a capacity of 512, the suffix being the first byte of the padding."""
    padded = bytearray(data + bytes([suffix]) + bytes(-(len(data) + 1) % 136))
    padded[-1] |= 0x80
    lanes = [[0] * 5 for _ in range(5)]
    for start in range(0, len(padded), 136):
        for at in range(17):
            lanes[at % 5][at // 5] ^= int.from_bytes(padded[start + 8 * at : start + 8 * at + 8], "little")
        lanes = permuted(lanes)
    return b"".join(lanes[x][0].to_bytes(8, "little") for x in range(4))


@pytest.mark.parametrize("case", VECTORS["cases"])
def test_keccak256_has_the_published_values(case: dict[str, str]) -> None:
    assert keccak256(bytes.fromhex(case["input"])).hex() == case["digest"]


@given(st.binary(max_size=300))
def test_keccak256_is_keccak_with_the_old_padding(data: bytes) -> None:
    assert sponge(data, 0x06) == hashlib.sha3_256(data).digest()  # the permutation above is the right one
    assert keccak256(data) == sponge(data, 0x01) != hashlib.sha3_256(data).digest()


def test_session_id_is_keccak256_of_owner_uuid_and_key() -> None:
    stored = VECTORS["session"]
    owner, uuid, ephemeral = (bytes.fromhex(stored[name]) for name in ("owner", "uuid", "ephemeral"))
    assert session_id(Address(owner), uuid, ephemeral).hex() == stored["id"]
    assert sponge(owner + uuid + ephemeral, 0x01).hex() == stored["id"]


@pytest.mark.parametrize("sizes", [(19, 16, 32), (21, 16, 32), (20, 15, 33), (20, 17, 31), (20, 16, 33), (0, 0, 0)])
def test_session_id_refuses_parts_that_could_run_into_each_other(sizes: tuple[int, int, int]) -> None:
    owner, uuid, ephemeral = map(bytes, sizes)
    with pytest.raises(ValueError, match="20, 16 and 32 bytes"):
        session_id(Address(owner), uuid, ephemeral)


def test_the_shared_constants_are_those_of_the_rules() -> None:
    assert MB == 10**6
    assert bytes(32) == NO_NETWORK
