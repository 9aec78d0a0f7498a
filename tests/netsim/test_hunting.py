"""The hunt: worlds that follow from their numbers, faults that are over in time, and bugs of each kind found within a budget.

That is the test of the tester: a bug is planted in the daemon's own code, and so many worlds have to find it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from netsim import tape
from netsim.__main__ import ORDERS, _build, main
from netsim.expectations import largest
from netsim.hunting import GROUNDS, VACUOUS, Ground, Prey, drawn, hunt, kept
from netsim.scenarios import named
from node.overlay.logs import Logs
from node.overlay.placing import Placing
from node.overlay.reconcile import Reconcile

pytestmark = pytest.mark.component

BUDGET: Final = 40
"""Worlds within which each planted bug has to be found; a hunt tries some seventy a minute."""


def test_a_world_follows_from_its_number_and_all_grounds_come_up() -> None:
    some = [drawn(1, number) for number in range(60)]
    assert [drawn(1, number) for number in range(60)] == some
    assert drawn(2, 0) != some[0]
    assert {one.scenario for one in some} == {one.scenario for one in GROUNDS}
    assert len({len(one.plan.faults) for one in some}) > 5
    for one in some:  # all faults begin long before the end
        assert all(fault.at < one.duration_ms - 60_000 for fault in one.plan.faults)


def test_sound_code_breaks_in_no_world() -> None:
    told: list[Prey] = []
    assert hunt(5, range(12), 0, _build, told.append) == []
    assert [one.world for one in told] == [*range(12)]
    assert all(one.broken is None or one.broken.check in VACUOUS for one in told)


def lost_message(patch: pytest.MonkeyPatch) -> None:
    """One entry in three is forgotten by who is told of it, whoever tells."""
    take = Logs.admit

    def admit(self: Logs, peer: Any, checked: Any) -> list[Any]:
        return [] if bytes(checked.chain[0].author)[0] % 3 == 0 else take(self, peer, checked)

    patch.setattr(Logs, "admit", admit)


def double_vote(patch: pytest.MonkeyPatch) -> None:
    """A second vote of a voter for the same HOUR is taken like any other, and so is a second block for a slot."""
    patch.setattr("consensus.pools.contradict", lambda *_: False)
    patch.setattr("consensus.pools.contradict_headers", lambda *_: False)


def unrepaired(patch: pytest.MonkeyPatch) -> None:
    """Nobody is looked for in the place of a holder that was given up."""
    begin = Placing.begin
    patch.setattr(
        Placing, "begin", lambda self, now, chunk, j, old: begin(self, now, chunk, j, old) if old is None else []
    )


def unbounded(patch: pytest.MonkeyPatch) -> None:
    """What was spoken of with each partner is noted, and never forgotten."""
    speak = Reconcile.on_frame

    def on_frame(self: Any, now: Any, peer: Any, frame: bytes, exchange: int) -> Any:
        self.heard.extend([exchange] * 20)
        return speak(self, now, peer, frame, exchange)

    begin = Reconcile.start

    def start(self: Any, now: Any) -> Any:
        self.heard = []
        return begin(self, now)

    patch.setattr(Reconcile, "on_frame", on_frame)
    patch.setattr(Reconcile, "start", start)


@pytest.mark.parametrize(
    ("plant", "check", "kind"),
    [
        (lost_message, "Directories", "overlay"),
        (double_vote, "CrookedCaught", "agreement"),
        (unrepaired, "Mended", "durability"),
        (unbounded, "KeptBounded", "overlay"),
    ],
)
def test_a_planted_bug_is_found_within_the_budget(
    plant: Callable[[pytest.MonkeyPatch], None], check: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant(monkeypatch)
    for number in range(BUDGET):
        if named(drawn(3, number).scenario).kind != kind:
            continue  # a hunt plays it, too, and finds nothing of this bug there
        found = hunt(3, [number], 0, _build, lambda _prey: None)
        if found and found[0].broken is not None and found[0].broken.check == check:
            break
    else:
        pytest.fail(f"not found within {BUDGET} worlds")
    path, left, of = kept(found[0], _build, tmp_path)
    assert left <= of
    assert tape.replay(tape.read(path, ORDERS), _build).digest()


def test_the_command_says_what_it_tried_and_leaves_tapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["hunt", "--minutes", "0.02", "--seed", "5", "--out", str(tmp_path)]) == 0
    assert "worlds of seed 5" in capsys.readouterr().out
    number = next(number for number in range(40) if drawn(3, number).scenario == "bootstrap")
    unbounded(monkeypatch)
    assert main(["hunt", "--world", str(number), "--seed", "3", "--out", str(tmp_path), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["worlds"], said["scenarios"]) == (1, {"bootstrap": 1})
    (found,) = said["broken"]
    assert (found["check"], found["faults"]) == ("KeptBounded", 0)
    assert main(["replay", found["tape"]]) == 1


def test_the_largest_container_of_a_machine_is_named() -> None:
    class Part:
        """A part of a machine."""

        __slots__ = ("few",)

        def __init__(self) -> None:
            self.few = [1, 2]

    Part.__module__ = Whole.__module__ = "node.overlay.somewhere"
    whole = Whole()
    whole.part = Part()
    whole.many = {1: [whole], 2: "x", 3: None}
    assert largest(whole) == ("Whole.many", 3)
    assert largest(5) == ("nothing", 0)


class Whole:
    """A machine that refers to itself."""

    part: Any
    many: dict[int, Any]


def test_grounds_are_scenarios_with_options_of_theirs() -> None:
    for ground in GROUNDS:
        assert isinstance(ground, Ground)
        assert {name for name, _ in ground.options} <= {*named(ground.scenario).options}
