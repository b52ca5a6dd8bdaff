"""What the local caller heard and said, for the page: levels always, the sound itself only where it was asked for.

The middleware never keeps audio. Only the caller on this machine has it, and hands it over on explicit wish.
"""

from __future__ import annotations

import base64
import sys
from array import array
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

RATE = 16_000
BYTES_PER_MS = 32
BLOCK_MS = 20
GAP_MS = 100.0
QUIET = 600  # peaks below this are silence or hold noise, of which no sound is kept; a quiet voice lies above


class Sound:
    """Hold the audio of one call, as it was heard.

    Args:
        caller: pieces of PCM (16 kHz, 16 bit, mono), each with its time in milliseconds since the handshake.
        agent: the same for the agent, at the times when it was heard.
        playable: keep the sound for playing, not only its levels.
    """

    def __init__(
        self, *, caller: Iterable[tuple[float, bytes]], agent: Iterable[tuple[float, bytes]], playable: bool = False
    ) -> None:
        self._tracks = {"caller": join(caller), "agent": join(agent)}
        self._playable = playable

    def to_page(self) -> dict[str, Any]:
        """Return the levels (one byte for 20 ms), and the sound as mu-law at 16 kHz where it is to be played."""
        tracks = {
            who: [self._run(start, array("h", _even(pcm))) for start, pcm in runs] for who, runs in self._tracks.items()
        }
        return {"block_ms": BLOCK_MS, "rate": RATE, **tracks}

    def _run(self, start: float, samples: array[int]) -> dict[str, Any]:
        if sys.byteorder == "big":  # pragma: no cover - none of the machines that test this is one
            samples.byteswap()
        run: dict[str, Any] = {"start": round(start, 1), "levels": _base64(_levels(samples))}
        if self._playable:
            run["sound"] = _base64(_mu_law(samples))
        return run


def join(pieces: Iterable[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """Return the audio as few runs: pieces that follow each other are one, and silence between them is left out."""
    runs: list[tuple[float, bytearray]] = []
    for start, pcm in sorted(pieces, key=lambda piece: piece[0]):
        if not pcm or not _loud(pcm):
            continue
        if runs:
            first, sound = runs[-1]
            gap = start - (first + len(sound) / BYTES_PER_MS)
            if gap <= GAP_MS:
                sound += bytes(max(0, round(gap)) * BYTES_PER_MS) + pcm
                continue
        runs.append((start, bytearray(pcm)))
    return [(start, bytes(sound)) for start, sound in runs]


def _loud(pcm: bytes) -> bool:
    samples = array("h", _even(pcm))
    return bool(samples) and _peak(samples) > QUIET


def _peak(samples: array[int]) -> int:
    highest, lowest = max(samples), min(samples)
    return max(highest, -lowest)


def _even(pcm: bytes) -> bytes:
    return pcm if len(pcm) % 2 == 0 else pcm[:-1]


def _levels(samples: array[int]) -> bytes:
    size = RATE * BLOCK_MS // 1000
    blocks = (samples[at : at + size] for at in range(0, len(samples), size))
    return bytes(min(255, _peak(block) >> 7) for block in blocks)


def _mu_law(samples: array[int]) -> bytes:
    table = _table()
    return bytes([table[sample] for sample in samples])  # a negative index counts from the end, as in two's complement


@cache
def _table() -> bytes:
    return bytes(_encode(value if value < 32_768 else value - 65_536) for value in range(65_536))


def _encode(sample: int) -> int:
    """Return one sample as G.711 writes it."""
    magnitude = min(abs(sample), 32_635) + 132
    exponent = magnitude.bit_length() - 8
    return ~((0x80 if sample < 0 else 0) | exponent << 4 | (magnitude >> (exponent + 3) & 15)) & 0xFF


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
