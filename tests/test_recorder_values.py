"""Whatever a value does when it is read, the agent is neither held nor killed by it, and the report is sound."""

from __future__ import annotations

import itertools
import sys
from collections import UserDict
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.interrupts import of_a_value
from bluejay_ws.wire.encode import finite
from tests.support import Call, Ear, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bluejay_ws.recorder import Recorder


class Stop(BaseException):
    """What no ``except Exception`` catches."""


def hostile(error: BaseException) -> Any:
    """Return an object that raises from whatever it is asked."""

    def refuse(*_: object) -> Any:
        raise error

    names = (
        *("__str__", "__repr__", "__len__", "__iter__", "__bool__", "__float__", "__int__", "__index__", "__eq__"),
        *("__hash__", "__lt__", "__gt__", "__le__", "__ge__", "__getattr__", "__add__", "__contains__", "__getitem__"),
    )
    return type("Hostile", (), dict.fromkeys(names, refuse))()


class HostileText(str):
    """A text whose own methods raise."""

    __slots__ = ()

    def __len__(self) -> int:
        raise Stop

    def __bool__(self) -> bool:
        raise Stop

    def __str__(self) -> str:
        raise Stop

    def __getitem__(self, key: Any) -> str:
        raise Stop

    def lower(self) -> str:
        raise Stop


class HostileFloat(float):
    """A number that cannot be converted."""

    def __float__(self) -> float:
        raise Stop

    def __int__(self) -> int:
        raise Stop


class Recursive:
    """An object that says what it is by asking itself."""

    def __float__(self) -> float:
        return float(self)

    def __bool__(self) -> bool:
        return bool(self)

    def __str__(self) -> str:
        return str(self)


class Endless(UserDict[str, int]):
    """A mapping that never ends."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[str]:
        return map(str, itertools.count())


@dataclass
class Node:
    """A value that may hold itself."""

    inner: object = None


def cyclic() -> Node:
    """Return a value that holds itself."""
    node = Node()
    node.inner = {"again": [node]}
    return node


VALUES: dict[str, Callable[[], Any]] = {
    "a huge decimal": lambda: Decimal("1e999999"),
    "a decimal beyond all": lambda: Decimal("-9e999999999999999999"),
    "a tiny decimal": lambda: Decimal("1e-999999"),
    "a signalling NaN": lambda: Decimal("sNaN"),
    "a huge integer": lambda: 10**100_000,
    "a huge fraction": lambda: Fraction(10**100_000, 3),
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("-inf"),
    "a complex number": lambda: 1j,
    "what raises an exception": lambda: hostile(RuntimeError()),
    "what raises past exceptions": lambda: hostile(Stop()),
    "what asks to exit": lambda: hostile(SystemExit(1)),
    "a hostile text": lambda: HostileText("hello"),
    "a hostile number": lambda: HostileFloat(5.0),
    "what asks itself": Recursive,
    "an endless mapping": Endless,
    "an endless iterator": itertools.count,
    "a value that holds itself": cyclic,
    "a huge text": lambda: "7" * 5_000_000,
    "huge bytes": lambda: b"7" * 5_000_000,
    "half a character": lambda: "\ud800",
}
every_value = pytest.mark.parametrize("make", VALUES.values(), ids=list(VALUES))


def _tool_blocks(recorder: Recorder, value: Any) -> None:
    with recorder.tool_call("t", {"v": value}, "d") as block:
        block.output = value
    early = recorder.tool_call(value, value, value)
    early.start_offset_ms = value
    with early:
        early.start_offset_ms = value
    left_open = recorder.tool_call("open")
    left_open.__enter__()
    left_open.output = value


def _other_blocks(recorder: Recorder, value: Any) -> None:
    with recorder.event("t", metadata=value, tags=value, description=value) as block:
        block.title = block.start_offset_ms = value
    recorder.event("open", metadata=value).__enter__()
    with recorder.utterance("agent", filler=value) as said:
        said.text = said.start_offset_ms = value
    with recorder.utterance(value) as said:
        said.text = "words"


def _facts(recorder: Recorder, value: Any) -> None:
    recorder.add_tool_call(value, parameters=value, output=value, description=value, start_offset_ms=value)
    recorder.add_event(value, description=value, tags=value, metadata=value, start_offset_ms=value, end_offset_ms=value)
    recorder.add_event("t", tags=[value], metadata={"v": value}, end_offset_ms=value)
    recorder.add_tags(value)
    recorder.add_metadata(v=value)
    recorder.add_trace_id(value)
    recorder.interruption(at_ms=value)
    recorder.offset_ms(value)


def _words(recorder: Recorder, value: Any) -> None:
    recorder.agent_said(value, audio_ms=value, filler=value)
    recorder.add_utterance(value, "words")
    said = recorder.agent_said("words", start_offset_ms=value, end_offset_ms=value)
    said.heard(ms=value)
    said.lasts(ms=value)
    said.text = value
    recorder.agent_said("words").text = value


def _failing_tool(recorder: Recorder, value: Any) -> None:
    class ToolError(Exception):
        def __str__(self) -> str:
            return value if type(value) is str else str.__str__(hostile(Stop()))

    with pytest.raises(ToolError), recorder.tool_call("t"):
        raise ToolError


@every_value
def test_no_value_reaches_the_agent_by_what_it_raises(make: Callable[[], Any]) -> None:
    """Nothing is raised where it is recorded or at the end, nothing takes for ever, and the report can be read."""
    for record in (_tool_blocks, _other_blocks, _facts, _words, _failing_tool):
        for heard in (None, Ear(Span(0.0, None), Span(0.0, None))):
            call = Call(heard=heard)
            record(call.recorder, make())
            report = call.report()
            assert "Connection closed" in [event.title for event in report.events or []]
            assert sum(map(len, call.journal)) < 12_000_000


@every_value
def test_what_cannot_be_a_name_of_the_call_is_none(make: Callable[[], Any]) -> None:
    """No value in the place of an id or an alias is asked for more than its text."""
    call = Call()
    call.recorder.simulation_result_id = None
    call.recorder.bind(make())
    assert call.recorder.simulation_result_id is None
    assert call.counters["dropped.no_usable_id"] == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_what_ends_the_process_passes(error: BaseException) -> None:
    """A user presses Ctrl-C, or a signal handler exits, while a value is read: that is not the value's affair."""

    def handler(_number: int, _frame: Any) -> None:
        raise error

    class Reading:
        def __float__(self) -> float:
            handler(15, sys._getframe())
            return 1.0

    call = Call()
    for record in (
        lambda: call.recorder.add_event("t", start_offset_ms=Reading()),  # type: ignore[arg-type]
        lambda: call.recorder.agent_said("t", start_offset_ms=Reading()),  # type: ignore[arg-type]
        lambda: call.recorder.agent_said("t").heard(ms=Reading()),  # type: ignore[arg-type]
    ):
        with pytest.raises(type(error)):
            record()
    assert of_a_value(Stop())


