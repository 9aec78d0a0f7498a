"""What asks to be put into a block, as it is heard: reports, registrations of nodes and of pools.

One is taken in, and passed on, if the next block could have it; once. Refused, and its sender blamed, is what no branch makes right.

Source: CONSENSUS §3, §4, §7.
"""

from collections.abc import Callable
from typing import Final

from consensus.admission import pool_id, read_pool, read_registration
from consensus.inclusion import Rules, check_pool, check_registration, check_report
from consensus.pools import Pools
from consensus.reasons import BLAMED, Reason
from consensus.report import read_report
from consensus.state import State
from consensus.wishes import Heard, Topic

WAITING_MAX: Final = 4_096
"""Registrations that wait for a block; an eighth as many of pools."""


def take_in(
    rules: Rules, pools: Pools, coming: Callable[[], tuple[State, int]], slot: int, topic: Topic, data: bytes
) -> Heard | Reason:
    """Judge a record and keep it if it is right: a reason where its sender is to blame. Raises Malformed.

    `coming` works out the state for the next block and its slot; slot is the present one. Costs one check at the most.
    """
    match topic:
        case Topic.BEACONS:
            report = read_report(data)
            if (report.report.hour, report.report.node) in pools.reports:
                return Heard.IGNORE
            found = check_report(rules, *coming(), report)
            if isinstance(found, Reason):
                return _judged(found)
            pools.add_report(report, slot)
        case Topic.POOLS:
            pool = read_pool(data)
            name = pool_id(pool.pool, rules.law.network)
            if (pool.pool.era, name) in pools.pools or len(pools.pools) >= WAITING_MAX // 8:
                return Heard.IGNORE
            if wrong := check_pool(rules, coming()[0], pool):
                return _judged(wrong)
            pools.add_pool(pool, name)
        case _:
            node = read_registration(data)
            known = (node.registration.era, node.registration.node) in pools.registrations
            if known or len(pools.registrations) >= WAITING_MAX:
                return Heard.IGNORE
            if wrong := check_registration(rules, coming()[0], node):
                return _judged(wrong)
            pools.add_registration(node)
    return Heard.ACCEPT


def _judged(reason: Reason) -> Heard | Reason:
    """Refused is what no branch can make right; what depends on the branch or on time is only not passed on."""
    return reason if reason in BLAMED else Heard.IGNORE
