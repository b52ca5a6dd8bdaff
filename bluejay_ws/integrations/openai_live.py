"""What a connection to OpenAI's live models says about a call: full duplex, without turns.

Both sides' words come in steps of about 200 ms with their place on the session's own timeline, and nothing says where
an utterance ends. Tools run in a delegation: the events of its responses come inside other events, and its own text is
not spoken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bluejay_ws.integrations.messages import number

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.hearing.utterances import Utterance
    from bluejay_ws.integrations.tap import Tap

GAP_MS = 1_000.0  # silence that ends an utterance
SENTENCE_GAP_MS = 500.0  # silence that ends it after a full stop
SWITCH_GAP_MS = 250.0  # silence that ends it when the other side has spoken in it


class Live:
    """The part of the tap that reads a live model's session."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._user, self._agent = _Words(), _Words()
        self._last = -1

    def heard(self, event: dict[str, Any]) -> None:
        """Take words of the caller's."""
        self._words(self._user, self._agent, event, self._tell_user)

    def spoke(self, event: dict[str, Any]) -> None:
        """Take words of the agent's."""
        self._words(self._agent, self._user, event, self._tell_agent)

    def finish(self) -> None:
        """Record what is being said."""
        self._tell_user(self._user)
        self._tell_agent(self._agent)

    def _words(self, words: _Words, other: _Words, event: dict[str, Any], tell: Callable[[_Words], None]) -> None:
        start, end = number(event.get("start_ms")), number(event.get("end_ms"))
        timed = start is not None
        if start is None or end is None:  # translations tell no times
            now = self._tap.input.position_ms or float(self._tap._now())  # noqa: SLF001
            start = now if start is None else start
            end = max(start, now) if end is None else end
        if words.ends_before(start, other if timed else None):
            tell(words)
            words.clear()
        if not words.text:
            words.begins = self._begins(start)
        words.add(event["delta"], start, end)
        if words.grown():
            tell(words)

    def _begins(self, position_ms: float) -> int:
        """Return when a position of the session's timeline was; what begins later in the session begins later here."""
        self._last = max(self._last + 1, self._at(position_ms))
        return self._last

    def _at(self, position_ms: float) -> int:
        at = self._tap.input.offset(position_ms)
        return round(position_ms if at is None else at)

    def _tell_user(self, words: _Words) -> None:
        self._tell(words, self._tap.recorder.user_said)

    def _tell_agent(self, words: _Words) -> None:
        self._tell(words, self._tap.recorder.agent_said)

    def _tell(self, words: _Words, say: Callable[..., Utterance]) -> None:
        text = words.text.strip()
        if not text or words.told == text:
            return
        words.told = text
        end = max(words.begins, self._at(words.end))
        if words.said is None:
            words.said = say(text, start_offset_ms=words.begins, end_offset_ms=end)
        else:
            words.said.lasts(ms=end - words.begins, text=text)


class _Words:
    """What one side is saying: its text, and where it stands on the session's timeline."""

    __slots__ = ("begins", "end", "next_told", "said", "start", "text", "told")

    def __init__(self) -> None:
        self.end = -1.0
        self.clear()

    def clear(self) -> None:
        self.text = self.told = ""
        self.start = -1.0
        self.begins = 0
        self.next_told = 0
        self.said: Utterance | None = None

    def ends_before(self, start: float, other: _Words | None) -> bool:
        """Return whether words that begin at ``start`` begin another utterance."""
        if not self.text:
            return False
        gap = start - self.end
        if gap >= GAP_MS or (gap >= SENTENCE_GAP_MS and self.text.rstrip()[-1:] in {".", "?", "!"}):
            return True
        return other is not None and gap >= SWITCH_GAP_MS and other.end > self.end and other.start >= self.end

    def add(self, piece: str, start: float, end: float) -> None:
        if not self.text:
            self.start = start
        self.text += piece
        self.end = max(self.end, end)

    def grown(self) -> bool:
        if len(self.text) < self.next_told:
            return False
        self.next_told = len(self.text) * 3 + 40
        return True


def _started(tap: Any, event: dict[str, Any]) -> None:
    session = event.get("session") or {}
    tap._model_is(session.get("model"))  # noqa: SLF001 - this is the same tap's other half
    form = (session.get("audio") or {}).get("format") or {}
    if type(form.get("rate")) is int:
        tap.input.bytes_per_ms = tap.output_bytes_per_ms = form["rate"] * 2 / 1_000
    responses = (session.get("delegation") or {}).get("responses") or {}
    tap.tools.describe(responses.get("tools"))


def _nested(tap: Any, event: dict[str, Any]) -> None:
    """Take the tools of a delegation's response. Its text goes to the model that speaks, not to the caller."""
    inner = event.get("event") or {}
    kind = inner.get("type")
    if kind in {"response.output_item.added", "response.output_item.done"}:
        item = inner.get("item") or {}
        if item.get("type") != "message":
            tap._item_in(item, event.get("delegation_id"))  # noqa: SLF001
    elif kind in {"response.completed", "response.failed", "response.incomplete"}:
        response = inner.get("response") or {}
        tap._add_usage(response.get("usage"))  # noqa: SLF001
        if kind != "response.completed":
            tap._note(f"Response {kind[9:]}", **_error_of(response))  # noqa: SLF001


def _error_of(response: dict[str, Any]) -> dict[str, Any]:
    error = response.get("error") or response.get("incomplete_details") or {}
    return {key: error[key] for key in ("code", "message", "reason") if error.get(key)}


def _live_usage(tap: Any, event: dict[str, Any]) -> None:
    usage = event.get("usage") or {}
    if type(usage.get("seconds")) in {int, float}:
        tap._usage["seconds"] = usage["seconds"]  # noqa: SLF001 - it counts the whole session


def _closed(tap: Any, event: dict[str, Any]) -> None:
    _live_usage(tap, event)
    tap._note("The model closed the session", reason=event.get("reason"))  # noqa: SLF001


LIVE_RECEIVED: dict[str, Callable[[Any, Any], None]] = {
    "session.started": _started,
    "session.input_transcript.delta": lambda tap, event: tap.live.heard(event),
    "session.output_transcript.delta": lambda tap, event: tap.live.spoke(event),
    "response.event": _nested,
    "session.usage.updated": _live_usage,
    "session.closed": _closed,
}
LIVE_OUTGOING: dict[str, Callable[[Any, Any], None]] = {
    "session.start": _started,
    "response.item.create": lambda tap, event: tap._item_sent(event),  # noqa: SLF001
}
LIVE_QUIET = frozenset({"session.input_audio.append", "session.output_audio.delta", "session.delegation.created"})
