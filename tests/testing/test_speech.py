"""`bluejay_ws.testing.speech`: what a caller says, from a file or from a text."""

from __future__ import annotations

import shutil
import struct
import sys
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.testing import speech
from bluejay_ws.testing.audio import split_utterances, tone, write_wav
from bluejay_ws.testing.speech import resample, speak, utterance_pcm

if TYPE_CHECKING:
    from pathlib import Path

FAKE = """\
import struct, sys, wave
assert sys.argv[3:5] == ["--stdout", "--"]
if sys.argv[2] == "unknown":
    sys.exit("no such voice")
with wave.open(sys.stdout.buffer, "wb") as wav:
    wav.setframerate(8000)
    wav.setnchannels(1)
    wav.setsampwidth(2)
    wav.writeframes(struct.pack("<800h", *range(800)))
"""


@pytest.fixture
def espeak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program in the place of espeak-ng that speaks a tenth of a second at 8,000 Hz."""
    program = tmp_path / "espeak-ng"
    program.write_text(f"#!{sys.executable}\n{FAKE}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    speak.cache_clear()


def test_pcm_stays_as_it_is_and_a_file_is_read(tmp_path: Path) -> None:
    """Bytes are samples, a path is a WAV file."""
    write_wav(tmp_path / "said.wav", tone(50))
    assert utterance_pcm(b"\0\1") == b"\0\1"
    assert utterance_pcm(tmp_path / "said.wav") == tone(50)


@pytest.mark.usefixtures("espeak")
def test_a_text_is_read_aloud_at_the_rate_of_the_wire() -> None:
    """Whatever the rate of the voice; a voice that is unknown is named."""
    pcm = utterance_pcm("Hello")
    assert len(pcm) == 2 * 1_599
    assert struct.unpack("<4h", pcm[:8]) == (0, 0, 1, 2)
    with pytest.raises(ValueError, match="with the voice 'unknown': no such voice"):
        speak("Hello", voice="unknown")


def test_without_espeak_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A text cannot be said then; a WAV file can."""
    monkeypatch.setenv("PATH", str(tmp_path))
    speak.cache_clear()
    with pytest.raises(FileNotFoundError, match="apt install espeak-ng"):
        utterance_pcm("Hello")


def test_samples_of_the_right_rate_are_left_alone() -> None:
    """So is what is too short to have a rate; a broken last sample is left out."""
    assert resample(b"\1\2\3", 16_000) == b"\1\2"
    assert resample(b"\1\2", 8_000) == b"\1\2"


@pytest.mark.skipif(not any(map(shutil.which, speech.PROGRAMS)), reason="espeak is not installed here")
def test_the_real_program_speaks() -> None:
    """About a second of real speech for a short sentence."""
    speak.cache_clear()
    (said,) = split_utterances(speak("Please freeze my card."))
    assert 500 < len(said) / 32 < 3_000


def test_a_name_of_a_file_is_not_read_aloud() -> None:
    """It was meant as a path."""
    with pytest.raises(ValueError, match=r"for the file give pathlib\.Path\('order\.wav'\)"):
        utterance_pcm("order.wav")
