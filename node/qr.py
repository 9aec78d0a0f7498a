"""A QR code drawn in a terminal, two rows of modules a line: to carry a few hundred bytes to a phone or another machine."""

from typing import Final

import segno

QUIET: Final = 2
"""Modules of white around the code."""

_HALVES: Final = {(0, 0): " ", (0, 1): "▄", (1, 0): "▀", (1, 1): "█"}
_BLACK_ON_WHITE: Final = "\x1b[30;107m"
_PLAIN: Final = "\x1b[0m"


def drawn(text: str, columns: int) -> str | None:
    """The code of a text, of the lowest error correction; None when a terminal so many columns wide cannot show it."""
    try:
        code = segno.make_qr(text, error="l", boost_error=False)
    except segno.DataOverflowError:
        return None
    rows = [list(row) for row in code.matrix_iter(border=QUIET)]
    if len(rows[0]) > columns:
        return None
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join(
        _BLACK_ON_WHITE + "".join([_HALVES[up, down] for up, down in zip(*pair, strict=True)]) + _PLAIN
        for pair in pairs
    )
