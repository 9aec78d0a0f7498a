"""What happens when: exactly the order of time, then of scheduling."""

from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import NodeId
from netsim.agenda import Agenda
from netsim.nodes import Node
from netsim.seeds import derive
from node.overlay.machine import TimerFired
from tests.netsim.toys import Puppet, Stage


@given(st.lists(st.integers(-5, 30), max_size=60), st.data())
def test_entries_come_in_the_order_of_time_and_then_of_scheduling(delays: list[int], data: st.DataObject) -> None:
    """Half of them are scheduled by others while those happen, as everything in a world is."""
    stage = Stage(0)
    happened: list[tuple[int, int]] = []
    scheduled: list[tuple[int, int]] = []

    def schedule(delay: int, then: list[int]) -> None:
        number = len(scheduled)
        scheduled.append((max(stage.world.now, stage.world.now + delay), number))
        stage.world.at(stage.world.now + delay, lambda: happen(number, then))

    def happen(number: int, then: list[int]) -> None:
        happened.append((stage.world.now, number))
        for delay in then:
            schedule(delay, [])

    half = len(delays) // 2
    for delay in delays[:half]:
        schedule(delay, data.draw(st.lists(st.sampled_from(delays), max_size=3)))
    stage.world.run(1000)
    assert happened == sorted(scheduled)


def test_pruning_takes_replaced_timers_and_nothing_else() -> None:
    agenda = Agenda(0)
    node = Node(0, NodeId(bytes(32)), Puppet, derive(1))
    kept = (node, TimerFired(("a",)), 50)
    node.armed[("a",)] = kept
    others = [(None, print, None), (node, "a frame", "a pipe")]
    for at, entry in ((50, kept), (40, (node, TimerFired(("a",)), 40)), (50, others[0]), (60, others[1])):
        agenda.push(at, entry)
    assert agenda.prune(stale=1, limit=1) == 1
    assert len(agenda) == 4
    assert agenda.prune(stale=2, limit=1) == 0
    assert agenda.buckets == {50: [kept, others[0]], 60: [others[1]]}
    assert sorted(agenda.times) == [50, 60]
