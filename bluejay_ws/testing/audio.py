"""PCM as it crosses the wire: 16,000 Hz, mono, signed 16 bit little-endian; 32 bytes are one millisecond."""

from __future__ import annotations

import functools
import math
import random
import shlex
import struct
import wave
from array import array
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence


SAMPLE_RATE = 16_000
BYTES_PER_MS = 32
FRAME_BYTES = 640  # 20 ms


def read_wav(path: str | os.PathLike[str]) -> bytes:
    """Return the samples of a WAV file that already has the wire's format.

    Raises:
        ValueError: it is not a WAV file, or has another rate, width or number of channels; the
            message says how to convert it.
        OSError: the file cannot be read.
    """
    try:
        with wave.open(str(path), "rb") as wav:
            found = (wav.getframerate(), wav.getnchannels(), wav.getsampwidth())
            pcm = wav.readframes(wav.getnframes())
    except (wave.Error, EOFError) as error:
        reason = f"{str(path)!r} is not a PCM WAV file ({str(error) or 'it ends too early'})"
        raise ValueError(f"{reason}: {_conversion(path)}") from error
    if found != (SAMPLE_RATE, 1, 2):
        rate, channels, width = found
        has = f"{str(path)!r} has {rate} Hz, {channels} channel(s), {8 * width} bit"
        raise ValueError(f"{has}; 16000 Hz, mono, 16 bit is needed: {_conversion(path)}")
    if not pcm:
        raise ValueError(f"{str(path)!r} holds no sound")
    return pcm


def _conversion(path: str | os.PathLike[str]) -> str:
    return f"ffmpeg -i {shlex.quote(str(path))} -ar 16000 -ac 1 -c:a pcm_s16le converted.wav"


def write_wav(path: str | os.PathLike[str], pcm: bytes) -> None:
    """Write samples of the wire's format as a WAV file."""
    with wave.open(str(path), "wb") as wav:
        wav.setframerate(SAMPLE_RATE)
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.writeframes(pcm)


def caller_pcm() -> bytes:
    """Return the shipped caller: "Hi, I lost my card. It ends in four two four two." ... "Yes, please freeze it."."""
    with as_file(files("bluejay_ws.testing") / "assets" / "caller.wav") as path:
        return read_wav(path)


def silence(duration_ms: float) -> bytes:
    """Return that much silence, in whole samples."""
    return bytes(2 * _samples(duration_ms))


def tone(duration_ms: float, *, hertz: float = 440.0, volume: float = 0.3) -> bytes:
    """Return a sine tone.

    Args:
        duration_ms: how long.
        hertz: how high.
        volume: from 0.0 (silence) to 1.0 (full scale).
    """
    step = 2 * math.pi * hertz / SAMPLE_RATE
    peak = 32_767 * volume
    samples = [round(peak * math.sin(step * index)) for index in range(_samples(duration_ms))]
    return struct.pack(f"<{len(samples)}h", *samples)


def hold_noise(duration_ms: float, *, rms: float = 100.0, seed: int = 0) -> bytes:
    """Return what a caller's line carries while nobody speaks: quiet noise, the same for the same ``seed``.

    Args:
        duration_ms: how long.
        rms: root mean square of the samples; Bluejay's lies between 60 and 150.
        seed: another number is other noise.
    """
    return _as_long_as(_second_of_noise(rms, seed), duration_ms)


def voice(duration_ms: float, *, rms: float = 2_000.0, hertz: int = 140) -> bytes:
    """Return something as uneven as a voice: a buzz in syllables of a quarter of a second, loud from its first sample.

    Args:
        duration_ms: how long.
        rms: root mean square of the whole; 300 is a quiet voice.
        hertz: pitch; a whole number, so that one second is like the next.
    """
    return _as_long_as(_first_second_of_voice(min(_samples(duration_ms), SAMPLE_RATE), rms, hertz), duration_ms)


