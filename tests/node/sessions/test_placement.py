"""How safe a session is, by what is known of each of its sealed files."""

from typing import Any

import pytest

from consensus.ids import Digest, Millis, SessionId
from consensus.placement import REPLICAS
from node.sessions.placement import NEWEST, Placement, Summary, newest, owed, standing

A, B, C = (Digest(bytes([number]) * 32) for number in range(3))
SESSION = SessionId(bytes(32))
POINTER = Placement(SESSION, 0, C, 100, 5, Digest(bytes(32)), (A, B, C))


def told(
    held: dict[Digest, int], *, complete: bool | None = True, files: tuple[Digest, ...] = (A, B)
) -> dict[str, Any]:
    summary = Summary(SESSION, Millis(7), complete, files)
    return standing(summary, POINTER if C in held else None, lambda file: held.get(file, 0), lambda file: file == A)


@pytest.mark.parametrize(
    ("held", "complete", "state"),
    [
        ({A: 3, B: 3, C: 3}, True, "replicated"),
        ({A: 3, B: 4, C: 5}, False, "replicated"),
        ({A: 3, B: 3, C: 2}, True, "sealed"),
        ({A: 3, B: 3}, True, "sealed"),
        ({A: 3, B: 2, C: 3}, False, "incomplete"),
        ({A: 3, B: 3, C: 3}, None, "open"),
    ],
)
def test_a_session_is_replicated_when_it_is_closed_and_all_its_chunks_and_its_dossier_are(
    held: dict[Digest, int], complete: bool | None, state: str
) -> None:
    assert told(held, complete=complete)["state"] == state


def test_holders_past_r_count_for_nothing_and_the_worst_chunk_speaks_for_all() -> None:
    row = told({A: 7, B: 1})
    assert (row["chunks"], row["replicated"], row["copies"], row["copies_wanted"], row["owed"]) == (
        2,
        1,
        1,
        REPLICAS,
        2,
    )
    assert (row["here"], row["missing"]) == (1, 1)
    assert owed([row, row]) == {"chunks_owed": 2, "replicas_owed": 4}


def test_a_session_without_chunks_is_as_safe_as_its_dossier() -> None:
    row = told({C: 3}, files=())
    assert (row["state"], row["copies"], row["owed"]) == ("replicated", 0, 0)


def test_the_newest_come_first_and_fit_on_a_screen() -> None:
    rows = [{"session": SessionId(bytes([number])), "started": Millis(number // 2)} for number in range(40)]
    assert newest(rows) == rows[::-1][:NEWEST]
