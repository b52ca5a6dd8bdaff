"""How telephone carriers code audio: the caller's 16,000 Hz PCM as mu-law or L16 of the carrier's rate, and back."""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bluejay_ws.testing.audio import SAMPLE_RATE, mulaw

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Coding:
    """One way to code audio.

    Args:
        name: ``mulaw`` (ITU-T G.711, one byte for a sample) or ``l16`` (two, little-endian).
        rate: samples a second.
    """

    name: Literal["mulaw", "l16"]
    rate: int

    def __str__(self) -> str:
        return f"{self.name}/{self.rate}"

    def encode(self, pcm: bytes) -> bytes:
        """Return PCM of the caller's rate in this coding."""
        if self.rate != SAMPLE_RATE:
            pcm = _at_another_rate(pcm, len(pcm) // 2 * self.rate // SAMPLE_RATE)
        return mulaw(pcm) if self.name == "mulaw" else pcm

    def decode(self, audio: bytes) -> bytes:
        """Return audio of this coding as PCM of the caller's rate.

        Raises:
            ValueError: there is none, or it ends in half a sample.
        """
        if not audio or (self.name == "l16" and len(audio) % 2):
            raise ValueError(f"{len(audio)} bytes are not a whole number of samples")
        pcm = _linear(audio) if self.name == "mulaw" else audio
        return pcm if self.rate == SAMPLE_RATE else _at_another_rate(pcm, len(pcm) // 2 * SAMPLE_RATE // self.rate)


CODINGS = {
    str(coding): coding
    for coding in (Coding("mulaw", 8_000), Coding("l16", 8_000), Coding("l16", 16_000), Coding("l16", 24_000))
}
"""Every coding that a carrier here can be asked for, by its name, such as ``mulaw/8000``."""


def _at_another_rate(pcm: bytes, count: int) -> bytes:
    """Return so many samples that sound as these do; of two samples that become one, their mean."""
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    found: Sequence[int]
    if 2 * count == len(samples):
        found = [left + right >> 1 for left, right in zip(samples[::2], samples[1::2], strict=True)]
    else:
        found = [samples[number * len(samples) // count] for number in range(count)]
    return struct.pack(f"<{count}h", *found)


def _linear(audio: bytes) -> bytes:
    return b"".join(map(_linear_table().__getitem__, audio))


@functools.lru_cache(maxsize=1)
def _linear_table() -> tuple[bytes, ...]:
    return tuple(struct.pack("<h", _sample(code)) for code in range(256))


def _sample(code: int) -> int:
    inverted = ~code & 0xFF
    size = (((inverted & 15) << 3) + 132 << (inverted >> 4 & 7)) - 132
    return -size if inverted & 128 else size
