"""The fork choice: by weight, length, rank and name, in this order, from the highest justified checkpoint on."""

from dataclasses import replace
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from consensus.checkpoint import Happened
from consensus.finality import Point
from consensus.forks import Tree
from consensus.ids import Digest, NodeId
from consensus.params import SERVER_RANK
from consensus.state import State
from tests.consensus.worlds import Village, named

GENESIS = Village(1).genesis
ROOT = GENESIS.id
VOTERS = [NodeId(named(1_000 + number)) for number in range(6)]


def block(number: int, rank: int = 0, justified: Point | None = None) -> State:
    """The state after a block that is named by a number."""
    point = Point(0, ROOT) if justified is None else justified
    return replace(
        GENESIS, id=named(number), rank=rank, happened=Happened({point.hour: point.block}, GENESIS.happened.final)
    )


class Plan(NamedTuple):
    """One block of a random tree: on top of which of those before it, and how it came."""

    parent: int
    name: int
    rank: int
    late: bool


def planted(*plans: Plan) -> tuple[Tree, list[Digest]]:
    """The tree of a plan, and its blocks' names; the first is the root's."""
    tree, names = Tree(GENESIS), [ROOT]
    for plan in plans:
        parent = names[plan.parent % len(names)]
        tree.add(block(plan.name, plan.rank), parent, is_late=plan.late)
        names.append(named(plan.name))
    return tree, names


def chain(tree: Tree, *numbers: int, parent: Digest = ROOT) -> None:
    for number in numbers:
        tree.add(block(number), parent, is_late=False)
        parent = named(number)


# ------------------------------------------------------------------ the order


def test_a_tree_without_a_fork_has_its_last_block_as_head() -> None:
    tree = Tree(GENESIS)
    assert tree.head({}) == GENESIS
    chain(tree, 1, 2, 3)
    assert tree.head({}).id == named(3)
    assert len(tree) == 4
    assert named(3) in tree
    assert named(4) not in tree
    assert tree.state(named(2)) == block(2)
    assert tree.state(named(4)) is None
    assert tree.parent(named(3)).id == named(2)
    assert tree.parent(ROOT).id == ROOT
    assert [state.id for state in tree.ancestors(named(3))] == [named(3), named(2), named(1), ROOT]


def test_weight_comes_before_length_and_length_before_rank_and_rank_before_the_name() -> None:
    tree = Tree(GENESIS)
    chain(tree, 1, 2, 3)
    chain(tree, 9)
    assert tree.head({}).id == named(3)
    assert tree.head({VOTERS[0]: named(9)}).id == named(9)
    assert tree.head({VOTERS[0]: named(9), VOTERS[1]: named(1)}).id == named(3)
    ranked = Tree(GENESIS)
    ranked.add(block(1, rank=2), ROOT, is_late=False)
    ranked.add(block(2, rank=1), ROOT, is_late=False)
    ranked.add(block(3, rank=1), ROOT, is_late=False)
    assert ranked.head({}).id == named(2)


def test_a_block_that_came_late_counts_behind_the_servers() -> None:
    tree = Tree(GENESIS)
    tree.add(block(1, rank=0), ROOT, is_late=True)
    tree.add(block(2, rank=SERVER_RANK), ROOT, is_late=False)
    assert tree.head({}).id == named(2)
    tree.add(block(0, rank=SERVER_RANK), ROOT, is_late=True)
    assert tree.head({}).id == named(2)
    only_late = Tree(GENESIS)
    only_late.add(block(5, rank=0), ROOT, is_late=True)
    only_late.add(block(4, rank=6), ROOT, is_late=True)
    assert only_late.head({}).id == named(4)  # late ones are alike: the lower name


def test_votes_of_the_expelled_and_for_unknown_blocks_count_nothing() -> None:
    tree = Tree(GENESIS)
    chain(tree, 1)
    chain(tree, 2)
    votes = {VOTERS[0]: named(2), VOTERS[1]: named(77)}
    assert tree.head(votes).id == named(2)
    assert tree.head(votes, expelled=[VOTERS[0]]).id == named(1)
    assert tree.head({VOTERS[1]: named(77)}).id == named(1)


def test_a_vote_for_a_block_counts_for_all_below_it() -> None:
    tree = Tree(GENESIS)
    chain(tree, 5, 6)
    chain(tree, 1, 2, 3)
    assert tree.head({VOTERS[0]: named(6), VOTERS[1]: named(2), VOTERS[2]: named(5)}).id == named(6)


def test_votes_high_up_on_a_branch_outweigh_fewer_at_its_foot() -> None:
    tree = Tree(GENESIS)
    chain(tree, 1, 2)
    chain(tree, 5, 6, 7)
    assert tree.head({VOTERS[0]: named(1), VOTERS[1]: named(7), VOTERS[2]: named(6)}).id == named(7)
    assert tree.head({VOTERS[0]: named(1), VOTERS[1]: named(1), VOTERS[2]: named(7)}).id == named(2)


def test_the_longer_of_two_branches_wins_at_every_length() -> None:
    for length in range(1, 6):
        tree = Tree(GENESIS)
        chain(tree, *range(10, 10 + length))
        chain(tree, *range(20, 21 + length))
        assert tree.head({}).id == named(20 + length)


# ------------------------------------------------------------------ justified checkpoints


