"""Onion addresses and the records about them: what is accepted, and that nothing else is."""

import base64
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import NO_NETWORK, Millis, Network, NodeId
from consensus.records import pack, unpack
from consensus.signing import KeyPair
from node.tor.onion import (
    BadOnion,
    OnionBinding,
    OnionRotation,
    SignedOnion,
    Unproven,
    address_of,
    expand,
    key_of,
    onion_of,
    open_binding,
    open_rotation,
    parse_onion,
    reader_key,
    sign_binding,
    sign_rotation,
)
from tests.vectors.make import NETWORK
from tests.vectors.onion import BINDING, IDENTITY, NEW, OLD, ROTATION
from tests.vectors.stored import vector

SPELLED = vector("onion_v1")


@pytest.mark.parametrize("entry", SPELLED["addresses"], ids=lambda entry: entry["address"][:6])
def test_the_addresses_of_the_specification_and_of_tor_are_read_and_written(entry: dict[str, str]) -> None:
    onion = parse_onion(entry["address"] + ".onion")
    assert onion == entry["address"] == parse_onion(entry["address"])
    assert key_of(onion).hex() == entry["key"]
    assert address_of(key_of(onion)) == onion


@given(st.binary(min_size=32, max_size=32))
def test_every_seed_has_an_address_and_the_expanded_key_of_rfc_8032(seed: bytes) -> None:
    onion = onion_of(seed)
    assert parse_onion(onion) == onion
    assert key_of(onion) == KeyPair.from_seed(seed).public
    scalar = int.from_bytes(expand(seed)[:32], "little")
    assert scalar % 8 == 0
    assert scalar >> 254 == 1
    assert expand(seed)[32:] == hashlib.sha512(seed).digest()[32:]


@given(st.integers(0, 55), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_no_other_address_is_one_character_away(place: int, character: str) -> None:
    good = onion_of(bytes(32))
    changed = good[:place] + character + good[place + 1 :]
    if changed != good:
        with pytest.raises(BadOnion):
            parse_onion(changed)


def spelled(key: bytes, version: int = 3) -> str:
    checksum = hashlib.sha3_256(b".onion checksum" + key + bytes([version])).digest()[:2]
    return base64.b32encode(key + checksum + bytes([version])).decode().lower()


SMALL_ORDER = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
NOT_A_POINT = bytes([2]) + bytes(31)
NON_CANONICAL = bytes.fromhex("ee" + "ff" * 30 + "7f")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "56 characters"),
        (onion_of(bytes(32)).upper(), "56 characters"),
        (onion_of(bytes(32)) + "\n", "56 characters"),
        (onion_of(bytes(32)) + ".onion.onion", "56 characters"),
        ("expyuzz4wqqyqhjn.onion", "56 characters"),
        ("example.com", "56 characters"),
        (spelled(KeyPair.from_seed(bytes(32)).public, 4), "version 4"),
        (spelled(SMALL_ORDER), "none"),
        (spelled(NOT_A_POINT), "none"),
        (spelled(NON_CANONICAL), "none"),
    ],
)
def test_what_is_no_v3_address_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(BadOnion, match=why):
        parse_onion(text)


def test_a_reader_s_key_is_the_x25519_one_of_rfc_7748() -> None:
    alice = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    public = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    assert base64.b32decode(reader_key(alice) + "====") == public


NOW = Millis(1_700_000_000_000)


def test_the_records_of_version_1_are_read_and_written_for_ever() -> None:
    binding, rotation, emergency = (bytes.fromhex(SPELLED[name]) for name in ("binding", "rotation", "emergency"))
    assert open_binding(binding, NodeId(IDENTITY.public), NETWORK, NOW) == BINDING
    assert sign_binding(BINDING, IDENTITY, NETWORK) == binding
    assert open_rotation(rotation, BINDING, NETWORK) == ROTATION
    assert sign_rotation(ROTATION, IDENTITY, NETWORK, old=OLD, new=NEW) == rotation
    assert open_rotation(emergency, BINDING, NETWORK) == replace(ROTATION, emergency=True)


