"""From the contracts' events to LUCID: sessions that are stored and shown are minted for by the slot that pays for them."""

from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import decode

from consensus.block import Block, BlockBody, sign_header
from consensus.facts import Minting
from consensus.ids import Address, Digest, SessionId, session_id
from consensus.news import (
    ChunkNamed,
    ChunksNamed,
    ReplicasHeld,
    ReplicaShown,
    SessionEnded,
    SessionNews,
    roots_name,
    split,
    told,
)
from consensus.payload import BUSY, IDLE, PayloadTerms, terms_of
from consensus.registry import Member, registry_of
from consensus.reward import paid_slots
from consensus.state import State
from consensus.transition import extend
from node.chain.engine import Engine
from node.chain.evm import Evm, InvalidPayload, MemoryRows
from node.chain.genesis import PLACES, ChainLaw
from node.chain.onsystem import (
    Commitment,
    Order,
    calldata,
    close_session,
    commit_chunks,
    hold_chunks,
    mint,
    open_session,
    show_replica,
)
from node.chain.transactions import address_of, sign
from node.chain.verbs import of_terms
from tests.consensus.worlds import NETWORK, Village, named

pytestmark = pytest.mark.component

SECRETS = [bytes([number]) * 32 for number in range(1, 7)]
ACCOUNTS = [address_of(secret) for secret in SECRETS]
LAW = ChainLaw(1_280, 1_800_000_000, ACCOUNTS, 5)
SIZE = 8_000_000
ROOTS = (named(81), named(82), named(83))
UUID, KEY = b"u" * 16, b"k" * 32
SESSIONS = [session_id(owner, UUID, KEY) for owner in ACCOUNTS[:2]]
CLOSED = 6


class Town:
    """Six founders that are registered with room and coins; payloads are executed, blocks extended, both for real."""

    def __init__(self) -> None:
        self.village = Village(6)
        members = [
            Member(node, node, node, node, account, SIZE, 0)
            for node, account in zip(self.village.nodes, ACCOUNTS, strict=True)
        ]
        first = self.village.genesis
        self.state = replace(first, recent=(replace(first.checkpoint, registry=registry_of(0, members, {})),))
        self.engine = Engine(Evm(MemoryRows(), LAW), LAW)
        self.nonces = dict.fromkeys(ACCOUNTS, 0)
        self.slot = 0

    def signed(self, who: int, order: Order) -> bytes:
        nonce = self.nonces[ACCOUNTS[who]]
        self.nonces[ACCOUNTS[who]] += 1
        return sign(SECRETS[who], LAW.chain_id, nonce, order.to, order.data, order.gas)

    def built(self, slot: int, *calls: tuple[int, Order]) -> tuple[PayloadTerms, bytes, bytes, Block]:
        """A block of a slot with those calls, behind what mints for the block before."""
        entity = self.village.header(self.state, slot, BlockBody()).entity
        terms = terms_of(self.village.at(self.state, slot), slot, entity)
        sent = []
        if terms.payout is not None:
            order = mint(terms.payout, LAW.time_of(slot), terms.siblings)
            sent.append(self.signed(ACCOUNTS.index(terms.recipient), order))
        sent += [self.signed(*call) for call in calls]
        name, payload = self.engine.verbs["build"](of_terms(terms), sent)
        body = BlockBody(payload=payload)
        header = replace(self.village.header(self.state, slot, body), payload=Digest(name))
        return terms, name, payload, Block(sign_header(header, self.village.keys[entity], NETWORK), body)

    def block(self, slot: int, *calls: tuple[int, Order]) -> State:
        """The state after such a block, which is judged."""
        terms, name, payload, block = self.built(slot, *calls)
        self.engine.verbs["judge"](of_terms(terms), name, payload)
        self.state = extend(self.village.rules, self.state, block)
        return self.state

    def lucid(self, account: Address) -> int:
        asked = calldata("LucidToken", "balanceOf", account)
        ok, output, _ = self.engine.verbs["call"](self.state.payload, ACCOUNTS[0], PLACES["LucidToken"], asked)
        assert ok
        found: int = decode(["uint256"], output)[0]
        return found


def opened(who: int) -> tuple[int, Order]:
    return who, open_session(UUID, KEY, bytes(32))


def committed(who: int, *names: Digest) -> tuple[int, Order]:
    return who, commit_chunks(SESSIONS[who], 0, [Commitment(name, SIZE, ROOTS) for name in names])


def closed(who: int) -> tuple[int, Order]:
    return who, close_session(SESSIONS[who], named(1), named(2), 1, 0)


