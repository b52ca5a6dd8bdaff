"""Record realtime sessions of the OpenAI Agents SDK: a listener on the session's model. Imports no SDK.

::

    async with await runner.run() as session, observe(session):
        ...  # pass audio on, both ways

What the server's events say is in ``bluejay_ws.integrations.openai_realtime``. Leave ``@record_tool`` off the tools
of such an agent: they are recorded from the events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from bluejay_ws.current import current_recorder
from bluejay_ws.integrations.openai_realtime import OpenAIRealtimeTap

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.recorder import Recorder

__all__ = ["ModelListener", "observe"]


def observe(session: Any, recorder: Recorder | None = None, *, bytes_per_ms: float = 48.0) -> ModelListener:
    """Record what a realtime session's model is told and says; use it with ``with`` or ``async with``.

    Leaving it records what is still being said; the end of the call does so too.

    Args:
        session: a ``RealtimeSession``; its model must pass on the server's raw events, as OpenAI's does.
        recorder: default the current call's; outside a simulation nothing is recorded.
        bytes_per_ms: of the model's audio: 48 for PCM at 24,000 Hz, 8 for G.711.
    """
    listener = ModelListener(recorder or current_recorder(), session.model, bytes_per_ms=bytes_per_ms)
    if listener.active:
        session.model.add_listener(listener)
    return listener


class ModelListener:
    """What `observe` puts on the model: never raises, never changes an event."""

    def __init__(self, recorder: Recorder, model: Any, *, bytes_per_ms: float) -> None:
        self._recorder = recorder
        self._model = model
        self.active = recorder.active
        self._tap = OpenAIRealtimeTap(recorder, bytes_per_ms=bytes_per_ms)

    async def on_event(self, event: Any) -> None:
        """Take note of an event; called by the SDK."""
        if getattr(event, "type", None) == "raw_server_event" and isinstance(event.data, dict):
            self._guarded(self._tap.event, event.data)

    def close(self) -> None:
        """Record what is still being said, and listen no more. Twice is once."""
        self._guarded(self._tap.close)
        self._guarded(self._model.remove_listener, self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _guarded(self, action: Callable[..., None], *args: Any) -> None:
        try:
            action(*args)
        except Exception as error:  # noqa: BLE001 - no error of ours reaches the session
            self._recorder.failed("model_event", error)