@pytest.mark.parametrize(
    ("given", "number"),
    [(7, 7.0), ("7.5", 7.5), (True, 1.0), (Decimal("2.5"), 2.5), (Fraction(1, 2), 0.5), ("7" * 65, None), (b"7", None)],
)
def test_numbers_are_read_from_what_says_it_is_one(given: object, number: float | None) -> None:
    """A short text may be one; a long one, or bytes, would take long to read and is none."""
    assert finite(given) == number


def test_words_are_kept_as_they_stand_when_they_are_recorded() -> None:
    """A list in the place of a text may change later; the report does not."""
    call = Call(heard=Ear(Span(0.0, 500.0), Span(0.0, 500.0)))
    words: Any = ["one"]
    said = call.recorder.agent_said(words)
    words.append("two")
    assert said.text == '["one"]'
    assert [one.utterance for one in call.report().recorded_transcript or []] == ['["one"]']
    assert call.counters["mapped.utterance"] == 1


def test_thousands_of_corrections_do_not_fill_the_journal() -> None:
    """They are written until the call has taken half its share; the report has the last words of each utterance."""
    call = Call()
    handles = [call.recorder.agent_said("first", start_offset_ms=number, end_offset_ms=number) for number in range(3)]
    gone = call.recorder.agent_said("gone")
    for number in range(500):
        for one in handles:
            one.text = f"{number} " + "x" * 10_000
        gone.text = "y" * 10_000
    gone.withdraw()
    said = [one.utterance.partition(" ")[0] for one in call.report().recorded_transcript or []]
    assert said == ["499"] * 3
    assert sum(map(len, call.journal)) < 2.2 * 1024 * 1024
    assert call.counters["deferred.corrections"] > 1_500
