import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consensus.beacon import passed, show
from consensus.ids import Digest
from consensus.merkle import SEGMENT, segment_root
from node.store.replicas import ReplicaFiles
from tests.examples import examples

DATA = random.Random(1).randbytes(5 * SEGMENT + 77)
ROOT = segment_root(DATA)


def put(files: ReplicaFiles, data: bytes = DATA, name: Digest = ROOT) -> tuple[Digest, int]:
    files.append(name, 0, data)
    return files.finish(name)


def test_a_replica_comes_in_pieces_and_over_interruptions(tmp_path: Path) -> None:
    files = ReplicaFiles(tmp_path / "replicas")
    assert files.names() == []
    while (at := files.arrived(ROOT)) < len(DATA):
        files.append(ROOT, at, DATA[at : at + 30_000])
        files = ReplicaFiles(tmp_path / "replicas")  # the process died
        assert not files.has(ROOT)
    assert files.finish(ROOT) == (ROOT, len(DATA))
    assert files.has(ROOT)
    assert files.size(ROOT) == len(DATA)
    assert files.read(ROOT, 10_000, 20_000) == DATA[10_000:30_000]
    assert files.names() == [ROOT]
    assert files.arrived(ROOT) == 0


def test_what_is_not_the_replica_of_its_name_is_told_and_gone(tmp_path: Path) -> None:
    files = ReplicaFiles(tmp_path)
    wrong = b"\0" + DATA[1:]
    assert put(files, wrong) == (segment_root(wrong), len(DATA))
    assert not files.has(ROOT)
    assert files.arrived(ROOT) == 0
    with pytest.raises(KeyError):
        files.read(ROOT, 0, 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(20))
@given(st.lists(st.integers(0, 5), unique=True, max_size=6))
def test_segments_are_shown_as_the_verifier_wants_them(tmp_path: Path, chosen: list[int]) -> None:
    files = ReplicaFiles(tmp_path)
    put(files)
    indexes = sorted(chosen)
    answer = files.segments(ROOT, indexes)
    assert answer == show(DATA, indexes)
    assert answer is not None
    assert passed(ROOT, len(DATA), indexes, answer)


@pytest.mark.parametrize("kind", ["replica", "leaves"])
def test_rot_and_loss_are_noticed_by_whoever_shows_the_segment(tmp_path: Path, kind: str) -> None:
    files = ReplicaFiles(tmp_path)
    put(files)
    path = next(tmp_path.glob(f"??/*.{kind}"))
    rotten = bytearray(path.read_bytes())
    rotten[5] ^= 1
    path.write_bytes(rotten)
    assert files.segments(ROOT, [0]) is None
    path.unlink()
    assert files.segments(ROOT, [1]) is None


def test_a_segment_that_there_is_none_of_is_not_shown(tmp_path: Path) -> None:
    files = ReplicaFiles(tmp_path)
    put(files)
    assert files.segments(ROOT, [6]) is None


def test_discarding_frees_everything_and_twice_is_no_error(tmp_path: Path) -> None:
    files = ReplicaFiles(tmp_path)
    put(files)
    assert files.usage() == len(DATA) + 6 * 32
    files.discard(ROOT)
    files.discard(ROOT)
    assert files.usage() == 0
    assert files.names() == []
