"""How a span in which somebody was heard is shared out among the texts heard in it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.hearing.utterances import Utterance, shares
from tests.support import Span


def texts_in(span: Span, *texts: Any, at_ms: int = 50) -> list[Utterance]:
    """Return utterances that wait for one span."""
    return [Utterance(None, number, "AGENT", text, span=span, at_ms=at_ms) for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("span", "texts", "expected"),
    [
        (Span(100.0, 400.0), ["hello"], [(100, 400)]),
        (Span(100.9, 400.9), ["hello"], [(100, 400)]),
        (Span(0.0, 400.0), ["aaa", "b"], [(0, 300), (300, 400)]),
        (Span(100.0, None), ["hello"], [(100, 100)]),
        (Span(None, None), ["hello", "you"], [(50, 50), (50, 50)]),
        (Span(None, 80.0), ["hello"], [(50, 80)]),
        (Span(100.0, 90.0), ["hello"], [(100, 100)]),
        (Span(-20.0, 40.0), ["hello"], [(0, 40)]),
        (Span(0.0, 100.0), [{"redacted": True}, "abc"], [(0, 25), (25, 100)]),
    ],
)
def test_a_span_is_shared_by_the_lengths_of_its_texts(
    span: Span, texts: list[Any], expected: list[tuple[int, int]]
) -> None:
    """One text takes all of it; several follow each other; what has no begin or no end takes no time."""
    assert shares(span, texts_in(span, *texts)) == expected


@given(
    st.floats(-1e6, 1e9) | st.none(),
    st.floats(-1e6, 1e9) | st.none(),
    st.lists(st.text(min_size=1), min_size=1, max_size=20),
)
def test_shares_are_in_order_and_never_negative(start: float | None, end: float | None, texts: list[str]) -> None:
    """Whatever was heard, the parts lie end to end."""
    span = Span(start, end)
    found = shares(span, texts_in(span, *texts))
    assert len(found) == len(texts)
    assert all(0 <= begin <= stop for begin, stop in found)
    assert all(one[1] == other[0] for one, other in pairwise(found))


def test_texts_that_were_never_heard_stand_where_they_were_recorded() -> None:
    """An agent that says two things elsewhere, two seconds apart, said them two seconds apart."""
    span = Span(50.0, 50.0)
    assert shares(span, [*texts_in(span, "one", at_ms=50), *texts_in(span, "two", at_ms=2050)]) == [
        (50, 50),
        (2050, 2050),
    ]
