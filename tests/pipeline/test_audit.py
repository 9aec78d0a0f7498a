import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import Millis
from pipeline.audit import LINES_MAX, Log, key_class, line

texts = st.text(max_size=20)


@given(
    st.integers(0, 1 << 48),
    st.dictionaries(texts.filter(lambda name: name not in {"kind", "t", "k"}), texts | st.integers()),
)
def test_a_line_is_one_line_and_says_what_was_put_in(t: int, fields: dict[str, str | int]) -> None:
    try:
        text = line("focus", Millis(t), **fields)
    except UnicodeEncodeError:
        pytest.fail("no text of a window may break the audit")
    assert text.count(b"\n") == 1
    assert text.endswith(b"}\n")
    assert json.loads(text) == {**fields, "t": t, "k": "focus"}


def test_a_line_has_one_spelling() -> None:
    assert (
        line("focus", Millis(5), title="a Ü\n", pid=None)
        == '{"k":"focus","pid":null,"t":5,"title":"a Ü\\n"}\n'.encode()
    )


presses = st.lists(
    st.tuples(st.integers(0, 700), st.sampled_from(["char", "edit", "nav", "mod"]), st.booleans(), st.booleans()),
    max_size=60,
)


@given(presses)
def test_keys_are_counted_in_windows_and_none_is_lost_or_timed(events: list[tuple[int, str, bool, bool]]) -> None:
    time = 1_700_000_000_123
    log = Log(lambda: Millis(time), 500)
    fragments, truth, held = [], Counter[str](), Counter[str]()
    for wait, what, with_modifier, look in events:
        time += wait
        log.count("key", what, held=with_modifier)
        truth[what] += 1
        held[what] += with_modifier
        fragments += [log.take()] if look else []
    fragments.append(log.take(everything=True))
    told = [json.loads(text) for fragment in fragments if fragment for text in fragment.data.splitlines()]
    assert sum((Counter(entry["n"]) for entry in told), Counter()) == truth
    assert sum((Counter(entry["m"]) for entry in told), Counter()) == +held
    assert [set(entry) for entry in told] == [{"t", "k", "w", "n", "m"}] * len(told)
    # Windows lie on the wall clock's grid, and each is told once, when it is over: no key's own time shows.
    starts = [entry["t"] for entry in told]
    assert starts == sorted(set(starts))
    assert all(start % 500 == 0 for start in starts)


def test_a_window_is_told_when_it_is_over_and_not_before() -> None:
    time = 1_000
    log = Log(lambda: Millis(time), 500)
    log.count("button", "1")
    log.tell("focus", pid=7)
    time = 1_499
    fragment = log.take()
    assert fragment is not None
    assert fragment.data == b'{"k":"focus","pid":7,"t":1000}\n'
    assert log.take() is None
    time = 1_500
    fragment = log.take()
    assert fragment is not None
    assert (fragment.data, fragment.first, fragment.last) == (
        b'{"k":"button","n":{"1":1},"t":1000,"w":500}\n',
        1_000,
        1_500,
    )


def test_a_flood_is_cut_and_the_cut_is_told() -> None:
    log = Log(lambda: Millis(7), 500)
    for _ in range(LINES_MAX + 5):
        log.tell("focus", pid=1)
    fragment = log.take()
    assert fragment is not None
    told = [json.loads(text) for text in fragment.data.splitlines()]
    assert Counter(entry["k"] for entry in told) == {"focus": LINES_MAX, "dropped": 1}
    assert {"k": "dropped", "n": 5, "t": 7} in told


@pytest.mark.parametrize(
    ("keysym", "name"),
    [
        (0x61, "char"), (0x20, "char"), (0xDF, "char"), (0x6C1, "char"), (0x0100_1E9E, "char"), (0xFE51, "char"),
        (0xFFB5, "char"), (0xFF0D, "enter"), (0xFF8D, "enter"), (0xFF08, "edit"), (0xFFFF, "edit"), (0xFF09, "edit"),
        (0xFF51, "nav"), (0xFF96, "nav"), (0xFFE1, "mod"), (0xFE03, "mod"), (0xFF7F, "mod"), (0xFFBE, "fn"),
        (0xFF1B, "other"), (0, "other"), (0x1008FF11, "other"),
    ],
)  # fmt: skip
def test_a_key_is_known_by_its_class(keysym: int, name: str) -> None:
    assert key_class(keysym) == name
