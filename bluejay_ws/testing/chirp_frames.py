"""CHIRP's text frames, written and checked by the caller's own rules."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

SPEECH = frozenset({"speech.started", "speech.completed"})
REQUIRED = dict.fromkeys(SPEECH, "utterance_id") | {"mark": "name", "session.error": "code"}


class FrameError(Exception):
    """Say why a frame is dropped, as `session.error` puts it.

    Args:
        code: ``INVALID_MESSAGE``, ``MISSING_FIELD`` or ``INVALID_AUDIO_FRAME``.
        message: one sentence for a person.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def text_frame(frame_type: str, **data: Any) -> str:
    """Return one text frame with a fresh ``id`` and the present ``ts_ms``."""
    frame = {"type": frame_type, "id": str(uuid.uuid4()), "ts_ms": time.time_ns() // 1_000_000, "data": data}
    return json.dumps(frame, ensure_ascii=False)


def parse_text(text: str) -> tuple[str, dict[str, Any]]:
    """Return the type and the data of a text frame. ``id`` and ``ts_ms`` may be missing.

    Raises:
        FrameError: the frame is not one of CHIRP's, or lacks the field its type needs.
    """
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        raise FrameError("INVALID_MESSAGE", "the text frame is not JSON") from None
    if not isinstance(frame, dict):
        raise FrameError("INVALID_MESSAGE", "the text frame is not an object")
    if "type" not in frame:
        raise FrameError("MISSING_FIELD", "the text frame has no type")
    frame_type, data = frame["type"], frame.get("data")
    if not isinstance(frame_type, str) or frame_type not in REQUIRED:
        raise FrameError("INVALID_MESSAGE", "the text frame's type is unknown")
    needed = REQUIRED[frame_type]
    if not isinstance(data, dict) or not isinstance(data.get(needed), str):
        raise FrameError("MISSING_FIELD", f"{frame_type} needs data.{needed}")
    return frame_type, data


def check_audio(frame: bytes) -> None:
    """Accept whole samples only.

    Raises:
        FrameError: the frame is empty or ends in half a sample.
    """
    if not frame or len(frame) % 2:
        raise FrameError("INVALID_AUDIO_FRAME", f"{len(frame)} bytes are not a whole number of samples")
