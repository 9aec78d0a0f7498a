"""The QR code in a terminal shows exactly the modules of the code, and gives way when the terminal is too narrow."""

import re

import segno

from node.qr import QUIET, drawn


def test_the_drawing_is_the_code_module_by_module() -> None:
    text = "LUCID-NETWORK:1:" + "ABCDEFGH234567" * 20
    picture = drawn(text, 80)
    assert picture is not None
    halves = {" ": (0, 0), "▄": (0, 1), "▀": (1, 0), "█": (1, 1)}
    rows: list[list[int]] = []
    for line in picture.splitlines():
        shown = [halves[letter] for letter in re.sub(r"\x1b\[[0-9;]*m", "", line)]
        rows += [[up for up, _ in shown], [down for _, down in shown]]
    code = segno.make_qr(text, error="l", boost_error=False)
    assert code.mode == "alphanumeric"
    side = int(code.symbol_size(border=QUIET)[0])
    assert [row[:side] for row in rows[:side]] == [list(map(int, row)) for row in code.matrix_iter(border=QUIET)]
    assert not any(map(any, rows[side:]))


def test_what_does_not_fit_the_terminal_or_any_code_is_not_drawn() -> None:
    assert drawn("A" * 100, 20) is None
    assert drawn("A" * 5000, 1000) is None
