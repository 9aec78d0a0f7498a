"""Accounts after a payload: what they have, and what a call of a contract would answer. Nothing of it is kept."""

from typing import Any, Final, NamedTuple

from consensus.ids import Address
from node.chain.genesis import GAS_LIMIT

CALL_GAS: Final = GAS_LIMIT


class Called(NamedTuple):
    """What a call answers; it changes nothing."""

    ok: bool
    output: bytes
    gas_used: int


class View:
    """Accounts after a block. What calls write goes with it."""

    def __init__(self, vm: Any) -> None:
        self._vm = vm

    def balance(self, address: Address) -> int:
        """Coins, in wei."""
        found: int = self._vm.state.get_balance(address)
        return found

    def nonce(self, address: Address) -> int:
        """How many transactions it sent."""
        found: int = self._vm.state.get_nonce(address)
        return found

    def code(self, address: Address) -> bytes:
        """Its code."""
        found: bytes = self._vm.state.get_code(address)
        return found

    def storage(self, address: Address, slot: int) -> int:
        """A word of its storage."""
        found: int = self._vm.state.get_storage(address, slot)
        return found

    def call(self, sender: Address, to: Address, data: bytes, gas: int = CALL_GAS, value: int = 0) -> Called:
        """What a contract answers."""
        state = self._vm.state
        before = state.snapshot()
        made = self._vm.execute_bytecode(
            origin=sender, gas_price=0, gas=gas, to=to, sender=sender, value=value, data=data, code=self.code(to)
        )
        state.revert(before)
        return Called(not made.is_error, bytes(made.output), made.get_gas_used())
