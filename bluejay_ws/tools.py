"""`record_tool`: every call of a function, as a tool call of the call it runs for."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from pydantic_core import from_json

from bluejay_ws.current import current_recorder
from bluejay_ws.interrupts import of_a_value
from bluejay_ws.recorder import DECORATED_TOOLS
from bluejay_ws.simulated import stand_in
from bluejay_ws.wire.encode import ITEM_LIMIT, encode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping

    from bluejay_ws.blocks import ToolCallBlock
    from bluejay_ws.recorder import Recorder
    from bluejay_ws.wire.encode import Encoded

P = ParamSpec("P")
R = TypeVar("R")

# What a tool's generator yielded is its output; what comes after so many items, or beyond the size of one item of a
# report, is only counted.
YIELDED_LIMIT = 1_000
# The description of a tool call that a stand-in answered begins so: the platform's schema has no field for it.
MOCKED = "mocked:"

# What frameworks hand to a tool beside what the model gave. It may hold the whole conversation.
CONTEXTS = frozenset({"RunContextWrapper", "RunContext", "ToolContext", "FunctionCallParams"})
# Their decorators make objects of functions; a wrapper round one is a tool that neither they nor we know any more.
FRAMEWORKS = frozenset({
    *("agents", "livekit", "pipecat", "google", "langchain", "langchain_core", "pydantic_ai", "crewai", "llama_index"),
    *("smolagents", "autogen_core", "strands", "line"),
})  # fmt: skip
# Names that users give packages of their own too: of these only what cannot be called is taken for a tool object.
_COMMON_NAMES = frozenset({"agents", "google", "line"})
_MARK = "_bluejay_recorded_tool"
_CONTEXT_NAME = re.compile(rf"(?<!\w)(?:{'|'.join(sorted(CONTEXTS))})(?!\w)")


@overload
def record_tool(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def record_tool(
    function: None = None, /, *, name: str | None = None, description: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def record_tool(
    function: Callable[P, R] | None = None, /, *, name: str | None = None, description: str | None = None
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Record every call of a tool: its name, parameters, output and time.

    The function itself does not change: same signature, result, exceptions and kind (plain, ``async``,
    generator, async generator). Outside a simulation it is called directly. The call it belongs to is the
    one that is current when it is called; what a generator yields is its output, as a list. ``self``, ``cls``
    and a framework's context (``RunContextWrapper``, ``RunContext``, ``ToolContext``, ``FunctionCallParams``) are
    not parameters. A tool that is decorated twice is recorded once.

    Args:
        function: the tool; given by the decorator without parentheses.
        name: the name the platform compares; default the function's ``__name__``.
        description: default the first line of the function's docstring.

    Raises:
        TypeError: ``function`` cannot be called, is a class, or a framework's tool object; ``name`` is no string,
            or empty.
    """
    _check(function, name, description)
    if function is not None and getattr(function, _MARK, None) is function:  # recorded already
        if name is None and description is None:
            return function  # type: ignore[return-value] # mypy forgets what it narrowed
        function = function.__wrapped__  # type: ignore[union-attr]
    if isinstance(function, staticmethod | classmethod):
        inner: Any = record_tool(name=name, description=description)(function.__func__)
        return cast("Callable[..., Any]", type(function)(inner))
    if function is None:
        return cast("Callable[..., Any]", functools.partial(record_tool, name=name, description=description))
    tool = _Tool(function, name, description)
    DECORATED_TOOLS.add(tool.name)
    wrapper: Callable[P, R] = _wrapper(tool, function)
    setattr(wrapper, _MARK, wrapper)  # a decorator above copies it, and then it is another function's
    return wrapper