def grown() -> Town:
    """Two sessions that are stored by three others, shown to one of them, and closed."""
    town = Town()
    town.block(1, opened(0), opened(1))
    town.block(2, committed(0, named(70)), committed(1, named(71), named(72)))
    holding = [(who, hold_chunks(one, 0, 1, who - 2)) for one in SESSIONS for who in (2, 3, 4)]
    town.block(5, *holding)
    town.block(CLOSED, *[(2, show_replica(one, 0, 1, ACCOUNTS[3])) for one in SESSIONS], closed(0), closed(1))
    return town


def test_sessions_that_are_stored_and_shown_are_minted_for_by_the_slot_that_pays_for_them() -> None:
    town = grown()
    assert {one.passed for one in town.state.storage.sessions.values()} == {1}
    pays = CLOSED + paid_slots(town.village.law.params.hour_slots)
    earlier = town.block(pays - 1).payout
    assert earlier is not None
    assert earlier.amount <= 2
    payout = town.block(pays).payout
    assert payout is not None
    # S = 2, W = ⌈16 MB ÷ 5 MB⌉ = 4, nobody has credit yet: N = 1, so the density is whole: 1 + 49 · 1 · 4 ÷ 36
    assert payout == Minting(pays, payout.payee, 1 + 49 * 4 // 36)
    had = town.lucid(payout.payee)
    assert town.block(pays + 1).storage.sessions == {}
    assert town.lucid(payout.payee) == had + payout.amount * 10**18


def test_the_news_of_a_payload_are_what_its_contracts_said_in_their_order() -> None:
    town = Town()
    town.block(1, opened(0))
    calls = [
        committed(0, named(70), named(71)),
        (2, hold_chunks(SESSIONS[0], 0, 0b11, 1)),
        (3, hold_chunks(SESSIONS[0], 5, 1, 1)),  # is refused
        (4, show_replica(SESSIONS[0], 1, 1, ACCOUNTS[2])),
        (5, Order(PLACES["LucidChunkStore"], calldata("LucidChunkStore", "probe", SESSIONS[0], 0, 0, bytes(20), False), 45_000)),
        closed(0),
    ]  # fmt: skip
    _, _, payload, _ = town.built(2, *calls)
    chunks = tuple(ChunkNamed(name, SIZE, roots_name(ROOTS)) for name in (named(70), named(71)))
    assert split(payload)[0] == (
        ChunksNamed(SESSIONS[0], ACCOUNTS[0], 0, chunks),
        ReplicasHeld(SESSIONS[0], ACCOUNTS[2], 1, 0, 0b11),
        ReplicaShown(SESSIONS[0], 1, 1, ACCOUNTS[2], ACCOUNTS[4]),
        SessionEnded(SESSIONS[0], ACCOUNTS[0]),
    )


def test_a_payload_that_says_anything_else_of_sessions_is_none() -> None:
    town = Town()
    town.block(1, opened(0), opened(1))
    terms, name, payload, _ = town.built(2, committed(0, named(70)), closed(1))
    news, block = split(payload)
    lies: list[tuple[SessionNews, ...]] = [
        news[:1],
        news[::-1],
        (*news, SessionEnded(SESSIONS[0], ACCOUNTS[0])),
        (news[0], SessionEnded(SESSIONS[1], ACCOUNTS[0])),
        (SessionEnded(SessionId(named(9)), ACCOUNTS[0]), news[1]),
    ]
    wrong: list[bytes] = [told(lie, block) for lie in lies]
    for data in wrong:
        with pytest.raises(InvalidPayload, match="says something else of sessions"):
            town.engine.verbs["judge"](of_terms(terms), name, data)
    for kind, reason in ((BUSY, "says something else of sessions"), (IDLE, "says that something waited")):
        with pytest.raises(InvalidPayload, match=reason):
            town.engine.verbs["judge"](of_terms(terms), name, kind + block)
    with pytest.raises(InvalidPayload, match="cut off"):
        town.engine.verbs["judge"](of_terms(terms), name, payload[:9])
    town.engine.verbs["judge"](of_terms(terms), name, payload)


def test_a_payload_that_would_be_too_long_is_built_of_fewer_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town()
    town.block(1, opened(0))
    calls: list[tuple[int, Order]] = [
        (0, commit_chunks(SESSIONS[0], at, [Commitment(named(at), 1, ROOTS)])) for at in range(8)
    ]
    monkeypatch.setattr("node.chain.engine.PAYLOAD_BYTES_MAX", 3_000)
    terms, name, payload, _ = town.built(2, *calls)
    assert 1_500 < len(payload) <= 3_000
    town.engine.verbs["judge"](of_terms(terms), name, payload)
    told_chunks: Any = split(payload)[0]
    assert [one.first for one in told_chunks] == [0]
    assert 2 <= len(told_chunks[0].chunks) <= 4
