"""`bluejay_ws.testing.audio`: PCM of the wire's format, from files and made up."""

from __future__ import annotations

import math
import struct
import wave
from typing import TYPE_CHECKING

import pytest

from bluejay_ws.testing.audio import (
    FRAME_BYTES,
    caller_pcm,
    frames,
    hold_noise,
    mulaw,
    read_wav,
    silence,
    split_utterances,
    tone,
    voice,
    write_wav,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_a_written_wav_reads_back_sample_for_sample(tmp_path: Path) -> None:
    """Writing and reading a WAV file loses nothing."""
    pcm = tone(50)
    write_wav(tmp_path / "tone.wav", pcm)
    assert read_wav(tmp_path / "tone.wav") == pcm


@pytest.mark.parametrize(("rate", "channels", "width"), [(8_000, 1, 2), (16_000, 2, 2), (16_000, 1, 1)])
def test_a_wav_of_another_format_is_refused_with_the_way_to_convert_it(
    tmp_path: Path, rate: int, channels: int, width: int
) -> None:
    """The error names what was found and a command that helps."""
    path = tmp_path / "other.wav"
    with wave.open(str(path), "wb") as wav:
        wav.setframerate(rate)
        wav.setnchannels(channels)
        wav.setsampwidth(width)
        wav.writeframes(bytes(64))
    with pytest.raises(ValueError, match=rf"{rate} Hz, {channels} channel.*{8 * width} bit.*ffmpeg -i .* -ar 16000"):
        read_wav(path)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"ID3 this is an MP3, or so"])
def test_a_file_that_is_no_wav_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    """Truncated and foreign files give the same kind of error."""
    path = tmp_path / "song.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"song\.wav' is not a PCM WAV file .*: ffmpeg -i"):
        read_wav(path)


def test_a_wav_without_a_sample_is_refused(tmp_path: Path) -> None:
    """Nobody would hear it, and the call would wait for an answer."""
    write_wav(tmp_path / "empty.wav", b"")
    with pytest.raises(ValueError, match="holds no sound"):
        read_wav(tmp_path / "empty.wav")


def test_the_shipped_caller_says_two_things() -> None:
    """The asset splits into its two sentences, at the pause between them and at no other."""
    first, second = split_utterances(caller_pcm())
    assert 2_500 < len(first) / 32 < 4_500
    assert 800 < len(second) / 32 < 2_000


def test_frames_are_full_and_the_last_is_filled_with_silence() -> None:
    """No frame is short, and no sample is lost."""
    pcm = tone(50)  # two frames and a half
    pieces = list(frames(pcm))
    assert [len(piece) for piece in pieces] == [FRAME_BYTES] * 3
    assert b"".join(pieces) == pcm + bytes(FRAME_BYTES // 2)


def test_silence_and_tones_last_as_long_as_asked() -> None:
    """32 bytes are one millisecond; silence is zero and a tone reaches its volume."""
    assert silence(12.5) == bytes(400)
    samples = struct.unpack("<1600h", tone(100, hertz=400, volume=0.5))
    assert max(samples) == round(32_767 * 0.5)


def test_short_pauses_stay_inside_an_utterance_and_long_ones_divide() -> None:
    """Only a pause of the given length separates; silence round an utterance is left out."""
    sound = tone(100)
    pcm = silence(300) + sound + silence(200) + sound + silence(600) + sound + silence(900)
    assert split_utterances(pcm, pause_ms=500) == [sound + silence(200) + sound, sound]


def test_nothing_but_silence_holds_no_utterance() -> None:
    """Quiet audio gives an empty list, not an empty utterance."""
    assert split_utterances(silence(1_000)) == []
    assert split_utterances(b"") == []


def loudness(pcm: bytes) -> float:
    """Return the root mean square of the samples."""
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    return math.sqrt(sum(sample * sample for sample in samples) / len(samples))


@pytest.mark.parametrize("rms", [60.0, 100.0, 150.0])
def test_hold_noise_has_the_loudness_asked_for(rms: float) -> None:
    """It is noise, the same for the same seed, and of none it is digital silence."""
    assert loudness(hold_noise(2_000, rms=rms)) == pytest.approx(rms, rel=0.05)
    assert hold_noise(100, rms=rms) == hold_noise(100, rms=rms) != hold_noise(100, rms=rms, seed=1)
    assert hold_noise(20, rms=0) == silence(20)


@pytest.mark.parametrize("rms", [300.0, 2_000.0, 40_000.0])
def test_a_voice_is_loud_from_its_first_frame_to_its_last(rms: float) -> None:
    """Its loudness changes by syllables and never falls to silence; what is too loud is cut and not wrapped."""
    pcm = voice(500, rms=rms)
    assert loudness(pcm) == pytest.approx(rms, rel=0.02) or rms > 10_000
    assert all(loudness(frame) > min(rms, 10_000) / 3 for frame in frames(pcm))
    assert voice(0) == b""


@pytest.mark.parametrize(
    ("sample", "byte"),
    [(0, 0xFF), (-1, 0x7F), (4, 0xFE), (132, 0xEF), (-132, 0x6F), (1_000, 0xCE), (32_635, 0x80), (-32_768, 0x00)],
)
def test_mu_law_is_the_standard_s(sample: int, byte: int) -> None:
    """One byte for each sample; what is too loud for it is as loud as it can be."""
    assert mulaw(struct.pack("<h", sample)) == bytes([byte])
