"""How loud a frame of audio is, from a few of its samples: cheap enough for every frame of every call."""

from __future__ import annotations

import random
import struct
from math import hypot, sqrt
from typing import TypeAlias

Frame: TypeAlias = "bytes | bytearray | memoryview"
"""Audio as it passes a connection: 16 bit little-endian samples, mono, 16,000 a second."""

BYTES_PER_MS = 32
PIECE = 20 * BYTES_PER_MS  # frames are listened to in pieces of 20 ms: a long one may hold a pause
PIECE_MS = 20.0
NEVER = float("inf")
SAMPLES = 12  # so many samples of a frame are looked at: its loudness is known within a third or so
SAMPLES_CLOSER = 64  # so many where that is too little to tell speech from noise: within a tenth or so
FLAT_LEVEL = 20.0  # samples that differ by less than this are all the same: there is no sound in them
FLAT_LOUD = 1_500.0
"""Samples of one value, at least so far from zero, are a test's sound; nearer to it they are a line's offset."""
_SHAPES_MOST = 1_024

_Shape: TypeAlias = "tuple[struct.Struct, float]"
_shapes: dict[int, _Shape] = {}
_closer: dict[int, _Shape] = {}


def size_of(frame: Frame) -> int:
    """Return the bytes in a frame; a memoryview may count its length in other units."""
    return frame.nbytes if type(frame) is memoryview else len(frame)


def flat(frame: Frame) -> Frame:
    """Return a frame whose bytes stand in one piece: those of a memoryview with steps are copied."""
    return bytes(frame) if type(frame) is memoryview and not frame.c_contiguous else frame


def loudness(frame: Frame, offset: int, size: int) -> float:
    """Return how loud ``size`` bytes of a frame in one piece are: roughly the root mean square, 0 to 32,768.

    Takes about 1 us, whatever the length. An odd last byte is ignored; what holds no sample has level 0.
    """
    read, scale = _shapes.get(size) or shape(size)
    return hypot(*read.unpack_from(frame, offset)) * scale


def measured(frame: Frame, offset: int, size: int) -> tuple[float, float]:
    """Return a level from more samples, without the offset of the line from zero, and the mean of the samples."""
    read, scale = _closer.get(size) or _made(_closer, size, SAMPLES_CLOSER)
    samples = read.unpack_from(frame, offset)
    mean = sum(samples) / len(samples)
    found = sqrt(max(0.0, (hypot(*samples) * scale) ** 2 - mean * mean))
    return abs(mean) if found < FLAT_LEVEL and abs(mean) >= FLAT_LOUD else found, mean


def shape(size: int, samples: int = SAMPLES) -> _Shape:
    """Return what reads some samples of a frame of ``size`` bytes, and what makes a level of their Euclidean norm.

    The samples stand at uneven distances: at even ones a steady tone could be met in its zeros only.
    """
    return _made(_shapes if samples == SAMPLES else {}, size, samples)


def _made(known: dict[int, _Shape], size: int, samples: int) -> _Shape:
    """Return a shape, kept by its size; of sizes that differ by less than a millisecond, one reads all."""
    whole = size if size < BYTES_PER_MS else size // BYTES_PER_MS * BYTES_PER_MS
    found = known.get(whole)
    if found is None:
        count = whole // 2
        taken = min(samples, count)
        chosen = sorted(random.Random(whole).sample(range(count), taken))  # noqa: S311 - the same in every process
        gaps = [after - before - 1 for before, after in zip([-1, *chosen], chosen, strict=False)]
        found = struct.Struct("<" + "".join(f"{2 * gap}xh" for gap in gaps)), 1 / sqrt(taken) if taken else 0.0
    if len(known) < _SHAPES_MOST:
        known[size] = known[whole] = found
    return found
