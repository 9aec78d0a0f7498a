"""What a node remembers of its final chain: the seeds that draw holders."""

from consensus.block import skipped_seed
from consensus.finalised import SEED_HOURS
from tests.consensus.towns import Town
from tests.consensus.worlds import NETWORK


def test_the_seed_of_a_slot_is_that_of_the_branch_for_as_long_as_it_draws_holders_and_none_before() -> None:
    town = Town(3)
    town.run(6)
    replica = town.up[0].replica
    tree, head = replica.tree, replica.head()
    known = {0: replica.law.network} | {one.slot: one.seed for one in tree.ancestors(head.id)}
    finalised = replica.finalised
    assert {slot: finalised.seed_of(tree, head, slot) for slot in known} == known
    later = skipped_seed(NETWORK, skipped_seed(NETWORK, head.seed, head.slot + 1), head.slot + 2)
    assert finalised.seed_of(tree, head, head.slot + 2) == later
    town.run(30)
    head = replica.head()
    assert replica.final.hour > 3
    known |= {one.slot: one.seed for one in tree.ancestors(head.id)}
    assert {slot: finalised.seed_of(tree, head, slot) for slot in known} == known
    size, far = replica.params.hour_slots, head.slot + 10_000
    assert finalised.seed_of(tree, head, far) == skipped_seed(
        NETWORK, head.seed, far
    )  # nobody waits for a year of slots
    finalised._seeds = [one for one in finalised._seeds if one[0] > 2]
    assert finalised.seed_of(tree, head, 1) is None
    assert SEED_HOURS * size < 10_000


def test_seeds_are_forgotten_when_they_draw_nobody_any_more() -> None:
    town = Town(3)
    town.run(4 * (SEED_HOURS + 6))
    replica = town.up[0].replica
    head, size = replica.head(), replica.params.hour_slots
    oldest = replica.tree.parent(replica.tree.root).slot - SEED_HOURS * size
    assert replica.finalised.seed_of(replica.tree, head, oldest) is None
    assert replica.finalised.seed_of(replica.tree, head, oldest + 1) is not None
    assert len(replica.finalised._seeds) <= SEED_HOURS * size
