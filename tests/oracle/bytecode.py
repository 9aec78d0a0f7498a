"""Code that nobody wrote: instructions with arguments that more often than not are there, in contracts, creations and calls."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from consensus.ids import Address
from tests.oracle.senders import Senders

COUNT: Final = 24
"""Contracts of the genesis."""
PURE: Final = (
    bytes.fromhex("303233343638 3a3d 41424344454647484a 58595a"),
    bytes.fromhex("1519 31353b3f 4049 51545c"),
    bytes.fromhex("01020304050607 0a0b 1011121314161718 1a1b1c1d 20"),
    bytes.fromhex("0809"),
)
"""Instructions that leave one word, by how many they take."""
INITCODE_BYTES_MAX: Final = 49_152  # EIP-3860
CREATE, CALL, CALLCODE, RETURN, DELEGATECALL = 0xF0, 0xF1, 0xF2, 0xF3, 0xF4
CREATE2, STATICCALL, REVERT, INVALID, SELFDESTRUCT = 0xF5, 0xFA, 0xFD, 0xFE, 0xFF
KECCAK256, MLOAD = 0x20, 0x51
POP, SSTORE, JUMPI, GAS, JUMPDEST, TSTORE, EXTCODECOPY = b"\x50", b"\x55", b"\x57", b"\x5a", b"\x5b", b"\x5d", b"\x3c"
MEMORY_STORES: Final = (b"\x52", b"\x53")
COPIES: Final = (b"\x37", b"\x39", b"\x3e", b"\x5e")
"""Of the call's data, of code, of what was returned, of memory."""
ALONE: Final = bytes((*range(0x80, 0xA0), *range(0x50, 0x5C), 0x00, 0x0C, 0x21, 0x4B, 0xEF, SELFDESTRUCT))
"""Instructions that may find no words to take, and some that there are not."""


def push(value: int) -> bytes:
    """The shortest instruction for a number."""
    size = (value.bit_length() + 7) // 8
    return bytes([0x5F + size]) + value.to_bytes(size, "big")


def creates(kind: int, value: int, size: int) -> bytes:
    """A creation of that many zero bytes of memory, which pays that much."""
    return (push(0) if kind == CREATE2 else b"") + push(size) + push(0) + push(value) + bytes([kind])


def deploys(code: bytes) -> bytes:
    """Code for a creation that leaves this one."""
    return b"\x61" + len(code).to_bytes(2, "big") + bytes.fromhex("80600c6000396000f3") + code


