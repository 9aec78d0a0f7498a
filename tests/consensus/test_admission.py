"""Admission: work that counts for one node and checkpoint, its difficulty, and what pools sign."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from hypothesis import given
from hypothesis import strategies as st

from consensus.admission import (
    DIFFICULTY_MAX,
    POOL_BYTES_MAX,
    POOL_KEYS_MAX,
    POOL_MEMBERS_MAX,
    REGISTRATION_BYTES_MAX,
    RETARGET,
    PoolRegistration,
    Registration,
    SignatureList,
    SignedPool,
    SignedRegistration,
    are_signed,
    is_proof,
    pool_id,
    pool_signable,
    read_pool,
    read_registration,
    registration_signable,
    retarget,
    work_of,
)
from consensus.encoding import Malformed
from consensus.ids import Address, Network, NodeId
from consensus.records import pack
from consensus.signing import KeyPair, digest, verify, verify_as_is
from tests.consensus.worlds import NETWORK, key, named, sign_registration

ME, CHECKPOINT = NodeId(key(1).public), named(2)
LAST = (1 << 64) - 1
REGISTRATION = Registration(
    node=ME,
    era=LAST,
    checkpoint_hour=LAST,
    checkpoint=CHECKPOINT,
    nonce=bytes(16),
    era_key=named(3),
    vrf_key=named(4),
    address=Address(bytes(20)),
    pool=named(5),
    capacity=(1 << 63) - 1,
)
POOL = PoolRegistration(
    era=LAST,
    keys=tuple(key(number).public for number in range(3)),
    threshold=2,
    vrf_key=named(4),
    address=Address(bytes(20)),
    members=(ME,),
)


# ------------------------------------------------------------------ work


def test_a_proof_is_found_and_counts_for_what_it_was_made_for() -> None:
    works = [work_of(NETWORK, ME, CHECKPOINT, number.to_bytes(16, "big")) for number in range(4)]
    assert len({*works}) == len(works)
    place = min(range(4), key=works.__getitem__)
    nonce, most = place.to_bytes(16, "big"), (1 << 256) // works[place]
    assert most >= 2
    assert is_proof(NETWORK, ME, CHECKPOINT, nonce, most)
    assert not is_proof(NETWORK, ME, CHECKPOINT, nonce, most + 1)
    elsewhere = [
        work_of(Network(bytes(32)), ME, CHECKPOINT, nonce),
        work_of(NETWORK, NodeId(named(9)), CHECKPOINT, nonce),
        work_of(NETWORK, ME, named(9), nonce),
    ]
    assert len({*elsewhere, works[place]}) == 4


def test_work_is_argon2id_as_openssl_has_it() -> None:
    password = blake3(b"lucid/admission/v1" + NETWORK + ME + CHECKPOINT).digest()
    made = Argon2id(salt=b"n" * 16, length=32, iterations=1, lanes=1, memory_cost=1 << 16).derive(password)
    assert work_of(NETWORK, ME, CHECKPOINT, b"n" * 16) == int.from_bytes(made, "big")


def test_of_difficulty_one_and_less_anything_is_a_proof_and_costs_nothing() -> None:
    for difficulty in (0, 1):
        assert is_proof(NETWORK, ME, CHECKPOINT, b"no nonce", difficulty)


def test_the_difficulty_follows_how_many_come_by_a_factor_of_four_at_most() -> None:
    assert retarget(1_000, 448, 448, 1) == 1_000
    assert retarget(1_000, 896, 448, 1) == 2_000
    assert retarget(1_000, 448 * 100, 448, 1) == 4_000
    assert retarget(1_000, 0, 448, 1) == 250
    assert retarget(1_000, 0, 448, 600) == 600
    assert retarget(DIFFICULTY_MAX, 1 << 30, 448, 1) == DIFFICULTY_MAX
    assert retarget(1_000, 3, 0, 1) == 3_000


@given(
    st.integers(1, DIFFICULTY_MAX),
    st.integers(0, 1 << 20),
    st.integers(0, 1 << 20),
    st.integers(1, 1 << 20),
)
def test_a_new_difficulty_is_bounded_and_grows_with_those_that_come(
    difficulty: int, admitted: int, wanted: int, least: int
) -> None:
    found = retarget(difficulty, admitted, wanted, least)
    assert least <= found <= DIFFICULTY_MAX
    assert found <= max(least, RETARGET * difficulty)
    assert found >= min(DIFFICULTY_MAX, difficulty // RETARGET)
    assert retarget(difficulty, admitted + 1, wanted, least) >= found
    if admitted <= wanted and least <= difficulty:
        assert found <= difficulty


# ------------------------------------------------------------------ lists of signatures

MESSAGE = b"what is signed"
KEYS = [key(number) for number in range(5)]
PUBLIC = [one.public for one in KEYS]


def signatures(places: Sequence[int]) -> SignatureList:
    return SignatureList(
        sum(1 << place for place in places), tuple(KEYS[place].sign_as_is(MESSAGE) for place in sorted(places))
    )


def signed(one: SignatureList, threshold: int = 2, keys: Sequence[bytes] = PUBLIC) -> bool:
    return are_signed(one, keys, threshold, MESSAGE, verify_as_is)


@given(st.sets(st.integers(0, 4)), st.integers(1, 6))
def test_it_takes_as_many_signatures_as_the_threshold_says(places: set[int], threshold: int) -> None:
    assert signed(signatures([*places]), threshold) == (len(places) >= threshold)


def test_every_signature_that_is_there_has_to_be_good_and_in_its_place() -> None:
    good = signatures([1, 3, 4])
    assert signed(good)
    assert not signed(replace(good, mask=0b01011))
    assert not signed(replace(good, mask=0b11110))
    assert not signed(replace(good, mask=0b10010))
    assert not signed(replace(good, signatures=good.signatures[:2]))
    assert not signed(replace(good, signatures=(*good.signatures, good.signatures[0])))
    assert not signed(replace(good, signatures=good.signatures[::-1]))
    assert not signed(replace(good, signatures=(*good.signatures[:2], bytes(64))))
    assert not signed(good, keys=PUBLIC[:4])
    assert not signed(replace(good, mask=0b111010))  # beyond the keys
    assert not are_signed(good, PUBLIC, 2, b"another message", verify_as_is)


@given(st.integers(0, 3 * 512 - 1))
def test_each_bit_of_the_signatures_counts(bit: int) -> None:
    good = signatures([0, 1, 2])
    whole = bytearray(b"".join(good.signatures))
    whole[bit // 8] ^= 1 << bit % 8
    changed = tuple(bytes(whole[at : at + 64]) for at in (0, 64, 128))
    assert not signed(replace(good, signatures=changed))


# ------------------------------------------------------------------ registrations as bytes


def test_a_registration_is_signed_by_its_node_read_back_and_within_its_size() -> None:
    one = sign_registration(REGISTRATION, key(1))
    assert read_registration(pack(one)) == one
    assert len(pack(one)) <= REGISTRATION_BYTES_MAX
    assert verify(ME, one.signature, "registration", NETWORK, pack(REGISTRATION))
    alone = sign_registration(replace(REGISTRATION, pool=None), key(1))
    assert read_registration(pack(alone)).registration.pool is None


@pytest.mark.parametrize(
    "changed",
    [
        {"nonce": bytes(15)},
        {"node": NodeId(bytes(33))},
        {"pool": b""},
        {"capacity": 1 << 63},
        {"capacity": -1},
        {"era": 1 << 64},
        {"address": Address(bytes(32))},
    ],
)
def test_a_registration_beyond_its_limits_has_no_bytes(changed: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        pack(replace(REGISTRATION, **changed))  # type: ignore[arg-type]


def test_what_is_no_registration_is_malformed() -> None:
    with pytest.raises(Malformed, match="too long"):
        read_registration(bytes(REGISTRATION_BYTES_MAX + 1))
    for data in (b"", pack(REGISTRATION), pack(SignedRegistration(REGISTRATION, bytes(64)))[:-1]):
        with pytest.raises(Malformed):
            read_registration(data)


# ------------------------------------------------------------------ pools


def sign_pool(pool: PoolRegistration, places: Sequence[int], keys: Sequence[KeyPair] = KEYS) -> SignedPool:
    message = pool_signable(pool, NETWORK)
    made = tuple(keys[place].sign_as_is(message) for place in places)
    return SignedPool(pool, SignatureList(sum(1 << place for place in places), made))


def test_a_pool_is_named_by_its_keys_and_threshold_in_every_era() -> None:
    name = pool_id(POOL, NETWORK)
    assert name == digest("pool", NETWORK, b"\x02" + b"".join(POOL.keys))
    assert pool_id(replace(POOL, era=1, members=(), vrf_key=named(9), address=Address(b"a" * 20)), NETWORK) == name
    for other in (replace(POOL, threshold=1), replace(POOL, keys=POOL.keys[:2]), replace(POOL, keys=POOL.keys[::-1])):
        assert pool_id(other, NETWORK) != name
    assert pool_id(POOL, Network(bytes(32))) != name


def test_the_largest_pool_is_read_back_and_within_its_size() -> None:
    many = [key(number) for number in range(POOL_KEYS_MAX)]
    largest = replace(
        POOL,
        keys=tuple(one.public for one in many),
        threshold=POOL_KEYS_MAX,
        members=tuple(NodeId(named(number)) for number in range(POOL_MEMBERS_MAX)),
    )
    one = sign_pool(largest, range(POOL_KEYS_MAX), many)
    assert len(pack(one)) <= POOL_BYTES_MAX
    assert read_pool(pack(one)) == one
    assert are_signed(one.signatures, largest.keys, 16, pool_signable(largest, NETWORK), verify_as_is)
    assert verify(POOL.keys[0], one.signatures.signatures[0], "pool registration", NETWORK, pack(largest))


@pytest.mark.parametrize(
    ("pool", "why"),
    [
        (replace(POOL, keys=(*POOL.keys, POOL.keys[0])), "twice"),
        (replace(POOL, members=(ME, ME)), "twice"),
        (replace(POOL, threshold=4), "fewer keys"),
        (replace(POOL, keys=(), threshold=1), "fewer keys"),
    ],
)
def test_a_pool_of_another_shape_is_malformed(pool: PoolRegistration, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        read_pool(pack(sign_pool(pool, [0])))


def test_what_is_no_pool_is_malformed() -> None:
    with pytest.raises(Malformed, match="too long"):
        read_pool(bytes(POOL_BYTES_MAX + 1))
    for data in (b"", pack(POOL), pack(sign_pool(POOL, [0, 1]))[:-1]):
        with pytest.raises(Malformed):
            read_pool(data)
    for beyond in (replace(POOL, threshold=0), replace(POOL, threshold=17), replace(POOL, keys=POOL.keys * 6)):
        with pytest.raises(Malformed):
            pack(beyond)


def test_a_registration_means_nothing_on_another_network() -> None:
    assert registration_signable(REGISTRATION, NETWORK) != registration_signable(REGISTRATION, Network(bytes(32)))
    assert registration_signable(REGISTRATION, NETWORK) == b"lucid/registration/v1" + NETWORK + pack(REGISTRATION)
