"""Any Python value as strict JSON, within its limit, and nothing raised."""

from __future__ import annotations

import threading
import tracemalloc
from collections import UserDict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.wire.encode import ITEM_LIMIT, Encoded, cut_json, cut_text, encode
from tests.wire.hostile import ANYTHING, PLAIN, TEXTS, Odd, strict, trap

if TYPE_CHECKING:
    from collections.abc import Callable

MARKER = 48
MEGABYTES = 10 * 1024 * 1024


def check(value: Any, limit: int) -> None:
    """Check that a value becomes strict JSON within the limit, and a cut one a string."""
    found = encode(value, limit=limit)
    loaded = strict(found.json)
    assert len(found.json) <= max(limit, MARKER)
    if found.cut:
        assert "...[cut: " in loaded


@given(ANYTHING, st.sampled_from([0, 50, 100, 1000, ITEM_LIMIT]))
def test_anything_becomes_strict_json(value: Any, limit: int) -> None:
    """Any Python object in, strict JSON within the limit out, nothing raised."""
    check(value, limit)


@given(PLAIN)
def test_a_plain_value_comes_back_equal(value: Any) -> None:
    """What JSON can hold is neither cut nor mapped."""
    found = encode(value)
    assert found[1:] == (False, False)
    assert strict(found.json) == value


def test_what_was_done_is_told() -> None:
    """A value is plain, mapped, cut, or both of these."""
    assert encode({"a": 1}) == Encoded(b'{"a":1}', mapped=False, cut=False)
    assert encode({"a": {1}}) == Encoded(b'{"a":[1]}', mapped=True, cut=False)
    assert encode("x" * 100, limit=50) == Encoded(b'"%b...[cut: 100 bytes]"' % (b"x" * 29), cut=True)
    assert encode(b"x" * 100, limit=50)[1:] == (True, True)


@pytest.mark.parametrize(
    ("make", "beginning", "size"),
    [
        (lambda: "x" * MEGABYTES, "xxx", "10485760 bytes"),
        (lambda: "é" * MEGABYTES, "ééé", "10485760 characters"),
        (lambda: b"x" * MEGABYTES, "xxx", "10485760 bytes"),
        (lambda: '"\n' * MEGABYTES, '"\n"', "20971520 bytes"),
        (lambda: {"text": "x" * MEGABYTES}, '{"text":"xxx', "more than 262144 bytes"),
        (lambda: list(range(1_000_000)), "[0,1,2,3,", "more than 262144 bytes"),
        (lambda: {str(number): number for number in range(500_000)}, '{"0":0,"1":1,', "more than 262144 bytes"),
        (lambda: ["\n" * 100_000, "\n" * 50_000], '["\\n\\n\\n', "300007 bytes"),
        (lambda: "\n" * 200_000, "\n\n\n", "200000 bytes"),
    ],
    ids=["ascii", "accents", "bytes", "escapes", "member", "list", "dict", "container of escapes", "text of escapes"],
)
def test_a_big_value_is_cut_at_little_cost(make: Callable[[], object], beginning: str, size: str) -> None:
    """The beginning and the size of a value over the limit are kept; its bulk is neither walked nor encoded."""
    value = make()
    tracemalloc.start()
    try:
        found = encode(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    text = strict(found.json)
    assert found.cut
    assert ITEM_LIMIT - 8 <= len(found.json) <= ITEM_LIMIT
    assert text.startswith(beginning)
    assert text.endswith(f"...[cut: {size}]")
    assert peak < MEGABYTES


def test_a_foreign_mapping_is_not_read_further_than_needed() -> None:
    """A mapping without an end is left off at the limit."""
    reads = 0

    def pairs() -> Any:
        nonlocal reads
        while True:
            reads += 1
            yield f"row {reads}", reads

    rows = type("Rows", (UserDict,), {"items": lambda _: pairs()})()
    assert encode(rows, limit=1000).cut
    assert reads < 1000


def test_a_dict_that_another_thread_changes_is_read() -> None:
    """Whatever the other thread does, the value is strict JSON and nothing is raised."""
    shared: dict[str, Any] = {}
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            shared[str(number % 97)] = {"n": number, "odd": {number}} if number % 3 else number
            shared.pop(str(number % 89), None)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(100):
            assert encode({"shared": shared}).json.startswith(b'{"shared":{')
    finally:
        stop.set()
        thread.join()


def test_at_the_end_of_the_stack_there_is_still_an_answer() -> None:
    """A value recorded in a runaway recursion is not told, and nothing is raised."""

    def dive(action: Callable[[], Encoded]) -> Encoded:
        try:
            return dive(action)
        except RecursionError:
            return action()

    assert dive(lambda: encode([Odd()])).json in {b'"[unreadable]"', b'["<tests.wire.hostile.Odd>"]'}
    answers = {encode([Odd()]).json, dive(lambda: encode({"a": [trap(dict, ValueError)()]})).json}
    assert b'["<tests.wire.hostile.Odd>"]' in answers


def test_what_cannot_be_helped_has_an_answer_too() -> None:
    """Where even the careful path fails, the value is unreadable."""
    assert encode("x", limit=None).json == b'"[unreadable]"'  # type: ignore[arg-type]


@given(TEXTS, st.integers(0, 200))
def test_a_cut_text_fits(text: str, limit: int) -> None:
    """However its characters are escaped, the JSON is within the limit, or nothing but the marker."""
    data = cut_text(text * 20, limit, "9 bytes")
    loaded = strict(data)
    assert loaded.endswith("...[cut: 9 bytes]")
    assert len(data) <= max(limit, len('"...[cut: 9 bytes]"'))


@given(PLAIN, st.integers(40, 200))
def test_json_can_be_cut_afterwards(value: Any, limit: int) -> None:
    """JSON within the limit stays, more of it becomes a string of its beginning."""
    data = encode(value, limit=1 << 20).json
    cut = cut_json(data, limit)
    loaded = strict(cut)
    assert len(cut) <= limit
    if len(data) <= limit:
        assert cut == data
    else:
        assert loaded.endswith(f"...[cut: {len(data)} bytes]")
        begun = loaded[: loaded.rindex("...[cut")]
        assert (strict(data) if data.startswith(b'"') else data.decode()).startswith(begun)
