"""What a caller says, from a WAV file or from a text that espeak reads aloud."""

from __future__ import annotations

import functools
import io
import os
import shutil
import struct
import subprocess
import wave
from pathlib import Path

from bluejay_ws.testing.audio import SAMPLE_RATE, read_wav

__all__ = ["Utterance", "speak", "utterance_pcm"]

Utterance = bytes | str | os.PathLike[str]
"""PCM, a text to be read aloud, or the path of a WAV file (a `pathlib.Path`)."""

PROGRAMS = ("espeak-ng", "espeak")
SECONDS = 30.0


def utterance_pcm(utterance: Utterance, *, voice: str = "en-us") -> bytes:
    """Return the samples of one utterance: 16,000 Hz, mono, signed 16 bit.

    Args:
        utterance: PCM as it is, a text for `speak`, or a `pathlib.Path` to a WAV file.
        voice: for a text.

    Raises:
        OSError: the file cannot be read, or neither espeak-ng nor espeak is installed.
        ValueError: the file is no WAV file of the right format, the voice is unknown, or a text is a file's name.
    """
    if isinstance(utterance, bytes):
        return utterance
    if not isinstance(utterance, str):
        return read_wav(Path(utterance))
    if utterance.endswith(".wav"):
        raise ValueError(f"{utterance!r} would be read aloud; for the file give pathlib.Path({utterance!r})")
    return speak(utterance, voice=voice)


@functools.lru_cache(maxsize=256)
def speak(text: str, *, voice: str = "en-us") -> bytes:
    """Return a text read aloud by espeak-ng, or by espeak.

    Args:
        text: what to say.
        voice: one that ``espeak-ng --voices`` lists, such as ``en-us`` or ``de``.

    Raises:
        OSError: neither program is installed.
        ValueError: the program refused the voice or the text.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise FileNotFoundError(
            "a text needs espeak-ng to be read aloud: apt install espeak-ng, brew install espeak-ng"
        )
    done = subprocess.run(  # noqa: S603 - the program was looked up, and the text is one argument
        [program, "-v", voice, "--stdout", "--", text], capture_output=True, check=False, timeout=SECONDS
    )
    try:
        with wave.open(io.BytesIO(done.stdout), "rb") as wav:
            rate, pcm = wav.getframerate(), wav.readframes(wav.getnframes())
    except (wave.Error, EOFError):
        words = done.stderr.decode("utf-8", "replace").strip() or "it returned no audio"
        raise ValueError(f"espeak cannot say this with the voice {voice!r}: {words}") from None
    return resample(pcm, rate)


def resample(pcm: bytes, rate: int) -> bytes:
    """Return mono 16-bit samples of another rate at 16,000 Hz, by drawing lines between the samples."""
    count = len(pcm) // 2
    samples = struct.unpack(f"<{count}h", pcm[: 2 * count])
    if rate == SAMPLE_RATE or count < 2:
        return pcm[: 2 * count]
    step = rate / SAMPLE_RATE
    places = (index * step for index in range(int((count - 1) / step) + 1))
    drawn = (_between(samples, place) for place in places)
    return b"".join(struct.pack("<h", value) for value in drawn)


def _between(samples: tuple[int, ...], place: float) -> int:
    left = int(place)
    right = min(left + 1, len(samples) - 1)
    return round(samples[left] + (samples[right] - samples[left]) * (place - left))
