"""`record_tool`: the tool itself does not change, and every call of it is in the report."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from bluejay_ws import tools
from bluejay_ws.current import enter, leave
from bluejay_ws.recorder import DECORATED_TOOLS
from bluejay_ws.tools import YIELDED_LIMIT, record_tool
from tests.support import Call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

    from tests.report import ToolCall


@pytest.fixture
def call() -> Iterator[Call]:
    """Give a call that is the current one."""
    call = Call()
    before = enter(call.recorder)
    yield call
    leave(call.recorder, before)


def tools_of(call: Call) -> list[ToolCall]:
    """Return the tool calls of the report, after checking that there are some."""
    recorded = call.report().tool_calls
    assert recorded
    return recorded


@record_tool
def freeze_card(last4: str, *, reason: str = "lost") -> str:
    """Freeze a card.

    More about it.
    """
    return f"card {last4} frozen: {reason}"


@record_tool
async def lookup(customer_id: int) -> dict[str, int]:
    """Look a customer up."""
    await asyncio.sleep(0)
    return {"id": customer_id}


@record_tool(name="count_up", description="Counts")
def numbers(count: int) -> Generator[int, str, str]:
    """Yield numbers and return what was sent in."""
    received = []
    for number in range(count):
        received.append((yield number))  # noqa: PERF401 - a comprehension cannot yield
    return ",".join(map(str, received))


@record_tool
async def letters(text: str) -> AsyncGenerator[str, str]:
    """Yield the letters of a text."""
    for letter in text:
        yield letter


def test_a_plain_tool_is_recorded_with_its_arguments_by_name(call: Call) -> None:
    """Positional arguments get the names the function gives them; description is the docstring's first line."""
    assert freeze_card("4242", reason="stolen") == "card 4242 frozen: stolen"
    assert freeze_card(last4="1") == "card 1 frozen: lost"
    first, second = tools_of(call)
    assert (first.name, first.parameters, first.output, first.description) == (
        "freeze_card",
        {"last4": "4242", "reason": "stolen"},
        "card 4242 frozen: stolen",
        "Freeze a card.",
    )
    assert second.parameters == {"last4": "1"}


def test_an_async_tool_is_recorded_when_it_runs(call: Call) -> None:
    """A coroutine function stays one, and its result is the output."""
    assert inspect.iscoroutinefunction(lookup)
    assert asyncio.run(lookup(7)) == {"id": 7}
    (tool,) = tools_of(call)
    assert (tool.name, tool.parameters, tool.output) == ("lookup", {"customer_id": 7}, {"id": 7})


def test_parallel_async_tools_keep_their_own_outputs(call: Call) -> None:
    """Tools that run at once do not mix."""

    async def both() -> None:
        await asyncio.gather(lookup(1), lookup(2), lookup(3))

    asyncio.run(both())
    assert [(t.parameters, t.output) for t in tools_of(call)] == [({"customer_id": n}, {"id": n}) for n in (1, 2, 3)]


def test_a_generator_tool_yields_as_before_and_its_items_are_the_output(call: Call) -> None:
    """Values sent in arrive, the return value comes out, and the list of what was yielded is recorded."""
    assert inspect.isgeneratorfunction(numbers)
    generator = numbers(2)
    assert next(generator) == 0
    assert generator.send("a") == 1
    with pytest.raises(StopIteration) as stop:
        generator.send("b")
    assert stop.value.value == "a,b"
    (tool,) = tools_of(call)
    assert (tool.name, tool.output, tool.description) == ("count_up", [0, 1], "Counts")


def test_what_a_generator_yields_is_recorded_as_it_was_then_and_not_held(call: Call) -> None:
    """One that yields the same object each time, changed, has all its states; large pieces are free to go."""
    held: list[weakref.ref[Any]] = []

    class Piece(bytearray):
        """Audio or the like."""

    @record_tool
    def grows() -> Generator[Any, None, None]:
        progress = {"done": 0}
        for _ in range(2):
            progress["done"] += 1
            yield progress
        for _ in range(6):
            yield Piece(b"x" * 100_000)

    def pass_on(generator: Generator[Any, None, None]) -> None:
        for item in generator:
            if isinstance(item, Piece):
                assert len([one for one in held if one() is not None]) <= 1
                held.append(weakref.ref(item))

    pass_on(grows())
    (tool,) = tools_of(call)
    first, second, *pieces, cut, rest = tool.output
    assert (first, second, rest) == ({"done": 1}, {"done": 2}, "...[cut: 8 items]")
    assert pieces == ["x" * 100_000]
    assert cut.endswith("x...[cut: 100000 bytes]")
    assert call.counters["cut.output"] == 1
    assert len(held) == 6


