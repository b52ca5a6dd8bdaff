"""`simulated_tools`: in a simulated call a stand-in answers, and the report says that it did."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws import record_tool, simulated_tools
from bluejay_ws.current import enter, leave
from tests.support import Call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

REAL: list[Any] = []


def transparent(function: Callable[..., Any]) -> Callable[..., Any]:
    """Stand for any decorator that makes a plain function of a coroutine function."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


@pytest.fixture
def call() -> Iterator[Call]:
    """Give a call that is the current one."""
    call = Call()
    before = enter(call.recorder)
    yield call
    leave(call.recorder, before)


@record_tool
def book_table(people: int, *, at: str = "noon") -> object:
    """Book a table."""
    REAL.append((people, at))
    return "real"


@record_tool
async def look_up(name: str) -> object:
    """Look somebody up."""
    REAL.append(name)
    return "real"


@record_tool
def courses(people: int) -> Generator[object, None, None]:
    """List the courses."""
    REAL.append(people)
    yield "real"


@record_tool
async def dishes(people: int) -> AsyncGenerator[object, None]:
    """List the dishes."""
    REAL.append(people)
    yield "real"


@record_tool
@transparent
async def wrapped(name: str) -> object:
    """Run below another decorator."""
    REAL.append(name)
    return "real"


@pytest.fixture(autouse=True)
def _nothing_real_yet() -> None:
    REAL.clear()


def echo(**parameters: object) -> object:
    """Answer with what was asked."""
    return parameters


async def echo_later(**parameters: object) -> object:
    """Answer with what was asked, as a coroutine."""
    return parameters


def test_a_plain_tool_is_not_run_and_its_call_is_marked(call: Call) -> None:
    """The stand-in gets the parameters by name, and the description begins with ``mocked:``."""
    with simulated_tools({"book_table": echo}):
        assert book_table(2, at="eight") == {"people": 2, "at": "eight"}
    assert REAL == []
    assert book_table(3) == "real"
    mocked, real = call.report().tool_calls or []
    assert mocked.parameters == {"people": 2, "at": "eight"}
    assert mocked.output == {"people": 2, "at": "eight"}
    assert (mocked.description, real.description) == ("mocked: Book a table.", "Book a table.")


def test_outside_a_simulation_the_real_tool_runs() -> None:
    """Production calls never meet a stand-in."""
    with simulated_tools({"book_table": echo}):
        assert book_table(2) == "real"
    assert REAL == [(2, "noon")]


@pytest.mark.anyio
@pytest.mark.parametrize("other", [echo, echo_later])
@pytest.mark.parametrize("tool", [look_up, wrapped])
async def test_an_async_tool_takes_both_kinds_of_stand_ins(call: Call, other: Any, tool: Any) -> None:
    """Also below another decorator, where only the result shows that the tool is async."""
    with simulated_tools({"look_up": other, "wrapped": other}):
        assert await tool("Ada") == {"name": "Ada"}
    assert REAL == []
    (mocked,) = call.report().tool_calls or []
    assert str(mocked.description).startswith("mocked: ")
    assert mocked.output == {"name": "Ada"}


@pytest.mark.parametrize(("answer", "items"), [([1, 2], [1, 2]), ({"a": 1}, [{"a": 1}]), (iter("ab"), ["a", "b"])])
def test_a_generator_yields_the_stand_ins_items(call: Call, answer: object, items: list[object]) -> None:
    """A list and an iterator are items, anything else is the only one."""
    with simulated_tools({"courses": lambda **_: answer}):
        assert list(courses(2)) == items
    assert REAL == []
    (mocked,) = call.report().tool_calls or []
    assert (mocked.description, mocked.output) == ("mocked: List the courses.", items)


async def _two(**_: object) -> AsyncGenerator[object, None]:
    yield 1
    yield 2


async def _list(**_: object) -> object:
    return [1, 2]


@pytest.mark.anyio
@pytest.mark.parametrize("other", [_two, _list, lambda **_: (1, 2)])
async def test_an_async_generator_takes_every_kind_of_stand_in(call: Call, other: Any) -> None:
    """An async generator, a coroutine and a plain function."""
    with simulated_tools({"dishes": other}):
        assert [item async for item in dishes(2)] == [1, 2]
    assert REAL == []
    (mocked,) = call.report().tool_calls or []
    assert mocked.output == [1, 2]


def test_what_a_stand_in_raises_is_the_tools_failure(call: Call) -> None:
    """It reaches the agent, and the report."""

    def fail(**_: object) -> object:
        raise LookupError("full")

    with simulated_tools({"book_table": fail}), pytest.raises(LookupError, match="full"):
        book_table(2)
    (mocked,) = call.report().tool_calls or []
    assert mocked.output == {"status": "failed", "error": "LookupError", "message": "full"}


def test_arguments_that_the_tool_refuses_are_refused(call: Call) -> None:
    """A model that leaves a parameter out does not pass because of the stand-in."""
    wrong: Any = book_table
    with simulated_tools({"book_table": echo}), pytest.raises(TypeError, match="people"):
        wrong(at="eight")
    assert len(call.report().tool_calls or []) == 1


def test_a_tool_without_a_signature_gets_what_there_is(call: Call) -> None:
    """Some builtins have none."""
    builtin: Any = max
    tool: Any = record_tool(name="spread")(builtin)
    with simulated_tools({"spread": echo}):
        assert tool(1, 2) == {"args": (1, 2)}
    assert call.report().tool_calls


def test_the_inner_block_goes_first(call: Call) -> None:
    """And the outer one is back after it."""
    del call
    with simulated_tools({"book_table": lambda **_: "outer"}):
        with simulated_tools({"book_table": lambda **_: "inner"}):
            assert book_table(1) == "inner"
        assert book_table(1) == "outer"
    assert book_table(1) == "real"


@pytest.mark.parametrize(
    ("tools", "error", "words"),
    [
        ({"bok_table": echo}, ValueError, "no function under @record_tool is named 'bok_table'.*book_table"),
        ({"book_table": 5}, TypeError, "the stand-in for 'book_table' must be a function, not int"),
        ([echo], TypeError, "a mapping of names to functions, not list"),
    ],
)
def test_a_mistake_is_said_before_anything_runs(tools: Any, error: type[Exception], words: str) -> None:
    """Else a slip of the pen would book a real table."""
    with pytest.raises(error, match=words), simulated_tools(tools):
        pytest.fail("never entered")
