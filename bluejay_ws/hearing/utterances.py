"""Where an utterance without offsets stands: in the span in which its audio was heard."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any, Literal, Protocol, TypeAlias

__all__ = ["Heard", "HeardSpan", "Speaker", "Unplaced", "shares"]

Speaker: TypeAlias = Literal["AGENT", "USER"]


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


class Unplaced:
    """An utterance whose text is known and whose time is still being heard."""

    __slots__ = ("at_ms", "filler", "number", "span", "speaker", "text")

    def __init__(
        self, number: int, speaker: Speaker, text: Any, *, filler: bool | None, span: HeardSpan, at_ms: int
    ) -> None:
        self.number = number
        self.speaker: Speaker = speaker
        self.text: Any = text
        self.filler = filler
        self.span = span
        self.at_ms = at_ms


def shares(span: HeardSpan, texts: list[Unplaced]) -> list[tuple[int, int]]:
    """Split a span among the texts heard in it, by their lengths.

    A span that never began starts where the first text was recorded; one without end has no length. A span that ends
    where it begins was never heard: each of its texts stands where it was recorded.

    Returns:
        For each text its start and end in whole milliseconds; ``0 <= start <= end``.
    """
    if span.start_ms is not None and span.start_ms == span.end_ms:
        return [(one.at_ms, one.at_ms) for one in texts]
    start = max(0.0, float(texts[0].at_ms) if span.start_ms is None else span.start_ms)
    length = max(0.0, (start if span.end_ms is None else span.end_ms) - start)
    weights = [len(one.text) if isinstance(one.text, str) else 1 for one in texts]  # a redaction may leave no text
    said = accumulate(weights, initial=0)
    bounds = [int(start + length * before / sum(weights)) for before in said]
    return list(pairwise(bounds))
