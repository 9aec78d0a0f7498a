"""An offer to a second device: it opens with its code within its hour, and nothing that was changed opens at all."""

from base64 import b32decode, b32encode

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt
from nacl.pwhash import argon2id

from consensus.ids import Millis, NodeId
from node.exits import Refuted, Usage
from node.wallet.pairing import LETTERS, PREFIX, Cost, Offer, new_code, read, seal, spelled, unseal
from tests.vectors.stored import vector

CHEAP = Cost(1, 8192)
NOW = Millis(1_700_000_000_000)
OFFER = Offer(NodeId(b"n" * 32), "desk", NOW, (b"a" * 32, b"b" * 32), b"network")
CODE, OTHER = "0123-4567-89AB-CDEF", "0123-4567-89AB-CDEG"
_, TEXT = seal(OFFER, CODE, Millis(NOW + 1), CHEAP)


def body(text: str) -> bytes:
    letters = text.removeprefix(PREFIX)
    return b32decode(letters + "=" * (-len(letters) % 8))


BODY = body(TEXT)


@given(st.integers(0, 1 << 52), st.binary(max_size=200), st.lists(st.binary(min_size=32, max_size=32), min_size=1))
def test_what_was_offered_comes_out(at: int, network: bytes, masters: list[bytes]) -> None:
    offer = Offer(NodeId(b"n" * 32), "Größe", Millis(at), tuple(masters), network)
    code = new_code()
    number, text = seal(offer, code, Millis(at + 1), CHEAP)
    assert (read(text).offer, unseal(read(text), code.lower(), Millis(at))) == (number, offer)
    with pytest.raises(Refuted, match="the offer has expired"):
        unseal(read(text), code, Millis(at + 1))


def test_a_wrong_code_is_told_apart_from_what_cannot_be_one() -> None:
    with pytest.raises(Refuted, match="the code is wrong"):
        unseal(read(TEXT), OTHER, NOW)
    for wrong in ("", "0123", CODE + "0", "0123-4567-89AB-CDEU"):
        with pytest.raises(Usage, match="16 letters and digits"):
            unseal(read(TEXT), wrong, NOW)


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_changed_offer_opens_with_no_code(at: int, change: int) -> None:
    data = bytearray(BODY)
    data[at] ^= change
    with pytest.raises((Refuted, Usage)):
        found = read(PREFIX + b32encode(data).decode().rstrip("="))
        if (found.ops, found.memory) != CHEAP:
            raise Usage("another cost is another key, and may take longer than a test has")
        unseal(found, CODE, NOW)


@given(st.text(max_size=60))
def test_what_is_no_offer_is_one_sentence(text: str) -> None:
    for wrong in (text, PREFIX + text, TEXT[:-9] + text):
        with pytest.raises((Usage, Refuted)):
            unseal(read(wrong), CODE, NOW)


@given(st.text(LETTERS, min_size=16, max_size=16), st.randoms())
def test_a_code_is_one_however_it_is_typed(code: str, rng: object) -> None:
    typed = "".join([rng.choice([one, one.lower(), f"-{one}", f" {one}"]) for one in code])  # type: ignore[attr-defined]
    assert spelled(typed) == spelled(code.replace("0", "o").replace("1", "L")) == code


def test_codes_have_80_bits_in_groups_of_four() -> None:
    codes = [new_code() for _ in range(64)]
    assert {len(code) for code in codes} == {19}
    assert {letter for code in codes for letter in code} - {"-"} <= set(LETTERS)
    assert len({code[place] for code in codes for place in range(19)}) > 30
    assert len(set(codes)) == 64


def test_the_offer_of_the_first_release_opens_by_hand_and_by_us() -> None:
    stored = vector("pairing_v1")
    fields = cbor2.loads(body(stored["text"]))
    key = argon2id.kdf(32, stored["code"].replace("-", "").encode(), fields["salt"], fields["ops"], fields["memory"])
    head = ["lucid/pair/v1", *(fields[name] for name in ("offer", "expires", "ops", "memory", "salt", "nonce"))]
    plain = crypto_aead_xchacha20poly1305_ietf_decrypt(fields["sealed"], cbor2.dumps(head), fields["nonce"], key)
    assert [master.hex() for master in cbor2.loads(plain)["masters"]] == stored["masters"]
    found = unseal(read(stored["text"]), stored["code"], Millis(stored["expires"] - 1))
    assert (found.origin.hex(), found.name, found.made) == (stored["offered_by"], stored["name"], stored["made"])
    assert ([master.hex() for master in found.masters], found.network.hex()) == (stored["masters"], stored["network"])
