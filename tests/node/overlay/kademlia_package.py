"""The routing table and the crawl of PyPI's kademlia in our key space, without its transport and without asyncio: baseline and oracle.

The package is 160-bit, UDP and asyncio. Its table takes 256-bit places once `flush` is overridden; its crawl waits in one
function alone (gather_dict), in whose place the questions of a round are answered here one after the other.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from unittest.mock import patch

from kademlia.crawling import NodeSpiderCrawl  # type: ignore[import-untyped]
from kademlia.node import Node  # type: ignore[import-untyped]
from kademlia.routing import KBucket, RoutingTable  # type: ignore[import-untyped]


class WideTable(RoutingTable):  # type: ignore[misc]
    """Of 256-bit places."""

    def flush(self) -> None:
        self.buckets = [KBucket(0, 2**256, self.ksize)]

    def nearest(self, target: int, count: int) -> list[int]:
        """The places that the package takes for nearest to a target, nearest first."""
        return [node.long_id for node in self.find_neighbors(node_of(target), count)]


class Crawled(NamedTuple):
    """What a crawl found, what it asked, in how many rounds, and how long it took."""

    places: list[int]
    queries: int
    rounds: int
    ms: int


@lru_cache(maxsize=1 << 16)
def node_of(place: int) -> Node:
    """The package's name for a place; all live at one address, which nothing here looks at. Kept, as ours are."""
    return Node(place.to_bytes(32, "big"), "host", 1)


def table_of(me: int, contacts: Iterable[int], k: int) -> WideTable:
    """The table of a node with these contacts: all of them, if at most k lie at each distance from it (by its highest bit).

    Then no bucket that may not be split is ever full, so it pings nobody; without a protocol it would raise.
    """
    table = WideTable(None, k, node_of(me))
    for contact in contacts:
        table.add_contact(node_of(contact))
    return table


class _Answers:
    """Stands for the package's protocol: a question is answered at once from the table of whoever is asked."""

    def __init__(self, tables: Mapping[int, WideTable], k: int) -> None:
        self.tables, self.k = tables, k

    async def call_find_node(self, peer: Node, target: Node) -> tuple[bool, list[tuple[Any, ...]]]:
        return True, [tuple(node) for node in self.tables[peer.long_id].find_neighbors(target, self.k)]


def crawl(tables: Mapping[int, WideTable], me: int, target: int, k: int, alpha: int, ms: Callable[[], int]) -> Crawled:
    """Look up a target from a node as the package does; ms draws a round trip, and a round takes as long as its slowest."""
    queries = rounds = took = 0

    async def gather(questions: Mapping[bytes, Any]) -> dict[bytes, Any]:
        nonlocal queries, rounds, took
        queries += len(questions)
        rounds += 1
        took += max((ms() for _ in questions), default=0)
        return {peer: await answer for peer, answer in questions.items()}

    goal = node_of(target)
    crawler = NodeSpiderCrawl(_Answers(tables, k), goal, tables[me].find_neighbors(goal, k), k, alpha)
    with patch("kademlia.crawling.gather_dict", gather):
        try:
            crawler.find().send(None)
        except StopIteration as ended:
            return Crawled([node.long_id for node in ended.value], queries, rounds, took)
    raise AssertionError("the crawl waits for something that is not ours")