def test_a_binding_of_another_identity_network_time_or_number_is_refused() -> None:
    data, us = sign_binding(BINDING, IDENTITY, NETWORK), NodeId(IDENTITY.public)
    assert open_binding(data, us, NETWORK, BINDING.not_before, above=BINDING.seq - 1) == BINDING
    assert open_binding(data, us, NETWORK, BINDING.not_after) == BINDING
    with pytest.raises(Unproven, match="another identity"):
        open_binding(data, NodeId(OLD.public), NETWORK, NOW)
    with pytest.raises(Unproven, match="signature"):
        open_binding(data, us, NO_NETWORK, NOW)
    with pytest.raises(Unproven, match="number"):
        open_binding(data, us, NETWORK, NOW, above=BINDING.seq)
    for moment in (BINDING.not_before - 1, BINDING.not_after + 1):
        with pytest.raises(Unproven, match="time"):
            open_binding(data, us, NETWORK, Millis(moment))
    with pytest.raises(Unproven, match="readable"):
        open_rotation(data, BINDING, NETWORK)


@given(st.data())
def test_no_byte_of_a_record_can_be_changed(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([bytes.fromhex(SPELLED[name]) for name in ("rotation", "emergency")]))
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Unproven):
        open_rotation(bytes(changed), BINDING, NETWORK)


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (replace(BINDING, identity=NodeId(OLD.public)), "another identity"),
        (replace(BINDING, onion=NEW.public), "another onion"),
        (replace(BINDING, seq=ROTATION.seq), "number"),
    ],
)
def test_a_rotation_continues_only_what_is_known(known: OnionBinding, why: str) -> None:
    with pytest.raises(Unproven, match=why):
        open_rotation(bytes.fromhex(SPELLED["rotation"]), known, NETWORK)


@pytest.mark.parametrize("missing", ["by_old", "by_new"])
def test_a_rotation_needs_both_onions_and_an_emergency_says_that_it_is_one(missing: str) -> None:
    whole = unpack(SignedOnion, bytes.fromhex(SPELLED["rotation"]))
    lacking = replace(whole, by_old=None) if missing == "by_old" else replace(whole, by_new=None)
    with pytest.raises(Unproven, match="onion's signature"):
        open_rotation(pack(lacking), BINDING, NETWORK)
    swapped = replace(whole, by_old=whole.by_new, by_new=whole.by_old)
    with pytest.raises(Unproven, match="old onion's signature"):
        open_rotation(pack(swapped), BINDING, NETWORK)


def test_nobody_signs_a_rotation_with_keys_that_it_does_not_name() -> None:
    strange = KeyPair.from_seed(bytes(32))
    for old, new in ((None, NEW), (OLD, None), (strange, NEW), (OLD, strange)):
        with pytest.raises(ValueError, match="the keys it names"):
            sign_rotation(ROTATION, IDENTITY, NETWORK, old=old, new=new)
    with pytest.raises(ValueError, match="the keys it names"):
        sign_rotation(replace(ROTATION, emergency=True), IDENTITY, NETWORK, old=OLD, new=NEW)


@pytest.mark.parametrize(
    "rotation",
    [
        replace(ROTATION, new=ROTATION.old),
        replace(ROTATION, new=SMALL_ORDER),
        replace(ROTATION, old_until=Millis(ROTATION.not_before - 1)),
    ],
)
def test_an_emergency_that_makes_no_sense_is_refused_whoever_signed_it(rotation: OnionRotation) -> None:
    data = sign_rotation(replace(rotation, emergency=True), IDENTITY, NETWORK, old=None, new=None)
    with pytest.raises(Unproven):
        open_rotation(data, BINDING, NETWORK)


def test_records_of_one_network_are_nothing_on_another() -> None:
    data = sign_rotation(ROTATION, IDENTITY, Network(bytes(32)), old=OLD, new=NEW)
    with pytest.raises(Unproven, match="identity's signature"):
        open_rotation(data, BINDING, NETWORK)
