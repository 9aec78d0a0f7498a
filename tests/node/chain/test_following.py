"""The replica's questions: a parent that got lost is executed again, one that nobody kept leaves the question open."""

import json
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest

from consensus.block import Block, BlockBody, block_id
from consensus.ids import Digest
from consensus.payload import BUSY, PayloadTerms
from consensus.records import pack
from consensus.wishes import ExecutePayload
from node.chain.executor import PayloadRefused
from node.chain.following import Chain
from node.chain.genesis import ChainLaw
from node.log import EventLog
from node.overlay.agreement import PayloadJudged
from tests.consensus.worlds import NETWORK, Village, named

VILLAGE = Village(2)
SECRET = b"\1" * 32


class Scene:
    """Two blocks, an executor that knows some payloads, and a host and a replica that write down and give back."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.known: set[bytes] = set()
        self.replayed: list[bytes] = []
        self.kept: dict[Digest, bytes] = {}
        self.law = ChainLaw(1, 0, (), 5)
        self.refuses = False
        first = VILLAGE.genesis
        self.blocks: list[Block] = []
        for slot in (1, 2):
            body = BlockBody(payload=BUSY + bytes([slot]))
            block = VILLAGE.block(first, slot, body)
            first = VILLAGE.after(first, slot, body)
            self.blocks.append(block)
        self.finalised = SimpleNamespace(past=SimpleNamespace(genesis=VILLAGE.genesis.id))
        self.out = StringIO()
        self.chain = Chain(self, self, self, SECRET, EventLog(out=self.out, as_json=True))  # type: ignore[arg-type]

    def on_fact(self, *_: object) -> None:
        pass

    def tell(self, order: object) -> None:
        self.told.append(order)

    def block(self, name: Digest) -> bytes | None:
        return self.kept.get(name)

    async def knows(self, name: Digest) -> bool:
        return name in self.known

    async def replay(self, payload: bytes) -> None:
        self.replayed.append(payload)
        self.known.add(b"parent")

    async def judge(self, terms: PayloadTerms, name: Digest, payload: bytes) -> None:
        assert payload == self.blocks[1].body.payload
        if self.refuses:
            raise PayloadRefused("no")
        if b"parent" not in self.known:
            raise KeyError(terms.parent)

    async def asked(self) -> list[Any]:
        terms = PayloadTerms(named(1), 2, named(2), VILLAGE.genesis.payload, named(3), (), None, ())  # type: ignore[arg-type]
        await self.chain._judge(ExecutePayload(7, self.blocks[1], terms))
        return self.told


def name_of(block: Block) -> Digest:
    return block_id(block.header, NETWORK)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_what_is_known_is_judged_at_once_and_what_breaks_a_rule_refused(scene: Scene) -> None:
    scene.known = {b"parent"}
    assert await scene.asked() == [PayloadJudged(7, True)]
    scene.refuses = True
    assert (await scene.asked())[1:] == [PayloadJudged(7, False)]
    assert scene.replayed == []


async def test_a_parent_that_got_lost_is_executed_again_from_the_blocks_that_were_kept(scene: Scene) -> None:
    scene.kept = {name_of(scene.blocks[0]): pack(scene.blocks[0])}
    assert await scene.asked() == [PayloadJudged(7, True)]
    assert scene.replayed == [scene.blocks[0].body.payload]


async def test_a_parent_that_nobody_kept_leaves_the_question_open_and_the_daemon_up(scene: Scene) -> None:
    assert await scene.asked() == []
    said = json.loads(scene.out.getvalue().splitlines()[-1])
    assert (said["event"], said["slot"]) == ("payload.parent_unknown", 2)
    assert "restart" in said["mend"]