def _check(function: object, name: object, description: object) -> None:
    """Refuse at once what could only be noticed when the first call is over.

    Raises:
        TypeError: with the way out.
    """
    for what, value in (("name", name), ("description", description)):
        if not isinstance(value, str | None):
            raise TypeError(f"record_tool: {what} must be a string, not {type(value).__name__}")
    if isinstance(name, str) and not name.strip():
        reason = "the platform compares a tool's name, and this one is empty; leave it out or give one"
        raise TypeError(f"record_tool: {reason}")
    if isinstance(function, str):
        raise TypeError(f"record_tool takes a function; to give the tool a name write @record_tool(name={function!r})")
    if function is None or isinstance(function, staticmethod | classmethod):
        return
    if isinstance(function, type):
        kind, remedy = f"the class {function.__qualname__}", "decorate its method, or an instance"
        raise TypeError(f"record_tool cannot record {kind}: {remedy}")
    if _is_tool_object(function):
        reason = "a framework's decorator has made a tool object of the function"
        remedy = "Write @record_tool below that decorator, next to the function"
        raise TypeError(f"record_tool cannot record a {type(function).__qualname__}: {reason}. {remedy}")
    if not callable(function):
        raise TypeError(f"record_tool takes a function, not {type(function).__name__}")


def _is_tool_object(function: object) -> bool:
    """Return whether this is what a framework makes of a function; a user's own callable object is not."""
    if inspect.isroutine(function) or isinstance(function, functools.partial):
        return False
    homes = {one.__module__.partition(".")[0] for one in type(function).__mro__} & FRAMEWORKS
    return hasattr(function, "on_invoke_tool") or bool(homes - _COMMON_NAMES if callable(function) else homes)


