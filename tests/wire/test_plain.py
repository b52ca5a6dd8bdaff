"""The fast path: what is plain is encoded at once, what is not is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from bluejay_ws.wire.encode import DEPTH_LIMIT, plain_json
from tests.wire.hostile import ANYTHING, PLAIN, Odd, SubDict, SubStr, Word, strict


def nested(depth: int, leaf: object = 1) -> Any:
    """Return lists within each other."""
    value = leaf
    for _ in range(depth):
        value = [value]
    return value


@given(PLAIN)
def test_a_plain_value_is_encoded_as_it_is(value: Any) -> None:
    """What JSON can hold comes back equal, and tuples as lists."""
    data = plain_json(value, 1 << 20)
    assert data is not None
    assert strict(data) == value


@given(ANYTHING)
def test_what_takes_the_fast_path_is_strict_json(value: Any) -> None:
    """Whatever is let through is within its limit and strict JSON."""
    data = plain_json(value, 1000)
    assert data is None or (len(data) <= 1000 and strict(data) is not Ellipsis)


@pytest.mark.parametrize(
    "value",
    [
        "text",
        1,
        1.5,
        None,
        True,
        [],
        {},
        (),
        {"a": 1, "b": 2.0, "c": None, "d": False, "e": "x", "f": {"g": ["h", 1, 1.5, None, True, (), {}]}},
        list(range(1000)),
        ["x"] * 1000,
        [{"id": number, "name": "row"} for number in range(1000)],
        "back\\slash",
        nested(DEPTH_LIMIT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_usual_values_take_the_fast_path(value: Any) -> None:
    """Long lists and rows of records are plain too."""
    data = plain_json(value, 1 << 20)
    assert data is not None
    assert strict(data) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        {"a": float("inf")},
        [float("-inf")],
        10**18,
        {"a": -(10**18)},
        [10**400],
        {1: 2},
        {SubStr("a"): 1},
        {Word.YES: 1},
        SubStr("a"),
        SubDict(),
        {"a": SubDict()},
        [{1}],
        b"bytes",
        Odd(),
        {"a": Odd()},
        [[Odd()]],
        (number for number in [1]),
        "\0",
        "\ud800",
        {"\ud800": 1},
        nested(DEPTH_LIMIT + 1),
        {"a": nested(DEPTH_LIMIT)},
        nested(DEPTH_LIMIT, {}),
        {"a": {"b": [{1: 2}]}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_refused(value: object) -> None:
    """What is not plain, or has a number, a text or a depth that JSON's readers may not take, goes the careful way."""
    assert plain_json(value, 1 << 20) is None


@pytest.mark.parametrize(
    "value",
    ["x" * 100, ["x" * 100], {"x" * 100: 1}, {"a": "x" * 100}, [1] * 100, {str(n): n for n in range(100)}, "\n" * 60],
    ids=["text", "element", "key", "member", "list", "dict", "escapes"],
)
def test_what_is_over_the_limit_is_refused(value: object) -> None:
    """A value over the limit is refused; one within is not."""
    assert plain_json(value, 100) is None
    assert plain_json(value, 2000) is not None


def test_a_value_that_grows_by_sharing_is_refused_soon() -> None:
    """A list that holds a list twice, that holds a list twice, and so on, is not walked 2**60 times."""
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    assert plain_json(value, 1 << 18) is None


def test_a_cycle_is_refused() -> None:
    """A value that holds itself is too deep for the fast path."""
    value: list[Any] = []
    value.append(value)
    assert plain_json(value, 1 << 18) is None
