"""What was said, as long as it may still be corrected, and where it stands: in the span in which it was heard."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any, Literal, Protocol, TypeAlias

__all__ = ["CUT_MARK", "NOTHING", "Heard", "HeardSpan", "Speaker", "Utterance", "cut_text", "shares"]

Speaker: TypeAlias = Literal["AGENT", "USER"]

CUT_MARK = "…"
"""What stands at the end of a text of which only the beginning was heard."""


class HeardSpan(Protocol):
    """A stretch in which one side was heard; None where it has not begun or not ended yet."""

    start_ms: float | None
    end_ms: float | None


class Heard(Protocol):
    """Who was heard when: what a recorder asks when text comes without offsets."""

    def agent_utterance(self, at_ms: float) -> HeardSpan:
        """Return the span in which the agent's text recorded now was, is or will be heard."""
        ...

    def user_utterance(self, at_ms: float) -> HeardSpan:
        """Return the span in which the user's text recorded now was heard."""
        ...

    def interruption(self, at_ms: float, by: str, source: str) -> None:
        """Learn of an interruption from a provider or a framework."""

    def user_audio(self, frame: bytes | bytearray | memoryview, at_ms: float) -> None:
        """Hear a frame of the caller's."""

    def agent_audio(self, frame: bytes | bytearray | memoryview, at_ms: float) -> None:
        """Hear a frame of the agent's."""


class Keeper(Protocol):
    """What an utterance needs of its recorder; none of these raises."""

    def _correct(self, utterance: Utterance, text: str, /) -> None: ...

    def _cut(self, utterance: Utterance, ms: float, /) -> None: ...

    def _last(self, utterance: Utterance, ms: float, /) -> None: ...

    def _withdraw(self, utterance: Utterance, reason: str, /) -> None: ...


class Utterance:
    """One recorded utterance. It can be changed until its call ends; afterwards a change is ignored and counted.

    `Recorder.agent_said`, `Recorder.user_said` and `Recorder.add_utterance` return it. Keep it only if what
    was said may still change: it needs no closing. Outside a simulation it takes everything and keeps nothing.
    """

    __slots__ = (
        "_at_ms", "_audio_ms", "_end_ms", "_filler", "_heard_ms", "_number", "_recorder", "_span", "_speaker",
        "_start_ms", "_words",
    )  # fmt: skip

    def __init__(
        self,
        recorder: Keeper | None,
        number: int,
        speaker: Speaker,
        words: Any,
        *,
        at_ms: int = 0,
        filler: bool | None = None,
        audio_ms: float | None = None,
        span: HeardSpan | None = None,
    ) -> None:
        self._recorder = recorder
        self._number = number
        self._speaker: Speaker = speaker
        self._words: Any = words
        self._at_ms = at_ms
        self._filler = filler
        self._audio_ms = audio_ms
        self._span = span
        self._start_ms: int | None = None
        self._end_ms: int | None = None
        self._heard_ms: float | None = None

    def __repr__(self) -> str:
        return f"<Utterance of the {'agent' if self._speaker == 'AGENT' else 'user'}>"

    @property
    def text(self) -> Any:
        """The words as the report has them. Set it to correct them; an empty text withdraws the utterance."""
        return self._words

    @text.setter
    def text(self, text: str) -> None:
        if self._recorder is not None:
            self._recorder._correct(self, text)  # noqa: SLF001 - an utterance is its recorder's other half

    def heard(self, *, ms: float) -> None:
        """Say that only the first ``ms`` milliseconds of its audio were heard.

        The text is cut in proportion, to the end of the word, and ends in ``…``. What lasts no longer than ``ms``
        is not changed; with 0 the utterance was never heard, which is `never_spoken`.
        """
        if self._recorder is not None:
            self._recorder._cut(self, ms)  # noqa: SLF001

    def lasts(self, *, ms: float) -> None:
        """Say how long its audio is, once that is known: where it has a start of its own, its end follows from it."""
        if self._recorder is not None:
            self._recorder._last(self, ms)  # noqa: SLF001

    def never_spoken(self) -> None:
        """Take the utterance out of the report: nobody heard it. Counted as ``dropped.never_spoken``."""
        if self._recorder is not None:
            self._recorder._withdraw(self, "never_spoken")  # noqa: SLF001

    def withdraw(self) -> None:
        """Take the utterance out of the report: it was recorded in error. Counted as ``dropped.withdrawn``."""
        if self._recorder is not None:
            self._recorder._withdraw(self, "withdrawn")  # noqa: SLF001


NOTHING = Utterance(None, 0, "AGENT", "")
"""What is returned where nothing was recorded: it takes everything and keeps nothing."""


def cut_text(text: str, share: float) -> str:
    """Return the first ``share`` of a text (0 to 1), to the end of the word, with the mark of a cut; "" for none."""
    length = int(len(text) * share)
    if length >= len(text):
        return text
    kept = (text[:length] + text[length:].partition(" ")[0]).rstrip()
    return kept if kept == text.rstrip() or not kept or share <= 0 else kept + CUT_MARK


def shares(span: HeardSpan, texts: list[Utterance]) -> list[tuple[int, int]]:
    """Split a span among the texts heard in it, by their lengths.

    A span that never began starts where the first text was recorded; one without end has no length. A span that ends
    where it begins was never heard: each of its texts stands where it was recorded.

    Returns:
        For each text its start and end in whole milliseconds; ``0 <= start <= end``.
    """
    if span.start_ms is not None and span.start_ms == span.end_ms:
        return [(one._at_ms, one._at_ms) for one in texts]  # noqa: SLF001
    start = max(0.0, float(texts[0]._at_ms) if span.start_ms is None else span.start_ms)  # noqa: SLF001
    length = max(0.0, (start if span.end_ms is None else span.end_ms) - start)
    weights = [len(one.text) if isinstance(one.text, str) else 1 for one in texts]  # a redaction may leave no text
    said = accumulate(weights, initial=0)
    bounds = [int(start + length * before / sum(weights)) for before in said]
    return list(pairwise(bounds))