class _Tool:
    """A decorated function's facts, read once."""

    __slots__ = ("contexts", "description", "keywords", "name", "signature")

    def __init__(self, function: Callable[..., Any], name: str | None, description: str | None) -> None:
        named = _behind_partials(function)
        self.name: str = name or str(getattr(named, "__name__", type(named).__name__))
        doc = inspect.getdoc(named) or inspect.cleandoc(getattr(_runs(named), "__doc__", None) or "")
        self.description = description or doc.partition("\n")[0] or None
        try:
            self.signature: inspect.Signature | None = inspect.signature(function)
        except (TypeError, ValueError):  # some builtins have none
            self.signature = None
        parameters = {} if self.signature is None else self.signature.parameters
        kinds = {facts.kind: one for one, facts in parameters.items()}
        self.keywords = kinds.get(inspect.Parameter.VAR_KEYWORD)  # the name of `**kwargs`
        self.contexts = frozenset(one for one, facts in parameters.items() if _is_context(facts.annotation))

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, mocked: bool = False) -> ToolCallBlock:
        description = f"{MOCKED} {self.description or self.name}" if mocked else self.description
        return current_recorder().tool_call(self.name, self.parameters(args, kwargs), description)

    def instead(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a stand-in by name; arguments that the tool would refuse are refused.

        Raises:
            TypeError: as the tool would.
        """
        if self.signature is not None:
            self.signature.bind(*args, **kwargs)
        return function(**self.parameters(args, kwargs))

    def parameters(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any]:
        """Return the arguments by the names the function gives them; wrong arguments are the function's affair."""
        if not args:
            return self._without_contexts(kwargs)
        try:
            bound = self.signature.bind(*args, **kwargs).arguments if self.signature else {"args": args, **kwargs}
        except TypeError:
            return {"args": args, **kwargs}
        flat: dict[str, Any] = {}
        for name, value in bound.items():
            flat.update(value if name == self.keywords else {name: value})
        first = next(iter(flat), None)
        if first in {"self", "cls"}:
            del flat[first]
        return self._without_contexts(flat)

    def _without_contexts(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return a copy without what the framework gave."""
        return {
            name: value
            for name, value in given.items()
            if name not in self.contexts and not _is_context_type(type(value))  # type: ignore[arg-type]
        }


def _behind_partials(function: Any) -> Any:
    """Return what a `functools.partial` calls in the end; anything else as it is."""
    while isinstance(function, functools.partial | functools.partialmethod):
        function = function.func
    return function


def _runs(function: Any) -> Any:
    """Return the function that a call runs: of an object its ``__call__``."""
    if inspect.isroutine(function):
        return getattr(function, "__func__", function)
    return getattr(type(function), "__call__", function)  # noqa: B004 - it may be a generator function


@functools.lru_cache(maxsize=256)
def _is_context_type(kind: Any) -> bool:
    """Return whether a value of this type is a framework's context, or a user's own kind of it."""
    return any(base.__name__ in CONTEXTS for base in kind.__mro__)


def _is_context(annotation: object) -> bool:
    """Return whether a parameter's annotation, a type or text, names a framework's context."""
    if annotation is inspect.Parameter.empty:
        return False
    if isinstance(annotation, type):
        return _is_context_type(annotation)
    return _CONTEXT_NAME.search(annotation if isinstance(annotation, str) else repr(annotation)) is not None


def _wrapper(tool: _Tool, function: Callable[..., Any]) -> Any:
    kind = _runs(_behind_partials(function))
    if inspect.isasyncgenfunction(kind):
        call = _generator(tool, function, _yielding_async, _recorded_async)
        return functools.wraps(function)(_of_kind(inspect.CO_ASYNC_GENERATOR, call))
    if inspect.isgeneratorfunction(kind):
        call = _generator(tool, function, _yielding, _recorded)
        return functools.wraps(function)(_of_kind(inspect.CO_GENERATOR, call))
    make = _coroutine if inspect.iscoroutinefunction(kind) else _plain
    return functools.wraps(function)(make(tool, function))


def _plain(tool: _Tool, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if not current_recorder().active:
            return function(*args, **kwargs)
        other = stand_in(tool.name)
        block = tool.begin(args, kwargs, mocked=other is not None).__enter__()
        try:
            if other is None:
                result = function(*args, **kwargs)
            else:
                result = tool.instead(other, args, kwargs)
                if inspect.iscoroutinefunction(inspect.unwrap(function)) and not inspect.isawaitable(result):
                    result = _ready(result)
        except BaseException as error:
            block.__exit__(type(error), error, error.__traceback__)
            raise
        # An async tool, or a generator, under another decorator: its work is yet to come. A result is not asked
        # what it is.
        if type(result) is CoroutineType:
            return _awaited(result, block, _end_of(block))
        if type(result) is GeneratorType:
            return _recorded(result, block, _Yielded(current_recorder()), _end_of(block))
        if type(result) is AsyncGeneratorType:
            return _recorded_async(result, block, _Yielded(current_recorder()), _end_of(block))
        block.output = result
        block.__exit__(None, None, None)
        return result

    return call


def _end_of(block: ToolCallBlock) -> contextlib.ExitStack:
    """Return what leaves a block that has been entered."""
    ending = contextlib.ExitStack()
    ending.push(block)
    return ending


async def _ready(result: R) -> R:
    """Make of a stand-in's answer what an async tool would return."""
    return result


async def _awaited(running: Coroutine[Any, Any, R], block: ToolCallBlock, ending: contextlib.ExitStack) -> R:
    with ending:
        block.output = result = await running
        return result


def _coroutine(tool: _Tool, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        if not current_recorder().active:
            return await function(*args, **kwargs)
        other = stand_in(tool.name)
        with tool.begin(args, kwargs, mocked=other is not None) as block:
            if other is None:
                result = await function(*args, **kwargs)
            else:
                result = tool.instead(other, args, kwargs)
                if inspect.isawaitable(result):
                    result = await result
            block.output = result
            return result

    return call


class _Yielded:
    """The first items of a generator, each as it stood when it was yielded, and how many there were."""

    __slots__ = ("count", "items", "mapped", "recorder", "room")

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.count = 0
        self.items: list[Any] = []
        self.mapped = False
        self.room = ITEM_LIMIT // 2  # the tool's name and parameters take their part of the item

    def add(self, item: object) -> None:
        self.count += 1
        if self.room <= 0 or len(self.items) >= YIELDED_LIMIT:
            return
        try:
            self._keep(encode(item, limit=self.room))
        except BaseException as error:  # no error of ours or of a value reaches the tool
            if not of_a_value(error):
                raise
            self.recorder.failed("output", error)

    def _keep(self, found: Encoded) -> None:
        """Keep an item as JSON: a tool may yield one object again and again, or many that are large."""
        if found.mapped and not self.mapped:  # once for a tool call, as everywhere
            self.mapped = True
            self.recorder.count("mapped.output")
        if found.cut:
            self.recorder.count("cut.output")
        self.room = 0 if found.cut else self.room - len(found.json) - 1
        self.items.append(from_json(found.json))

    def output(self) -> object:
        if self.count == len(self.items):
            return self.items
        return [*self.items, f"...[cut: {self.count} items]"]


def _of_kind(flag: int, wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Let a plain function that returns a generator be known as a generator function, as what it wraps is.

    A real one would run nothing until it is iterated, perhaps in another context, where the call is not known any more.
    """
    return _flagged(wrapper, flag) if _KINDS_CAN_BE_TOLD else wrapper


def _flagged(function: Callable[..., Any], flag: int) -> Callable[..., Any]:
    """Return the same function with one more flag on its code; a new object, as Python 3.13 warns of a changed one."""
    code = function.__code__.replace(co_flags=function.__code__.co_flags | flag)
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


def _kinds_can_be_told() -> bool:
    """Return whether this interpreter takes a code's flag for what it says, and makes its generators otherwise."""
    try:
        probe = _flagged(lambda: 1, inspect.CO_GENERATOR)
        return probe() == 1 and inspect.isgeneratorfunction(probe)
    except Exception:  # noqa: BLE001 - then tools that are generators are plain functions that return one
        return False


_KINDS_CAN_BE_TOLD = _kinds_can_be_told()


def _generator(
    tool: _Tool, function: Callable[..., Any], yielding: Callable[..., Any], recorded: Callable[..., Any]
) -> Callable[..., Any]:
    """Return what makes a recorded generator, async or not, as ``yielding`` and ``recorded`` are."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if not current_recorder().active:
            return function(*args, **kwargs)
        other = stand_in(tool.name)
        generator = function(*args, **kwargs) if other is None else yielding(tool, other, args, kwargs)
        yielded = _Yielded(current_recorder())
        return recorded(generator, tool.begin(args, kwargs, mocked=other is not None), yielded)

    return call


def _items(result: object) -> Iterable[Any]:
    """Return what a stand-in's answer yields, where a generator stands in place of it."""
    return result if isinstance(result, list | tuple | Iterator) else [result]


def _yielding(
    tool: _Tool, other: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, Any, Any]:
    yield from _items(tool.instead(other, args, kwargs))


async def _yielding_async(
    tool: _Tool, other: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[Any, Any]:
    result = tool.instead(other, args, kwargs)
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, AsyncIterator):
        async for item in result:
            yield item
    else:
        for item in _items(result):
            yield item


def _recorded(
    generator: Generator[Any, Any, Any],
    block: ToolCallBlock,
    yielded: _Yielded,
    ending: contextlib.ExitStack | None = None,
) -> Generator[Any, Any, Any]:
    """Pass a generator on, and note what it yields; ``ending`` leaves a block that was entered before."""
    with ending or block:
        try:
            return (yield from _noted(generator, yielded))
        finally:
            block.output = yielded.output()


def _noted(generator: Generator[Any, Any, Any], yielded: _Yielded) -> Generator[Any, Any, Any]:
    """Pass a generator on, both ways, noting what it yields."""
    sent: Any = None
    step: Callable[[Any], Any] = generator.send
    while True:
        try:
            item = step(sent)
        except StopIteration as stop:
            return stop.value
        yielded.add(item)
        step, sent = generator.send, None
        try:
            sent = yield item
        except GeneratorExit:
            generator.close()
            raise
        except BaseException as error:  # noqa: BLE001 - thrown in by the consumer: the tool's own affair
            step, sent = generator.throw, error


async def _recorded_async(
    generator: AsyncGenerator[Any, Any],
    block: ToolCallBlock,
    yielded: _Yielded,
    ending: contextlib.ExitStack | None = None,
) -> AsyncGenerator[Any, Any]:
    with ending or block:
        step: Callable[[Any], Any] = generator.asend
        sent: Any = None
        while True:
            try:
                item = await step(sent)
            except StopAsyncIteration:
                return
            finally:
                block.output = yielded.output()
            yielded.add(item)
            step, sent = generator.asend, None
            try:
                sent = yield item
            except GeneratorExit:
                block.output = yielded.output()
                await generator.aclose()
                raise
            except BaseException as error:  # noqa: BLE001 - thrown in by the consumer: the tool's own affair
                step, sent = generator.athrow, error
