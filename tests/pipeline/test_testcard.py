import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import Millis
from pipeline.testcard import clock_bits, read_clock, squares

times = st.integers(0, (1 << 48) - 1).map(Millis)


def paint(ms: Millis, width: int, height: int) -> bytearray:
    gray = bytearray(width * height)
    for (x, y, w, h), bit in zip(squares(width), clock_bits(ms), strict=True):
        for row in range(y, y + h):
            gray[row * width + x : row * width + x + w] = bytes((235 if bit else 16,)) * w
    return gray


@given(times, st.integers(128, 700), st.integers(0, 1 << 32))
def test_the_clock_is_read_at_any_size_through_noise(ms: Millis, width: int, seed: int) -> None:
    height = width // 16
    noise = random.Random(seed).randbytes(width * height)
    noisy = bytes(
        max(0, min(255, pixel + level % 121 - 60)) for pixel, level in zip(paint(ms, width, height), noise, strict=True)
    )
    assert read_clock(noisy, width, height) == ms


@given(times, st.integers(0, 55))
def test_one_wrong_square_is_no_time(ms: Millis, which: int) -> None:
    gray = paint(ms, 256, 16)
    x, y, w, h = squares(256)[which]
    for row in range(y, y + h):
        for column in range(x, x + w):
            gray[row * 256 + column] = 251 - gray[row * 256 + column]
    assert read_clock(bytes(gray), 256, 16) is None


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_plain_picture_shows_no_time(level: int) -> None:
    assert read_clock(bytes((level,)) * (640 * 360), 640, 360) is None


def test_a_picture_too_small_or_cut_short_shows_no_time() -> None:
    whole = bytes(paint(Millis(1_700_000_000_000), 256, 16))
    assert read_clock(whole, 256, 16) == 1_700_000_000_000
    assert read_clock(whole[:-1], 256, 16) is None
    assert read_clock(whole, 256, 15) is None
    assert read_clock(whole, 127, 16) is None


@pytest.mark.parametrize("ms", [-1, 1 << 48])
def test_a_time_that_does_not_fit_is_refused(ms: int) -> None:
    with pytest.raises(ValueError, match="the clock shows"):
        clock_bits(Millis(ms))