def test_what_of_a_yielded_item_became_another_type_is_counted(call: Call) -> None:
    """Once for a tool call, as for a tool that returns it."""

    @record_tool
    def dates() -> Generator[Any, None, None]:
        yield date(2026, 1, 1)
        yield {1}

    list(dates())
    assert tools_of(call)[0].output == ["2026-01-01", [1]]
    assert call.counters["mapped.output"] == 1


class _Raising(type):
    """Its classes raise when somebody asks where they come from."""

    error: type[BaseException] = SystemExit

    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise cls.error


class Odd(metaclass=_Raising):
    """An object that cannot be recorded."""

    __slots__ = ()


def test_what_a_yielded_item_raises_does_not_reach_the_tool(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted; a KeyboardInterrupt is not of the item, and is raised."""

    @record_tool
    def odd() -> Generator[Any, None, None]:
        yield Odd()
        yield 1

    assert len(list(odd())) == 2
    assert call.counters["dropped.failed_output"] == 1
    monkeypatch.setattr(Odd, "error", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        list(odd())
    assert tools_of(call)[0].output == [1, "...[cut: 2 items]"]


def test_a_generator_tool_that_is_closed_early_is_kept(call: Call) -> None:
    """Closing reaches the tool's own generator; what was yielded so far is recorded, as cancelled."""
    generator = numbers(5)
    next(generator)
    generator.close()
    (tool,) = tools_of(call)
    assert tool.output == {"status": "cancelled", "output": [0]}


def test_an_exception_thrown_into_a_generator_tool_arrives_there(call: Call) -> None:
    """The tool may handle what its consumer throws in."""

    @record_tool
    def patient() -> Generator[str, None, None]:
        try:
            yield "waiting"
        except KeyError:
            yield "handled"

    generator = patient()
    assert next(generator) == "waiting"
    assert generator.throw(KeyError("x")) == "handled"
    assert list(generator) == []
    (tool,) = tools_of(call)
    assert tool.output == ["waiting", "handled"]


def test_a_generator_tool_that_fails_is_kept_with_what_it_yielded(call: Call) -> None:
    """The exception continues, and the output has both."""

    @record_tool
    def failing() -> Generator[int, None, None]:
        yield 1
        message = "broke"
        raise ValueError(message)

    with pytest.raises(ValueError, match="broke"):
        list(failing())
    (tool,) = tools_of(call)
    assert tool.output == {"status": "failed", "error": "ValueError", "message": "broke", "output": [1]}


def test_a_long_generator_is_counted_beyond_the_limit(call: Call) -> None:
    """Memory is bounded: the items beyond the limit are told by their number only."""
    assert len(list(numbers(YIELDED_LIMIT + 5))) == YIELDED_LIMIT + 5
    (tool,) = tools_of(call)
    assert isinstance(tool.output, list)
    assert len(tool.output) == YIELDED_LIMIT + 1
    assert tool.output[-1] == f"...[cut: {YIELDED_LIMIT + 5} items]"


def test_an_async_generator_tool_is_recorded(call: Call) -> None:
    """An async generator stays one; what it yielded is the output."""

    async def consume() -> list[str]:
        return [letter async for letter in letters("abc")]

    assert inspect.isasyncgenfunction(letters)
    assert asyncio.run(consume()) == ["a", "b", "c"]
    (tool,) = tools_of(call)
    assert (tool.name, tool.output) == ("letters", ["a", "b", "c"])


def test_an_async_generator_tool_that_is_closed_early_is_kept(call: Call) -> None:
    """Closing reaches the tool's own async generator."""
    ended: list[str] = []

    @record_tool
    async def endless() -> AsyncGenerator[int, None]:
        try:
            while True:
                yield 1
        finally:
            ended.append("closed")

    async def consume() -> None:
        async with contextlib.aclosing(endless()) as items:
            async for _ in items:
                break

    asyncio.run(consume())
    assert ended == ["closed"]
    (tool,) = tools_of(call)
    assert tool.output == {"status": "cancelled", "output": [1]}


def test_values_and_exceptions_sent_into_an_async_generator_tool_arrive(call: Call) -> None:
    """`asend` and `athrow` reach the tool as if it were bare."""

    @record_tool
    async def echo() -> AsyncGenerator[str, str]:
        try:
            got = yield "ready"
            yield got
        except KeyError:
            yield "handled"

    async def consume() -> list[str]:
        generator = echo()
        first = await anext(generator)
        second = await generator.asend("hello")
        third = await generator.athrow(KeyError("x"))
        return [first, second, third, *[item async for item in generator]]

    assert asyncio.run(consume()) == ["ready", "hello", "handled"]
    (tool,) = tools_of(call)
    assert tool.output == ["ready", "hello", "handled"]


def test_a_failing_tool_raises_its_own_exception(call: Call) -> None:
    """The exception object is the tool's own; the tool call says failed."""
    error = LookupError("none")

    @record_tool
    def fails() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        fails()
    assert caught.value is error
    (tool,) = tools_of(call)
    assert tool.output == {"status": "failed", "error": "LookupError", "message": "none"}


def test_methods_do_not_report_self_or_cls(call: Call) -> None:
    """Methods, class methods and static methods work in either order of decorators, without self."""

    class Bank:
        @record_tool
        def plain(self, amount: int) -> int:
            return amount

        @record_tool
        @classmethod
        def of_class(cls, amount: int) -> str:
            return f"{cls.__name__} {amount}"

        @staticmethod
        @record_tool
        def inner(amount: int) -> int:
            return amount

        @record_tool
        @staticmethod
        def outer(amount: int) -> int:
            return amount

    assert [Bank().plain(1), Bank().of_class(2), Bank().inner(3), Bank().outer(4)] == [1, "Bank 2", 3, 4]
    assert [tool.parameters for tool in tools_of(call)] == [{"amount": n} for n in (1, 2, 3, 4)]


def test_star_arguments_are_reported(call: Call) -> None:
    """Further positional arguments stand under their name, further keywords among the parameters."""

    @record_tool
    def many(first: int, *rest: int, **options: str) -> None: ...

    many(1, 2, 3, colour="red")
    (tool,) = tools_of(call)
    assert tool.parameters == {"first": 1, "rest": [2, 3], "colour": "red"}


def test_wrong_arguments_fail_as_they_would_bare(call: Call) -> None:
    """The function's own TypeError reaches its caller, and the attempt is in the report."""
    with pytest.raises(TypeError, match="positional argument"):
        freeze_card("1", "2", "3")  # type: ignore[call-arg]
    (tool,) = tools_of(call)
    assert tool.parameters == {"args": ["1", "2", "3"]}


def test_callables_without_signature_or_name_are_recorded(call: Call) -> None:
    """Builtins and partials are tools too."""
    assert record_tool(max, name="largest")(1, 2) == 2  # type: ignore[call-overload]
    assert record_tool(functools.partial(int, base=2))("11") == 3
    first, second = tools_of(call)
    assert (first.name, first.parameters) == ("largest", {"args": [1, 2]})
    assert second.name == "int"


def test_an_async_tool_under_a_plain_decorator_is_recorded_until_it_is_done(call: Call) -> None:
    """What it answers is its output, not the coroutine; and its failure is in the report as well."""

    def plain(function: Any) -> Any:
        def decorated(*args: Any) -> Any:
            return function(*args)

        return decorated

    async def slow(number: int) -> int:
        call.clock.sleep(100)
        await asyncio.sleep(0)
        return 10 // number

    tool = record_tool(name="slow")(plain(slow))
    assert asyncio.run(tool(5)) == 2
    with pytest.raises(ZeroDivisionError):
        asyncio.run(tool(0))
    done, failed = tools_of(call)
    assert (done.output, done.start_offset_ms) == (2, 0)
    assert isinstance(failed.output, dict)
    assert failed.output["error"] == "ZeroDivisionError"


def test_an_async_callable_object_is_a_tool(call: Call) -> None:
    """An object whose call is a coroutine function is awaited."""

    class Tool:
        async def __call__(self, x: int) -> int:
            return x + 1

    assert asyncio.run(record_tool(Tool())(1)) == 2
    (tool,) = tools_of(call)
    assert (tool.name, tool.parameters, tool.output) == ("Tool", {"x": 1}, 2)


def test_names_and_docs_are_kept() -> None:
    """The decorated function looks like the bare one, and is known among the decorated tools."""
    assert freeze_card.__name__ == "freeze_card"
    assert (freeze_card.__doc__ or "").startswith("Freeze a card.")
    assert str(inspect.signature(freeze_card)) == "(last4: 'str', *, reason: 'str' = 'lost') -> 'str'"
    assert {"freeze_card", "count_up"} <= DECORATED_TOOLS


def test_outside_a_call_tools_just_run() -> None:
    """Without a simulation nothing is recorded and everything works."""

    async def consume() -> tuple[dict[str, int], list[str]]:
        return await lookup(1), [letter async for letter in letters("ab")]

    assert freeze_card("1") == "card 1 frozen: lost"
    assert list(numbers(2)) == [0, 1]
    assert asyncio.run(consume()) == ({"id": 1}, ["a", "b"])


def test_parameters_that_cannot_be_read_do_not_stop_the_tool(call: Call) -> None:
    """A value that fights back is recorded by its type; the tool gets it untouched."""

    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError

        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = None  # type: ignore[assignment]

    hostile: Any = Hostile()

    @record_tool
    def takes(value: Any) -> Any:
        return value

    assert takes(hostile) is hostile
    assert len(tools_of(call)) == 1


# -- frameworks' tools


class RunContextWrapper:
    """What a framework hands in beside what the model gave."""


class OwnContext(RunContextWrapper):
    """A user's own kind of it."""


@record_tool
def plain_context(ctx: RunContextWrapper, city: str, *, days: int = 1) -> str:
    """Look something up."""
    return f"{city} {days}"


@record_tool
async def quoted_context(city: str, ctx: Annotated[RunContextWrapper | None, "x"] = None) -> str:
    """Look something up."""
    return city


@record_tool
def unknown_context(city: str, anything: object) -> str:
    """Look something up."""
    return city


@pytest.mark.parametrize(
    ("run", "parameters"),
    [
        (lambda: plain_context(RunContextWrapper(), "Rome", days=2), {"city": "Rome", "days": 2}),
        (lambda: plain_context(ctx=RunContextWrapper(), city="Rome"), {"city": "Rome"}),
        (lambda: plain_context(OwnContext(), "Rome"), {"city": "Rome"}),
        (lambda: asyncio.run(quoted_context("Rome", RunContextWrapper())), {"city": "Rome"}),
        (lambda: asyncio.run(quoted_context(city="Rome", ctx=None)), {"city": "Rome"}),
        (lambda: unknown_context("Rome", RunContextWrapper()), {"city": "Rome"}),
        (lambda: unknown_context("Rome", OwnContext()), {"city": "Rome"}),
        (lambda: unknown_context("Rome", "RunContext"), {"city": "Rome", "anything": "RunContext"}),
    ],
)
def test_a_frameworks_context_is_no_parameter(run: Callable[[], Any], parameters: dict[str, Any], call: Call) -> None:
    """By its annotation or by its type, by position or by name: the platform compares what the model gave."""
    run()
    (tool,) = tools_of(call)
    assert tool.parameters == parameters


def test_the_kind_of_the_class_of_a_parameter_is_read() -> None:
    """An annotation that is a class tells by its bases."""
    annotations: dict[str, Any] = {"ctx": OwnContext, "city": str}

    def look_up(ctx: Any, city: Any) -> None:
        pass

    look_up.__annotations__ = annotations
    assert tools._Tool(look_up, None, None).contexts == {"ctx"}


class FunctionTool:
    """What a framework's decorator makes of a function."""

    on_invoke_tool = None

    def __call__(self) -> None:
        """Run it."""


class OtherTool:
    """The same, of a framework that is known by its name only."""

    def __call__(self) -> None:
        """Run it."""


OtherTool.__module__ = "livekit.agents.llm.tool_context"


@pytest.mark.parametrize(
    ("wrong", "way_out"),
    [
        (FunctionTool(), "below that decorator"),
        (OtherTool(), "below that decorator"),
        ("weather", r"record_tool\(name='weather'\)"),
        (5, "takes a function, not int"),
        (OwnContext, "the class OwnContext"),
    ],
)
def test_what_is_no_function_is_refused_where_it_is_decorated(wrong: Any, way_out: str) -> None:
    """Nobody finds out after the first simulation that a tool is neither the framework's nor recorded."""
    with pytest.raises(TypeError, match=way_out):
        record_tool(wrong)


@pytest.mark.parametrize("options", [{"name": 5}, {"description": b"x"}])
def test_a_name_that_is_no_string_is_refused(options: dict[str, Any]) -> None:
    """The same holds for the decorator's arguments."""
    with pytest.raises(TypeError, match="must be a string"):
        record_tool(**options)


def test_a_generator_made_in_a_call_is_recorded_wherever_it_is_pulled(call: Call) -> None:
    """An executor's thread has no context of the call: the recorder is the one of where the generator was made."""

    async def main() -> tuple[list[int], list[str]]:
        loop = asyncio.get_running_loop()
        made, letters_made = numbers(2), letters("ab")
        with ThreadPoolExecutor(1) as pool:
            pulled = await loop.run_in_executor(pool, list, made)
            return pulled, await loop.run_in_executor(pool, asyncio.run, everything(letters_made))

    async def everything(items: AsyncGenerator[str, str]) -> list[str]:
        return [item async for item in items]

    assert asyncio.run(main()) == ([0, 1], ["a", "b"])
    assert [tool.name for tool in tools_of(call)] == ["count_up", "letters"]


def test_outside_a_simulation_a_generator_is_the_tools_own() -> None:
    """Nothing is wrapped, and no item is kept."""
    generators: list[Any] = [numbers(1), letters("a")]
    assert [one.__qualname__ for one in generators] == ["numbers", "letters"]


def test_an_interpreter_that_reads_the_flag_otherwise_gets_no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool works all the same; only `inspect` sees a plain function."""
    monkeypatch.setattr(tools, "_KINDS_CAN_BE_TOLD", False)

    @record_tool
    def count() -> Generator[int, None, None]:
        yield 1

    assert not inspect.isgeneratorfunction(count)
    assert list(count()) == [1]


def test_where_code_cannot_be_marked_that_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An implementation without the flag is no error."""
    monkeypatch.delattr(inspect, "CO_GENERATOR")
    assert tools._kinds_can_be_told() is False


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_refused(name: str) -> None:
    """The platform compares names; a mistake must not be the function's own name instead."""
    with pytest.raises(TypeError, match="empty"):
        record_tool(name=name)(len)


def add(first: int, second: int) -> int:
    """Add two numbers."""
    return first + second


class Adder:
    """A tool that is an object."""

    async def __call__(self, number: int) -> AsyncGenerator[int, None]:
        yield number

    def count(self, number: int) -> Generator[int, None, None]:
        """Count up."""
        yield from range(number)


class Counter:
    def __call__(self, number: int) -> Generator[int, None, None]:
        """Count up to a number."""
        yield from range(number)


def test_a_partial_is_known_by_what_it_calls(call: Call) -> None:
    """Its own name and description say nothing."""
    assert record_tool(functools.partial(functools.partial(add, 1)))(2) == 3
    assert list(record_tool(functools.partial(Adder().count, 2))()) == [0, 1]
    first, second = tools_of(call)
    assert (first.name, first.parameters, first.description) == ("add", {"second": 2}, "Add two numbers.")
    assert (second.name, second.parameters, second.output) == ("count", {}, [0, 1])


def test_an_object_whose_call_is_a_generator_is_recorded_as_one(call: Call) -> None:
    """Its items are the output, and not the generator; the description is that of what runs."""

    async def everything() -> list[int]:
        return [item async for item in record_tool(Adder())(5)]

    assert asyncio.run(everything()) == [5]
    assert list(record_tool(Counter())(2)) == [0, 1]
    first, second = tools_of(call)
    assert (first.name, first.output, first.description) == ("Adder", [5], "A tool that is an object.")
    assert (second.name, second.output, second.description) == ("Counter", [0, 1], "Count up to a number.")


def test_a_generator_that_a_plain_tool_returns_is_recorded_as_it_is_pulled(call: Call) -> None:
    """Another decorator stands in between."""

    def plain(number: int) -> Any:
        return (item for item in range(number))

    def plain_async(number: int) -> Any:
        return Adder()(number)

    async def everything() -> list[int]:
        return [item async for item in record_tool(plain_async)(5)]

    assert list(record_tool(plain)(2)) == [0, 1]
    assert asyncio.run(everything()) == [5]
    assert [tool.output for tool in tools_of(call)] == [[0, 1], [5]]


def test_a_tool_that_is_decorated_twice_is_recorded_once(call: Call) -> None:
    """Where it is defined, and where it is registered; the later name counts."""
    once = record_tool(add)
    assert record_tool(once) is once
    assert record_tool(name="sum")(once)(1, 2) == 3

    @functools.wraps(once)
    def under_another(*args: Any) -> Any:
        return once(*args) + 1

    assert record_tool(name="other")(under_another)(1, 2) == 4
    assert [tool.name for tool in tools_of(call)] == ["sum", "other", "add"]


def test_a_users_own_package_of_a_frameworks_name_is_no_framework() -> None:
    """`agents` is a common name; a user's own class that is a framework's tool is refused by its base."""
    own = type("Own", (Adder,), {"__module__": "agents.tools"})
    record_tool(own())
    with pytest.raises(TypeError, match="below that decorator"):
        record_tool(type("Own", (OtherTool,), {"__module__": "mine"})())
    with pytest.raises(TypeError, match="below that decorator"):
        record_tool(type("Hosted", (), {"__module__": "agents.tool"})())
