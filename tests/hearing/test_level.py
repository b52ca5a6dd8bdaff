"""How loud a frame is."""

from __future__ import annotations

import array
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.hearing.level import Frame, loudness, size_of


def level(frame: Frame) -> float:
    """Return how loud a whole frame is."""
    return loudness(frame, 0, size_of(frame))


def noise(rms: float, samples: int = 320, seed: int = 1) -> bytes:
    """Return noise of a given root mean square."""
    generator = random.Random(seed)
    return array.array("h", [int(generator.gauss(0, rms)) for _ in range(samples)]).tobytes()


def tone(hertz: float, peak: float, samples: int = 320) -> bytes:
    """Return a tone."""
    return array.array("h", [int(peak * math.sin(2 * math.pi * hertz * n / 16_000)) for n in range(samples)]).tobytes()


@pytest.mark.parametrize("rms", [0, 60, 150, 300, 3_000])
def test_a_level_is_about_the_root_mean_square(rms: int) -> None:
    """Over a second of frames, as over any, it is right within a tenth."""
    found = [level(noise(rms, seed=seed)) for seed in range(50)]
    assert sum(found) / 50 == pytest.approx(rms, rel=0.1)


@pytest.mark.parametrize("samples", [160, 320, 800, 1_600])
def test_no_steady_tone_hides_between_the_samples(samples: int) -> None:
    """Whatever its pitch, a loud tone is loud."""
    for hertz in (50, 100, 200, 400, 500, 800, 1_000, 1_600, 2_000, 3_200, 4_000):
        assert level(tone(hertz, 8_000, samples)) > 2_000, hertz


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(data).cast("h")])
def test_every_kind_of_frame_is_heard(kind: type[Frame]) -> None:
    """What holds the bytes makes no difference."""
    data = noise(1_000)
    assert level(kind(data)) == level(data) > 500


@given(st.binary(max_size=5_000))
def test_any_frame_has_a_level(data: bytes) -> None:
    """Also an empty one, one of a single byte, and the loudest there is."""
    assert 0 <= level(data) <= 32_768.001
    assert level(b"\x00\x80" * 320) == pytest.approx(32_768)
