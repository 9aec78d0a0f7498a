"""Signatures are checked for real, once."""

from consensus.ids import NO_NETWORK
from consensus.signing import KeyPair, domain
from netsim.verify import CachedVerify

KEY = KeyPair.from_seed(bytes(32))
MESSAGE = domain("x", NO_NETWORK) + b"message"
SIGNATURE = KEY.sign("x", NO_NETWORK, b"message")


def test_each_distinct_signature_is_checked_once() -> None:
    verify = CachedVerify()
    asked = [(KEY.public, SIGNATURE, MESSAGE), (KEY.public, SIGNATURE, MESSAGE + b"!"), (KEY.public, b"", MESSAGE)]
    assert [verify(*question) for question in asked * 3] == [True, False, False] * 3
    assert (verify.checks, verify.reused) == (3, 6)


def test_real_checks_always() -> None:
    verify = CachedVerify(real=True)
    assert verify(KEY.public, SIGNATURE, MESSAGE)
    assert verify(KEY.public, SIGNATURE, MESSAGE)
    assert (verify.checks, verify.reused) == (2, 0)


def test_what_is_remembered_is_bounded_and_the_oldest_goes() -> None:
    verify = CachedVerify(limit=2)
    for message in (b"1", b"2", b"3", b"3", b"1"):
        assert not verify(KEY.public, SIGNATURE, message)
    assert (verify.checks, verify.reused, len(verify.remembered)) == (4, 1, 2)