class Bytecode:
    """An author who draws."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.places = [Address(b"\xc0\xde" + rng.randbytes(18)) for _ in range(COUNT)]
        self._others = [Address(number.to_bytes(20, "big")) for number in range(0x13)]

    def runtime(self) -> bytes:
        """The code of a contract: some statements and an end, or anything."""
        rng = self._rng
        if rng.random() < 0.05:
            return bytes([INVALID])  # which takes all the gas that it is given
        if rng.random() < 0.1:
            return rng.randbytes(rng.randrange(1, 60))
        made = b""
        for _ in range(rng.randrange(1, 14)):
            made += self._jump(len(made)) if rng.random() < 0.12 else self._statement()
        return made + self._end()

    def transaction(self, senders: Senders) -> bytes:
        """One that creates, calls a contract or a precompile, or only pays."""
        rng = self._rng
        who, kind, gas = rng.choice(senders.accounts), rng.random(), rng.choice((60_000, 150_000, 300_000, 600_000))
        value = rng.choice((0, 0, 0, 1, 300))
        if kind < 0.2:
            init = deploys(self.runtime()) if rng.random() < 0.7 else self.runtime()
            if rng.random() < 0.03:
                init = init.ljust(INITCODE_BYTES_MAX + rng.choice((0, 1)), b"\0")
                gas = 5_000_000
            self.places.append(senders.next_creation(who))
            return senders.sign(who, b"", init, value, gas)
        if kind < 0.3:
            return senders.sign(who, rng.choice(self._others[1:]), self._input(), value, gas)
        if kind < 0.35:
            return senders.sign(who, senders.address(), rng.randbytes(rng.choice((0, 10, 900))), value, gas)
        gas = 4_000_000 if rng.random() < 0.05 else gas
        return senders.sign(who, rng.choice(self.places), self._input(), value, gas)

    def _input(self) -> bytes:
        """Call data that precompiles, too, make something of now and then."""
        rng = self._rng
        words = [
            rng.choice((0, 1, 2, 3, 32, rng.getrandbits(256))).to_bytes(32, "big") for _ in range(rng.randrange(7))
        ]
        return rng.choice(
            (
                b"".join(words),
                bytes(rng.choice((64, 128, 192, 256, 384))),
                rng.randbytes(rng.choice((0, 4, 213, 1_500))),
            )
        )

    def _number(self) -> int:
        rng = self._rng
        return rng.choice(
            (
                *(0, 1, 2, 32, rng.randrange(64), rng.randrange(300)),
                *(rng.getrandbits(256), 2**256 - 1, 2**255, int.from_bytes(self._place(), "big")),
            )
        )

    def _place(self) -> Address:
        return self._rng.choice(self.places if self._rng.random() < 0.7 else self._others)

    def _small(self) -> bytes:
        """A place in memory, or a size; seldom too large to pay for."""
        rng = self._rng
        return push(
            rng.choice((0, 0, 1, 32, rng.randrange(200), rng.randrange(200), rng.choice((9_000, 2**40))))
            if rng.random() < 0.3
            else rng.randrange(96)
        )

    def _expression(self, depth: int = 0) -> bytes:
        """What leaves one word."""
        rng = self._rng
        if depth > 2 or rng.random() < 0.5:
            return push(self._number())
        count = rng.choice((0, 0, 1, 2, 2, 3))
        operation = rng.choice(PURE[count])
        if operation in {KECCAK256, MLOAD}:
            return self._small() * count + bytes([operation])
        return b"".join(self._expression(depth + 1) for _ in range(count)) + bytes([operation])

    def _statement(self) -> bytes:
        """What leaves nothing, or an instruction alone."""
        rng = self._rng
        kinds: Sequence[Callable[[], bytes]] = (
            lambda: self._expression() + push(rng.randrange(6)) + rng.choice((SSTORE, TSTORE)),
            lambda: self._expression() + push(rng.randrange(6)) + SSTORE,
            lambda: self._expression() + self._small() + rng.choice(MEMORY_STORES),
            lambda: self._small() * 2 + self._small() + rng.choice(COPIES),
            lambda: self._small() * 2 + self._small() + push(self._number()) + EXTCODECOPY,
            self._log,
            self._call,
            self._call,
            self._creation,
            lambda: self._expression() + POP,
        )
        return rng.choice(kinds)() if rng.random() < 0.93 else bytes([rng.choice(ALONE)])

    def _log(self) -> bytes:
        topics = self._rng.randrange(5)
        return b"".join(self._expression(2) for _ in range(topics)) + self._small() * 2 + bytes([0xA0 + topics])

    def _call(self) -> bytes:
        rng = self._rng
        kind = rng.choice((CALL, CALL, CALLCODE, DELEGATECALL, STATICCALL))
        value = push(rng.choice((0, 0, 1, 10**7))) if kind in {CALL, CALLCODE} else b""
        gas = rng.choice((GAS, GAS, push(rng.choice((0, 2_300, 30_000, 2**70)))))
        windows = b"".join(self._small() for _ in range(4))
        made = windows + value + push(int.from_bytes(self._place(), "big")) + gas + bytes([kind])
        return made + rng.choice((POP, push(rng.randrange(6)) + SSTORE))

    def _creation(self) -> bytes:
        """Code from this contract's own code or the call's data, more of it than there may be, or as zeros."""
        rng, kind = self._rng, self._rng.choice((CREATE, CREATE2))
        store = rng.choice((POP, push(rng.randrange(6)) + SSTORE))
        if rng.random() < 0.3:
            size = INITCODE_BYTES_MAX + rng.choice((0, 1, 848))
            return creates(kind, rng.choice((0, 1, 10**7)), size) + store
        size = rng.randrange(80)
        copy = push(size) + push(rng.randrange(30)) + push(0) + rng.choice(COPIES[:2])
        return copy + creates(kind, rng.choice((0, 0, 1, 10**7)), size) + store

    def _jump(self, at: int) -> bytes:
        """Over some bytes, if a word says so."""
        condition, skipped = self._expression(1), self._statement()
        target = at + len(condition) + len(b"\x61..") + len(JUMPI) + len(skipped)
        return condition + b"\x61" + target.to_bytes(2, "big") + JUMPI + skipped + JUMPDEST

    def _end(self) -> bytes:
        rng = self._rng
        window = self._small() * 2
        end = rng.choice((RETURN, RETURN, RETURN, REVERT, 0x00, INVALID, SELFDESTRUCT))
        if end == SELFDESTRUCT:
            return push(int.from_bytes(self._place(), "big")) + bytes([end])
        return (window if end in {RETURN, REVERT} else b"") + bytes([end])
