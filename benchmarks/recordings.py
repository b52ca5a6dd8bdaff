"""Recorded sessions of providers, where there are some: the environment's ``BLUEJAY_RECORDINGS`` names their directory.

One file for each session, one JSON object a line: ``direction``, ``event`` and perhaps ``at_ms``. Audio is replaced by
an object with its size, where that is known.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluejay_ws.integrations.elevenlabs import ElevenLabsTap
from bluejay_ws.integrations.gemini_live import GeminiLiveTap
from bluejay_ws.integrations.openai_realtime import OpenAIRealtimeTap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bluejay_ws.integrations.tap import Tap

__all__ = ["DIRECTORY", "names", "recorded", "tap_of"]

DIRECTORY = Path(os.environ.get("BLUEJAY_RECORDINGS") or "/nowhere")
_TAPS: dict[str, type[Tap]] = {
    **dict.fromkeys(("openai", "azure", "xai"), OpenAIRealtimeTap),
    "gemini": GeminiLiveTap,
    "elevenlabs": ElevenLabsTap,
}


def names() -> list[str]:
    """Return the names of all sessions whose provider has a tap here; none without a directory."""
    found = sorted(path.stem for path in DIRECTORY.glob("*.jsonl"))
    return [name for name in found if name.partition("-")[0] in _TAPS]


def tap_of(name: str) -> type[Tap]:
    """Return the tap that reads a session."""
    return _TAPS[name.partition("-")[0]]


def recorded(name: str) -> Iterator[tuple[float | None, str, Any]]:
    """Return the lines of a session: when, ``sent`` or ``received``, and the event with audio in it."""
    for line in (DIRECTORY / f"{name}.jsonl").read_text("utf-8").splitlines():
        one = json.loads(line)
        narrow = name.startswith("elevenlabs") or (name.startswith("gemini") and one["direction"] == "sent")
        yield one["at_ms"], one["direction"], _with_audio(one["event"], 16_000 if narrow else 24_000)


def _with_audio(value: Any, rate: int) -> Any:
    """Return an event with audio in place of what says that there was some."""
    if isinstance(value, list):
        return [_with_audio(one, rate) for one in value]
    if not isinstance(value, dict):
        return value
    if "audio_bytes" not in value:
        return {key: _with_audio(one, rate) for key, one in value.items()}
    samples = (value["audio_bytes"] or rate // 10 * 2) // 2
    return base64.b64encode((b"\x00\x00" if value.get("head") == "zero" else b"\x00\x10") * samples).decode()