def test_the_highest_justified_checkpoint_is_taken_and_of_two_the_lower_name() -> None:
    tree = Tree(GENESIS)
    chain(tree, 1, 2)
    chain(tree, 7)
    assert tree.justify() == Point(0, ROOT)
    tree.add(block(8, justified=Point(4, named(7))), named(7), is_late=False)
    assert tree.head({VOTERS[0]: named(2)}).id == named(2)  # until an HOUR begins nothing changes
    assert tree.justify() == Point(4, named(7))
    assert tree.head({VOTERS[0]: named(2)}).id == named(8)
    tree.add(block(3, justified=Point(4, named(1))), named(2), is_late=False)
    assert tree.justify() == Point(4, named(1))
    tree.add(block(4, justified=Point(3, named(2))), named(3), is_late=False)
    tree.add(block(9, justified=Point(9, named(99))), named(8), is_late=False)  # of a block that is not here
    assert tree.justify() == Point(4, named(1))
    assert tree.head({VOTERS[0]: named(9)}).id == named(4)


def test_the_tree_of_a_final_block_starts_from_it_while_what_it_knows_as_justified_lies_before() -> None:
    tree = Tree(block(5, justified=Point(3, named(2))))
    assert tree.head({}).id == named(5)
    chain(tree, 6, parent=named(5))
    assert tree.justify() == Point(3, named(2))
    assert tree.head({}).id == named(6)
    tree.add(block(7, justified=Point(4, named(5))), named(6), is_late=False)
    assert tree.justify() == Point(4, named(5))


# ------------------------------------------------------------------ against the definition

plans = st.lists(
    st.builds(Plan, st.integers(0, 20), st.integers(1, 1 << 40), st.integers(0, 6), st.booleans()),
    max_size=12,
    unique_by=lambda plan: plan.name,
)
heads = st.dictionaries(st.sampled_from(VOTERS), st.integers(0, 14), max_size=6)


def below(parents: dict[Digest, Digest], name: Digest) -> list[Digest]:
    """A block and all below it."""
    path = [name]
    while parents[path[-1]] != path[-1]:
        path.append(parents[path[-1]])
    return path


@given(plans, heads, st.sets(st.sampled_from(VOTERS), max_size=2))
def test_the_head_is_the_one_of_the_definition(
    plan: list[Plan], votes: dict[NodeId, int], expelled: set[NodeId]
) -> None:
    tree, names = planted(*plan)
    parents = {ROOT: ROOT} | {named(one.name): names[one.parent % (at + 1)] for at, one in enumerate(plan)}
    ranks = {named(one.name): 7 if one.late else one.rank for one in plan}
    latest = {voter: names[number] if number < len(names) else named(0) for voter, number in votes.items()}
    at = ROOT
    while children := [name for name in parents if parents[name] == at and name != at]:

        def order(child: Digest) -> tuple[int, int, int, Digest]:
            above = [name for name in parents if child in below(parents, name)]
            weight = sum(head in above for voter, head in latest.items() if voter not in expelled)
            length = max(len(below(parents, name)) for name in above)
            return -weight, -length, ranks[child], child

        at = min(children, key=order)
    assert tree.head(latest, expelled).id == at


@given(plans, st.integers(0, 12), heads)
def test_pruning_keeps_exactly_what_is_on_top_of_the_final_block(
    plan: list[Plan], number: int, votes: dict[NodeId, int]
) -> None:
    tree, names = planted(*plan)
    parents = {ROOT: ROOT} | {named(one.name): names[one.parent % (at + 1)] for at, one in enumerate(plan)}
    final = names[number % len(names)]
    above = {name for name in names if final in below(parents, name)}
    latest = {voter: names[at % len(names)] for voter, at in votes.items()}
    inside = {voter: head for voter, head in latest.items() if head in above}
    gone = tree.prune(Point(1, final))
    assert {*gone} == {*names} - above
    assert len(tree) == len(above)
    assert all((name in tree) == (name in above) for name in names)
    assert tree.root == final
    assert tree.parent(final).id == final
    assert [state.id for state in tree.ancestors(final)] == [final]
    assert tree.head(latest).id == tree.head(inside).id
    assert tree.head(latest).id in above
    assert tree.justified == (Point(0, ROOT) if final == ROOT else Point(1, final))


def test_a_final_checkpoint_of_another_history_changes_nothing() -> None:
    tree = Tree(GENESIS)
    chain(tree, 1, 2)
    assert tree.prune(Point(3, named(99))) == []
    assert tree.prune(Point(0, ROOT)) == []
    assert len(tree) == 3


def test_the_root_made_final_once_more_changes_nothing() -> None:
    tree = Tree(block(5, justified=Point(3, named(2))))
    chain(tree, 6, parent=named(5))
    assert tree.prune(Point(4, named(5))) == []
    assert tree.justified == Point(3, named(2))
    assert tree.head({}).id == named(6)


def test_pruning_keeps_the_justified_checkpoint_if_it_is_on_top_of_the_final_one() -> None:
    tree = Tree(GENESIS)
    chain(tree, 1, 2)
    chain(tree, 7)
    tree.add(block(3, justified=Point(4, named(2))), named(2), is_late=False)
    tree.justify()
    assert tree.prune(Point(3, named(1))) == [ROOT, named(7)]
    assert tree.justified == Point(4, named(2))
    assert tree.head({}).id == named(3)