def mulaw(pcm: bytes) -> bytes:
    """Return 16 bit samples as telephones code them: one byte of mu-law each (ITU-T G.711), at the same rate."""
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    return bytes(map(_mulaw_table().__getitem__, samples))  # negative samples count from its end


def frames(pcm: bytes, size: int = FRAME_BYTES) -> Iterator[bytes]:
    """Yield the samples in frames of ``size`` bytes; the last one is filled up with silence."""
    for start in range(0, len(pcm), size):
        yield pcm[start : start + size].ljust(size, b"\0")


def split_utterances(pcm: bytes, *, pause_ms: float = 500.0, loudness: float = 0.01) -> list[bytes]:
    """Cut samples into what was said, at the pauses, by energy alone.

    Args:
        pcm: samples of the wire's format.
        pause_ms: a quieter stretch at least this long separates two utterances.
        loudness: root mean square, from 0.0 to 1.0, from which a 20 ms frame counts as speech.

    Returns:
        The utterances without the silence round them; an empty list when all of it is quiet.
    """
    pieces: list[list[bytes]] = []
    quiet: list[bytes] = []
    pause_frames = max(1, round(pause_ms * BYTES_PER_MS / FRAME_BYTES))
    for frame in frames(pcm):
        if _loudness(frame) < loudness:
            quiet.append(frame)
            continue
        if not pieces or len(quiet) >= pause_frames:
            pieces.append([])
        else:
            pieces[-1] += quiet
        pieces[-1].append(frame)
        quiet = []
    return [b"".join(piece) for piece in pieces]


@functools.lru_cache(maxsize=8)  # each call of many wants it
def _second_of_noise(rms: float, seed: int) -> bytes:
    return struct.pack(f"<{SAMPLE_RATE}h", *map(round, map(float(rms).__mul__, _random_second(seed))))


@functools.lru_cache(maxsize=2)  # the same for each loudness
def _random_second(seed: int) -> array[float]:
    source = random.Random(seed)  # noqa: S311 - noise, not a secret
    return array("d", (source.gauss(0.0, 1.0) for _ in range(SAMPLE_RATE)))


@functools.lru_cache(maxsize=8)
def _first_second_of_voice(samples: int, rms: float, hertz: int) -> bytes:
    shape = [_syllable(index, hertz) for index in range(samples)]
    power = math.sqrt(sum(sample * sample for sample in shape) / len(shape)) if shape else 1.0
    limited = (max(-32_768, min(32_767, round(sample * rms / power))) for sample in shape)
    return struct.pack(f"<{samples}h", *limited)


def _syllable(index: int, hertz: int) -> float:
    phase = math.tau * hertz * index / SAMPLE_RATE
    loudness = 0.65 + 0.35 * math.cos(math.tau * 4 * index / SAMPLE_RATE)
    return loudness * (math.sin(phase + 0.5) + 0.5 * math.sin(2 * phase) + 0.3 * math.sin(3 * phase + 1.0))


def _as_long_as(second: bytes, duration_ms: float) -> bytes:
    size = 2 * _samples(duration_ms)
    return (second * (size // len(second) + 1))[:size] if second else b""


@functools.lru_cache(maxsize=1)
def _mulaw_table() -> bytes:
    return bytes(map(_mulaw_byte, (*range(32_768), *range(-32_768, 0))))


def _mulaw_byte(sample: int) -> int:
    magnitude = min(abs(sample), 32_635) + 132
    exponent = magnitude.bit_length() - 8
    return ~((sample < 0) << 7 | exponent << 4 | magnitude >> exponent + 3 & 15) & 0xFF


def _samples(duration_ms: float) -> int:
    return round(duration_ms * SAMPLE_RATE / 1000)


def _loudness(frame: bytes) -> float:
    samples = struct.unpack(f"<{len(frame) // 2}h", frame)
    return math.sqrt(sum(sample * sample for sample in samples) / len(samples)) / 32_768


# -- how telephone carriers code it --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Coding:
    """One way to code audio: ``mulaw`` (ITU-T G.711, a byte for a sample) or ``l16`` (two, little-endian)."""

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
