"""The careful path: what becomes of each kind of value."""

from __future__ import annotations

import gc
import json
import signal
import sys
import weakref
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, deque
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Real
from pathlib import PurePosixPath
from types import FrameType, MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.wire.encode import DEPTH_LIMIT, Writer, clean, encode, plain_json, snapshot
from tests.wire.hostile import (
    ANYTHING,
    PLAIN,
    TEXTS,
    Card,
    Colour,
    Deep,
    Endless,
    Fatal,
    Level,
    Lying,
    Model,
    Odd,
    Point,
    Rights,
    Root,
    Slotted,
    SubDict,
    SubStr,
    Ticket,
    Unhashable,
    Word,
    numbers,
    strict,
    trap,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOM = 1 << 18


class Pair(NamedTuple):
    """A named tuple with types."""

    left: Any
    right: Any


class Loud(str):
    """A text that says something else when it is asked."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"

    def __len__(self) -> int:
        return -1  # noqa: PLE0303 - a lie


def written(value: object, room: int = ROOM) -> tuple[Any, Writer]:
    """Return what is written for ``value``, read back, and the writer."""
    writer = Writer(room)
    writer.write(value)
    return strict(b"".join(writer.parts)), writer


def made(base: type, **methods: Any) -> type:
    """Return a subclass with these methods."""
    return type("Made", (base,), methods)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        ("text", "text"),
        (SubStr("text"), "text"),
        (Loud("text"), "text"),
        (7, 7),
        (2**70, 2**70),
        (made(int)(7), 7),
        (1.5, 1.5),
        (made(float)(1.5), 1.5),
        (1e300, 1e300),
        ([1, [2]], [1, [2]]),
        ((1, 2), [1, 2]),
        (made(list)([1]), [1]),
        (made(tuple)([1]), [1]),
        ({"a": {"b": 1}}, {"a": {"b": 1}}),
        (SubDict(a=1), {"a": 1}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        ({SubStr("a"): 1}, {"a": 1}),
        ("a\\u0000b", "a\\u0000b"),
        ("\U0001f600é\n", "\U0001f600é\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_json_has_is_kept(value: object, expected: object) -> None:
    """Subclasses of the built-in types are what they are built on; nothing counts as mapped."""
    found, writer = written(value)
    assert found == expected
    assert not writer.mapped
    assert not writer.cut


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (made(float)("-inf"), None),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b\udfff", "a\ufffdb\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        (2**1023, str(2**1023)),
        (-(10**4000), str(-(10**4000))),
        (10**5000, "[integer of about 5001 digits]"),
        (b"text \xc3\xa9", "text é"),
        (bytearray(b"text"), "text"),
        (memoryview(b"text"), "text"),
        (memoryview(b"text")[::2], "<builtins.memoryview>"),
        (b"\xff\x00", "<2 bytes>"),
        (b"\0\0", "<2 bytes>"),
        (b"\xff\xfe", "<2 bytes>"),
        (datetime(2026, 8, 1, 12, 30, tzinfo=UTC), "2026-08-01T12:30:00+00:00"),
        (date(2026, 8, 1), "2026-08-01"),
        (time(12, 30), "12:30:00"),
        (timedelta(seconds=1.5), 1.5),
        (Decimal("1.10"), "1.10"),
        (Decimal("NaN"), "NaN"),
        (Fraction(1, 3), "1/3"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a/b"), "/a/b"),
        ({1}, [1]),
        (frozenset({1}), [1]),
        (deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.values(), [1]),
        ({"a": 1}.items(), [["a", 1]]),
        (Colour.RED, "red"),
        (Colour.PAIR, ["a", 1]),
        (Word.YES, "yes"),
        (Level.HIGH, 3),
        (Rights.READ | Rights.WRITE, 3),
        (Point(1, 2), {"x": 1, "y": 2}),
        (Pair(1, [2]), {"left": 1, "right": [2]}),
        (Card("4242"), {"last4": "4242", "inner": None}),
        (Slotted(1), {"value": 1}),
        (Ticket(1), {"number": 1}),
        (
            Model.model_validate({"inner": [1], "more": "m"}),
            {"name": "x", "inner": [1], "secret": "<pydantic.types.SecretStr>", "more": "m"},
        ),
        (Root([1]), [1]),
        (Root("x"), "x"),
        (SimpleNamespace(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (UserDict(a=1), {"a": 1}),
        (ChainMap({"a": 1}), {"a": 1}),
        (ValueError("no card"), {"error": "ValueError", "message": "no card"}),
        (KeyError("k"), {"error": "KeyError", "message": "'k'"}),
        (Fatal(), {"error": "Fatal", "message": ""}),
        (Odd(), "<tests.wire.hostile.Odd>"),
        (Lying(), "<tests.wire.hostile.Lying>"),
        (array("i", [1]), "<array.array>"),
        (1j, "<builtins.complex>"),
        (int, "<builtins.type>"),
        (len, "<builtins.builtin_function_or_method>"),
        ([Odd(), 1], ["<tests.wire.hostile.Odd>", 1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_mapped(value: object, expected: object) -> None:
    """What JSON has no word for becomes what says most of it, and counts as mapped."""
    found, writer = written(value)
    assert found == expected
    assert writer.mapped
    assert not writer.cut


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
        ({False: "a", 1.5: "b", 2**70: "c"}, {"false": "a", "1.5": "b", str(2**70): "c"}),
        ({10**5000: 1}, {"[integer of about 5001 digits]": 1}),
        ({(1, "a"): 1, frozenset({2}): 2}, {'[1,"a"]': 1, "[2]": 2}),
        ({Colour.RED: 1, b"k": 2, Slotted(1): 3}, {"red": 1, "k": 2, '{"value":1}': 3}),
        (
            {1: "a", "1": "b", "1 (2)": "c", 1.0j: "d"},
            {"1": "a", "1 (2)": "b", "1 (2) (2)": "c", "<builtins.complex>": "d"},
        ),
        (
            dict(zip(("\0", "\ufffd", "\ud800"), (1, 2, 3), strict=True)),
            {"\ufffd": 1, "\ufffd (2)": 2, "\ufffd (3)": 3},
        ),
    ],
)
def test_keys_become_text_and_stay_apart(value: object, expected: object) -> None:
    """A key that is no text becomes one; keys that would be the same get a number."""
    found, writer = written(value)
    assert found == expected
    assert writer.mapped


def test_many_keys_that_look_alike_get_numbers_at_once() -> None:
    """Each number is looked for from the last one on, not from the beginning."""
    found, _ = written({Odd(): number for number in range(1000)})
    assert list(found)[-1] == "<tests.wire.hostile.Odd> (1000)"


def test_plain_blocks_and_odd_keys_stay_apart_too() -> None:
    """A key that was written together with its neighbours is remembered as one that was written alone."""
    found, _ = written({1: 0} | {f"k{number}": number for number in range(600)} | {b"k300": "odd", "1": "text"})
    assert found["k300"] == 300
    assert found["k300 (2)"] == "odd"
    assert found["1 (2)"] == "text"
    assert len(found) == 603


def test_many_whole_numbers_are_keys_at_once() -> None:
    """Numbers become text together; where the text is taken, they stay apart."""
    found, writer = written({number: number for number in range(300)})
    assert found == {str(number): number for number in range(300)}
    assert writer.mapped
    found, _ = written({"299": "text"} | {number: number for number in range(300)} | {10**5000: 1})
    assert found["299 (2)"] == 299
    assert found["[integer of about 5001 digits]"] == 1
    assert len(found) == 302


def test_pairs_that_repeat_their_key_are_all_kept() -> None:
    """A foreign mapping can name a key many times."""
    pairs = [("same", number) for number in range(20)]
    found, _ = written(made(UserDict, items=lambda _: pairs)())
    assert len(found) == 20
    assert found["same (20)"] == 19


def test_a_class_that_forbids_every_question_spoils_nothing() -> None:
    """Its object becomes a marker; nothing reaches the agent."""
    assert b"un" in encode([Unhashable()]).json


def test_a_value_that_ends_the_process_is_only_a_value() -> None:
    """SystemExit out of a value's own code is contained: it would end the thread that encodes, or the agent."""

    class Row(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return 1

        def __iter__(self) -> Iterator[str]:
            raise SystemExit(3)

        def __len__(self) -> int:
            return 1

    data, mapped, _ = encode({"row": Row()})
    assert b"Row>" in data
    assert mapped


def test_a_signal_handler_that_ends_the_process_is_obeyed() -> None:
    """A handler of the agent's may run while a value is read: its SystemExit continues its way."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    class Row(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return 1

        def __iter__(self) -> Iterator[str]:
            signal.raise_signal(signal.SIGUSR1)
            return iter("a")

        def __len__(self) -> int:
            return 1

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(SystemExit):
            encode({"row": Row()})
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_numbers_of_other_libraries_are_numbers() -> None:
    """What is registered as a whole or a real number is one; what cannot be one is its type's name."""
    whole = made(object, __int__=lambda _: 7)
    real = made(object, __float__=lambda _: 0.5)
    Integral.register(whole)
    Real.register(real)
    assert written(whole())[0] == 7
    assert written(real())[0] == 0.5
    Real.register(liar := made(object))
    assert written(liar())[0] == "<tests.wire.test_careful.Made>"


@pytest.mark.parametrize("make", [numbers, lambda: iter([1]), lambda: map(len, ["a"]), lambda: zip([1], strict=True)])
def test_iterators_are_not_consumed(make: Any) -> None:
    """Who recorded a generator can still read it."""
    iterator = make()
    written([iterator, {"a": iterator}])
    assert len(list(iterator)) == 1


@pytest.mark.parametrize("base", [object, dict, list, tuple, set, frozenset, deque, str, int, float, bytes, ValueError])
def test_no_method_of_a_value_is_heard(base: type) -> None:
    """A value that raises from whatever is asked of it is written, and nothing is raised."""
    for error in (ValueError, RuntimeError, RecursionError, MemoryError, GeneratorExit, Fatal):
        found, _ = written([trap(base, error)(), 1])
        assert found[1] == 1


def test_the_end_of_the_process_is_not_held_up() -> None:
    """Ctrl-C may strike while a foreign mapping is read; SystemExit of the mapping's own is contained."""
    with pytest.raises(KeyboardInterrupt):
        written(trap(UserDict, KeyboardInterrupt)())
    written(trap(UserDict, SystemExit)())


def test_what_fails_half_way_leaves_nothing_half_written() -> None:
    """A mapping that raises in its middle is its type's name; what lies around it is whole."""

    class Breaking(UserDict[str, Any]):
        def items(self) -> Any:
            yield "a", [1, 2]
            yield "b"

    found, _ = written({"before": 1, "broken": Breaking(), "after": [Breaking()]})
    name = "<tests.wire.test_careful.test_what_fails_half_way_leaves_nothing_half_written.<locals>.Breaking>"
    assert found == {"before": 1, "broken": name, "after": [name]}


def test_a_value_that_fails_within_itself_is_still_known_further_out() -> None:
    """The inner failure must not make the outer value forget that it is being read."""

    class Twice(UserDict[str, Any]):
        reads = 0

        def items(self) -> Any:
            self.reads += 1
            return [("a", self), ("b", self)]

    assert written(Twice())[0] == {"a": "[cycle]", "b": "[cycle]"}


def test_a_failure_within_a_value_does_not_take_it_off_the_path() -> None:
    """A value that cannot be read where it lies in itself is still being read further out."""

    class Once(UserDict[str, Any]):
        asked = 0

        @property
        def items(self) -> Any:
            self.asked += 1
            if self.asked == 2:
                raise ValueError
            return lambda: [("a", self), ("b", self)]

    found, _ = written(Once())
    assert found["a"].endswith("Once>")
    assert found["b"] == "[cycle]"


def test_cycles_are_cut() -> None:
    """A container in itself, directly or through others, is marked where it begins again."""
    cycle: dict[str, Any] = {"list": []}
    cycle["list"] += [cycle, cycle["list"]]
    shared = [1]
    root = Root([])
    root.root.append(root)
    assert written(cycle)[0] == {"list": ["[cycle]", "[cycle]"]}
    assert written([shared, shared])[0] == [[1], [1]]
    assert written(root)[0] == ["[cycle]"]


def test_depth_is_limited() -> None:
    """64 containers may lie within each other; the next is only marked, however many there are."""
    value: Any = 1
    for _ in range(DEPTH_LIMIT - 1):
        value = {"in": value}
    assert '"in":1' in json.dumps(written([value])[0], separators=(",", ":"))
    assert "[too deep]" in json.dumps(written([[value]])[0])
    assert "[too deep]" in json.dumps(written(Deep())[0])
    for _ in range(100_000):
        value = [value]
    assert "[too deep]" in json.dumps(written(value)[0])


@pytest.mark.parametrize(
    "value",
    [
        ["x" * 10] * 10_000,
        [1] * 10_000,
        list(range(10_000)),
        {str(number): number for number in range(10_000)},
        {number: number for number in range(10_000)},
        set(range(10_000)),
        {"key" * 1000: 1},
        {("key" * 1000,): 1},
        [Odd()] * 10_000,
        ["a", "b" * 10_000, "c"],
        {"a": b"b" * 10_000},
        Endless(),
        [[[[[1] * 10] * 10] * 10] * 10] * 10,
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_writer_stops_when_there_is_no_more_room(value: object) -> None:
    """What is written is as long as there is room for, so that a beginning can be taken, and not much longer."""
    for room in (0, 1, 7, 100, 1000):
        found, writer = written(value, room)
        assert writer.cut
        assert room <= sum(map(len, writer.parts)) <= room + 200
        assert isinstance(found, dict | list)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("x" * 10_000, "10000 bytes"),
        ("é" * 10_000, "10000 characters"),
        (b"x" * 10_000, "10000 bytes"),
        (("é" * 10_000).encode(), "20000 bytes"),
        (SubStr("x" * 10_000), "10000 bytes"),
    ],
)
def test_the_size_of_a_cut_text_is_known(value: object, size: str) -> None:
    """A text that is the whole value tells how long it was."""
    found, writer = written(value, 101)
    assert writer.cut
    assert writer.size == size
    assert 40 < len(found) <= 101


def test_bytes_that_turn_out_to_be_none_of_a_text_are_not_cut() -> None:
    """Audio is told by its length, however long it is."""
    found, writer = written(b"\x01\xff" * 10_000, 100)
    assert found == "<20000 bytes>"
    assert not writer.cut


def test_shared_parts_do_not_multiply() -> None:
    """A value of a few kilobytes that would be 2**60 elements long is left off at the limit."""
    value: Any = [Odd()]
    for _ in range(60):
        value = [value, value]
    _, writer = written(value, 1000)
    assert sum(map(len, writer.parts)) < 2000


@given(PLAIN, st.integers(50, 400))
def test_both_paths_write_the_same(value: Any, room: int) -> None:
    """What the fast path writes, the careful path writes byte for byte."""
    for data in (plain_json(value, 1 << 20), plain_json(value, room)):
        writer = Writer(1 << 20 if data is None or len(data) > room else room)
        writer.write(value)
        assert data is None or b"".join(writer.parts) == data


@given(ANYTHING, st.sampled_from([0, 10, 100, 1000, ROOM]))
def test_anything_becomes_strict_json(value: Any, room: int) -> None:
    """Whatever is written is strict JSON, also when it stops half way."""
    written(value, room)


@given(TEXTS)
def test_a_clean_text_can_be_stored_anywhere(text: str) -> None:
    """No NUL, no lone surrogate; as many characters as there were, but for pairs of surrogates."""
    cleaned = clean(text)
    cleaned.encode()
    assert "\0" not in cleaned
    assert len(cleaned) <= len(text)
    assert clean(cleaned) == cleaned


def test_a_snapshot_outlives_changes() -> None:
    """A container that changes while it is read is read again, some times."""
    changes = [0, 1, 2]

    def source() -> Iterable[int]:
        yield 1
        if changes and changes.pop():
            raise RuntimeError("changed size during iteration")

    assert snapshot(source, 10) == [1]
    assert not changes
    assert snapshot(lambda: [1, 2, 3], 2) == [1, 2]


def test_a_snapshot_gives_up_in_the_end() -> None:
    """A source that never stays still is an error, and its value is told by its type."""

    def source() -> Iterable[int]:
        raise RuntimeError
        yield 1

    with pytest.raises(RuntimeError):
        snapshot(source, 10)


def test_the_limit_of_digits_is_that_of_the_process() -> None:
    """Where the process allows fewer digits, or any number of them, long numbers are still written."""
    before = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(640)
        assert written(10**1000)[0] == "[integer of about 1001 digits]"
        assert written({10**1000: 10**300})[0] == {"[integer of about 1001 digits]": 10**300}
        sys.set_int_max_str_digits(0)
        assert written(10**4000)[0] == str(10**4000)
    finally:
        sys.set_int_max_str_digits(before)


def test_nothing_of_a_value_is_kept() -> None:
    """A value that was written can be collected."""

    class Held(list[Odd]):
        pass

    value = Held([Odd()])
    gone = weakref.ref(value)
    written(value)
    del value
    gc.collect()
    assert gone() is None
