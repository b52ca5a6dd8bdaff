"""`bluejay_ws.testing.protocols`: text frames as the caller writes and checks them."""

from __future__ import annotations

import json
import uuid

import pytest

from bluejay_ws.testing.protocols import FrameError, check_audio, parse_text, text_frame


def test_a_text_frame_carries_type_id_time_and_data() -> None:
    """A frame has the four fields of the protocol, the id being a UUID."""
    frame = json.loads(text_frame("mark", name="é"))
    assert str(uuid.UUID(frame["id"])) == frame["id"]
    assert frame["ts_ms"] > 1_700_000_000_000
    assert (frame["type"], frame["data"]) == ("mark", {"name": "é"})


def test_what_is_written_is_accepted() -> None:
    """Every type of the protocol reads back."""
    for frame_type, data in {
        "speech.started": {"utterance_id": "u"},
        "speech.completed": {"utterance_id": "u"},
        "mark": {"name": "m"},
        "session.error": {"code": "INTERNAL_ERROR"},
    }.items():
        assert parse_text(text_frame(frame_type, **data)) == (frame_type, data)


def test_id_and_time_may_be_missing() -> None:
    """The caller fills them in itself, so their absence is no error."""
    assert parse_text('{"type": "mark", "data": {"name": "m"}}') == ("mark", {"name": "m"})


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nonsense", "INVALID_MESSAGE"),
        ("[" * 100_000, "INVALID_MESSAGE"),
        ("[]", "INVALID_MESSAGE"),
        ("{}", "MISSING_FIELD"),
        ('{"type": 7}', "INVALID_MESSAGE"),
        ('{"type": "speech.paused", "data": {}}', "INVALID_MESSAGE"),
        ('{"type": "mark"}', "MISSING_FIELD"),
        ('{"type": "mark", "data": {}}', "MISSING_FIELD"),
        ('{"type": "speech.started", "data": {"utterance_id": 7}}', "MISSING_FIELD"),
    ],
)
def test_a_bad_text_frame_is_refused_with_its_code(text: str, code: str) -> None:
    """Each way of being wrong has the protocol's code, and says so in one line."""
    with pytest.raises(FrameError) as caught:
        parse_text(text)
    assert caught.value.code == code
    assert str(caught.value) == f"{code}: {caught.value.message}"


@pytest.mark.parametrize("frame", [b"", b"\0", bytes(641)])
def test_audio_of_half_samples_is_refused(frame: bytes) -> None:
    """Empty and odd frames are invalid; any even length is allowed."""
    with pytest.raises(FrameError, match="INVALID_AUDIO_FRAME"):
        check_audio(frame)
    check_audio(bytes(2))
