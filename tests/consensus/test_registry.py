"""Registries: who belongs to an ERA, for whom it works, and since when."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from consensus.admission import PoolRegistration, Registration
from consensus.ids import Address, NodeId
from consensus.registry import Member, Pool, Registry, following, founding, registry_of
from tests.consensus.worlds import named

A, B, C, D = (NodeId(named(number)) for number in range(4))
POOL, OTHER_POOL = bytes(named(100)), bytes(named(101))
ADDRESS = Address(b"a" * 20)
SINCE = 504


def joins(node: NodeId, pool: bytes | None = None) -> Registration:
    return Registration(node, 3, 500, named(9), bytes(16), named(10), named(11), ADDRESS, pool, 77)


def pool_of(*members: NodeId) -> PoolRegistration:
    return PoolRegistration(3, (named(20), named(21)), 2, named(22), ADDRESS, members)


def member(node: NodeId, entity: bytes, since: int = SINCE) -> Member:
    return Member(node, entity, named(10), named(11), ADDRESS, 77, since)


BEFORE = registry_of(2, [Member(node, node, node, node, Address(bytes(20)), 5, 0) for node in (C, A, B)], {})


def test_founders_begin_with_their_identities_as_keys() -> None:
    registry = founding([B, A], {B: ADDRESS})
    assert registry.era == 0
    assert registry.order == (A, B)
    assert registry.members[A] == Member(A, A, A, A, Address(bytes(20)), 0, 0)
    assert registry.members[B].address == ADDRESS
    assert registry.entities == {A: A, B: B}
    assert registry.pools == {}


def test_who_registers_is_in_the_next_era_with_its_keys_and_who_does_not_is_out() -> None:
    registry = following(BEFORE, {B: joins(B), D: joins(D)}, {}, SINCE, B)
    assert registry == Registry(3, {B: member(B, B, 0), D: member(D, D)}, {B: B, D: D}, (B, D), {})


def test_the_server_keeps_its_place_and_its_keys() -> None:
    registry = following(BEFORE, {D: joins(D)}, {}, SINCE, A)
    assert registry.members == {A: BEFORE.members[A], D: member(D, D)}
    assert following(BEFORE, {D: joins(D)}, {}, SINCE, NodeId(named(50))).order == (D,)
    old = registry_of(2, [member(A, A, 0)._replace(era_key=b"\xff" * 32)], {})
    assert following(old, {A: joins(A)}, {}, SINCE, A).members == {A: member(A, A, 0)}


def test_where_nobody_registers_all_stay() -> None:
    assert following(BEFORE, {}, {}, SINCE, A) == BEFORE._replace(era=3)


def test_a_node_works_for_a_pool_if_each_names_the_other() -> None:
    joining = {A: joins(A, POOL), B: joins(B, POOL), C: joins(C), D: joins(D, OTHER_POOL)}
    registry = following(BEFORE, joining, {POOL: pool_of(A, C)}, SINCE, A)
    assert registry.entities == {A: POOL, B: B, C: C, D: D}
    assert registry.pools == {POOL: Pool((named(20), named(21)), 2, named(22), ADDRESS)}


def test_a_server_that_does_not_register_works_on_for_a_pool_that_does_and_for_itself_without() -> None:
    pooled = following(BEFORE, {A: joins(A, POOL)}, {POOL: pool_of(A)}, SINCE, A)
    assert pooled.entities == {A: POOL}
    again = following(pooled, {D: joins(D)}, {POOL: pool_of(A, D)}, SINCE, A)
    assert again.entities == {A: POOL, D: D}
    assert following(pooled, {D: joins(D)}, {POOL: pool_of(D)}, SINCE, A).entities == {A: A, D: D}
    assert following(pooled, {D: joins(D)}, {}, SINCE, A).entities == {A: A, D: D}


@given(st.permutations([A, B, C, D]), st.permutations([POOL, OTHER_POOL]))
def test_a_registry_is_the_same_in_whatever_order_registrations_came(nodes: list[NodeId], pools: list[bytes]) -> None:
    joining = {node: joins(node, POOL) for node in nodes}
    made = following(BEFORE, joining, {name: pool_of(A, B) for name in pools}, SINCE, A)
    usual = following(
        BEFORE,
        {node: joins(node, POOL) for node in (A, B, C, D)},
        {POOL: pool_of(A, B), OTHER_POOL: pool_of(A, B)},
        SINCE,
        A,
    )
    assert made == usual
    for one, other in ((made.members, usual.members), (made.entities, usual.entities), (made.pools, usual.pools)):
        assert [*one] == [*other] == sorted(one)


def test_who_was_away_for_an_era_begins_anew() -> None:
    without = following(BEFORE, {A: joins(A)}, {}, SINCE, A)
    again = following(without, {B: replace(joins(B), era=4), A: joins(A)}, {}, SINCE + 168, A)
    assert again.members[B].since == SINCE + 168
    assert again.members[A].since == 0
