"""Who may vote: three whole months, four fifths of them up, one LUCID earned; and that nothing more is worth more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.eligibility import Attendance, electorate, shortcoming
from consensus.ids import NodeId
from consensus.reward import LUCID

MONTH_HOURS = 720
FULL = 1000 * MONTH_HOURS
NODE = NodeId(b"n" * 32)

nodes = st.integers(0, 30).map(lambda number: NodeId(bytes((number,)) * 32))
months = st.sampled_from((0, 799 * MONTH_HOURS, 800 * MONTH_HOURS - 1, 800 * MONTH_HOURS, FULL, FULL))
starts = st.sampled_from((0, 0, 3 * MONTH_HOURS, 3 * MONTH_HOURS + 1, 9 * MONTH_HOURS))
attendances = st.builds(
    Attendance, nodes, starts, st.tuples(months, months, months), st.sampled_from((0, LUCID - 1, LUCID, 3 * LUCID))
)


@pytest.mark.parametrize(
    ("since", "uptime", "earned", "reason"),
    [
        (0, (FULL, FULL, FULL), LUCID, None),
        (7 * MONTH_HOURS, (FULL, FULL, FULL), LUCID, None),
        (7 * MONTH_HOURS + 1, (FULL, FULL, FULL), LUCID, "registered since HOUR 5041, has to be since HOUR 5040"),
        (0, (FULL, FULL, 400 * MONTH_HOURS), LUCID, None),  # the three together
        (0, (FULL, FULL, 400 * MONTH_HOURS - 1), LUCID, "799 ‰ uptime in 3 MONTHs, 800 of 1000 are needed"),
        (0, (0, 0, FULL), LUCID, "333 ‰ uptime in 3 MONTHs, 800 of 1000 are needed"),
        (0, (FULL, FULL, FULL), LUCID - 1, "has not earned a LUCID yet"),
    ],
)
def test_who_may_vote_and_why_not(since: int, uptime: tuple[int, ...], earned: int, reason: str | None) -> None:
    assert shortcoming(Attendance(NODE, since, uptime, earned), 10, MONTH_HOURS) == reason


def test_nobody_votes_in_a_networks_first_three_months_and_founders_may_in_the_fourth() -> None:
    founder = Attendance(NODE, 0, (12_000, 12_000, 12_000), 5 * LUCID)
    assert [electorate([founder], month, 12) for month in range(5)] == [(), (), (), (NODE,), (NODE,)]


def test_an_attendance_of_another_number_of_months_is_refused() -> None:
    with pytest.raises(ValueError, match="3 MONTHs"):
        shortcoming(Attendance(NODE, 0, (FULL,), LUCID), 10, MONTH_HOURS)


@given(st.lists(attendances, max_size=8), st.integers(2, 12), st.data())
def test_one_node_has_one_vote_in_any_order_and_more_tokens_are_worth_nothing(
    registered: list[Attendance], month: int, data: st.DataObject
) -> None:
    voters = electorate(registered, month, MONTH_HOURS)
    assert list(voters) == sorted(set(voters))
    assert electorate(data.draw(st.permutations(registered)), month, MONTH_HOURS) == voters
    richer = [one._replace(earned=one.earned * 10**6 if one.earned >= LUCID else one.earned) for one in registered]
    assert electorate(richer, month, MONTH_HOURS) == voters
    assert voters == tuple(
        sorted(
            {
                one.node
                for one in registered
                if one.since <= (month - 3) * MONTH_HOURS
                and 5 * sum(one.uptime) >= 4 * 3 * FULL
                and one.earned >= 10**18
            }
        )
    )
