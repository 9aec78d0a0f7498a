"""What follows from a block alone, worked out once: its state at a later slot, who leads then, the state after another block.

A simulation keeps conclusions for all its nodes. A node keeps them for a slot, and no more than some: what peers send makes
new ones. Invalid blocks are a conclusion, too; the block itself is not kept with it.

Kept for longer: how far the empty HOURs after a block were followed. A network that stood still for a year begins nine
thousand of them at once, or, with the short HOURs of a devnet, half a million; `approach` takes them in pieces.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from consensus.block import Block
from consensus.ids import Digest
from consensus.inclusion import Invalid, Rules
from consensus.state import State, at_slot, leaders
from consensus.transition import extend

Deduced = TypeVar("Deduced")

CONCLUSIONS_MAX: Final = 256
EMPTY_HOURS: Final = 64
"""As many are followed in one step, and the next step comes"""
EMPTY_PAUSE_MS: Final = 20
"""later: the network stood still for long, and nothing else shall because of it."""
FOLLOWED_MAX: Final = 64
"""Blocks after which HOURs were empty."""


class Conclusions:
    """Of one node, or of all nodes of a simulation where `rules.shared` is given."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._known: dict[Any, Any] = {} if rules.shared is None else rules.shared
        self._followed: dict[Digest, State] = {}
        """The state at the beginning of the last HOUR that was reached after a block, by the block."""

    def __len__(self) -> int:
        return len(self._known)

    def at(self, state: State, slot: int) -> State:
        """The state at the beginning of a slot. The slots of an HOUR share the way to it."""
        law = self._rules.law
        first = slot - slot % law.params.hour_slots
        if state.slot + 1 < first:
            state = self._deduce(("at", state.id, first), partial(self._hour_after, state, first))
        return self._deduce(("at", state.id, slot), partial(at_slot, law, state, slot))

    def reached(self, state: State) -> State:
        """The state after a block, as far as its empty HOURs were followed."""
        return self._followed.get(state.id, state)

    def is_near(self, state: State, slot: int) -> bool:
        """Whether no more empty HOURs are to be followed between a block and a slot than one step takes."""
        size = self._rules.law.params.hour_slots
        return slot // size <= self.reached(state).slot // size + EMPTY_HOURS

    def approach(self, state: State, slot: int) -> None:
        """Follow the empty HOURs between a block and a slot, as many as one step takes."""
        size = self._rules.law.params.hour_slots
        self._hour_after(state, min(slot // size, self.reached(state).slot // size + EMPTY_HOURS) * size)

    def _hour_after(self, state: State, first: int) -> State:
        """The state at the first slot of an HOUR, from the last one of that way that is known."""
        known = self.reached(state)
        made = at_slot(self._rules.law, known if known.slot < first else state, first)
        self._followed.pop(state.id, None)
        self._followed[state.id] = max(known, made, key=lambda one: one.slot)
        if len(self._followed) > FOLLOWED_MAX:
            del self._followed[next(iter(self._followed))]
        return made

    def leaders(self, state: State, slot: int) -> tuple[bytes, ...]:
        """Who may publish a slot; state is that at its beginning."""
        return self._deduce(("leaders", state.id, slot), partial(leaders, self._rules.law, state, slot))

    def after(self, parent: State, block: Block, name: Digest) -> State | Invalid:
        """The state after a block of that name, or why there is none."""
        return self._deduce(("after", name, block.signed.signatures), partial(self._extended, parent, block))

    def _extended(self, parent: State, block: Block) -> State | Invalid:
        try:
            return extend(self._rules, self.at(parent, block.header.slot), block)
        except Invalid as error:
            return Invalid(*error.args)  # without its traceback, which holds the block

    def _deduce(self, key: Any, made: Callable[[], Deduced]) -> Deduced:
        if key not in self._known:
            found = made()
            if len(self._known) >= CONCLUSIONS_MAX:
                self.forget()
            self._known[key] = found
            return found
        known: Deduced = self._known[key]
        return known

    def forget(self) -> None:
        """Begin anew, unless others need them."""
        if self._rules.shared is None:
            self._known.clear()
