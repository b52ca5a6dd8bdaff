"""`record_tool`: every call of a function, as a tool call of the call it runs for."""

from __future__ import annotations

import contextlib
import functools
import inspect
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from bluejay_ws.current import current_recorder
from bluejay_ws.recorder import DECORATED_TOOLS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping

    from bluejay_ws.blocks import ToolCallBlock

__all__ = ["record_tool"]

P = ParamSpec("P")
R = TypeVar("R")

# What a tool's generator yielded is its output; beyond this many items only the count goes on.
YIELDED_LIMIT = 1_000


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
    one that is current when it is called, or, for generators, when iteration begins. What a generator yields
    is its output, as a list. ``self`` and ``cls`` are not parameters.

    Args:
        function: the tool; given by the decorator without parentheses.
        name: the name the platform compares; default the function's ``__name__``.
        description: default the first line of the function's docstring.
    """
    if isinstance(function, staticmethod | classmethod):
        inner: Any = record_tool(name=name, description=description)(function.__func__)
        return cast("Callable[..., Any]", type(function)(inner))
    if function is None:
        return cast("Callable[..., Any]", functools.partial(record_tool, name=name, description=description))
    tool = _Tool(function, name, description)
    DECORATED_TOOLS.add(tool.name)
    wrapper: Callable[P, R] = _wrapper(tool, function)
    return wrapper


class _Tool:
    """A decorated function's facts, read once."""

    __slots__ = ("description", "name", "signature")

    def __init__(self, function: Callable[..., Any], name: str | None, description: str | None) -> None:
        self.name: str = name or str(getattr(function, "__name__", type(function).__name__))
        doc = inspect.getdoc(function) or ""
        self.description = description or doc.partition("\n")[0] or None
        try:
            self.signature: inspect.Signature | None = inspect.signature(function)
        except (TypeError, ValueError):  # some builtins have none
            self.signature = None

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ToolCallBlock:
        return current_recorder().tool_call(self.name, self.parameters(args, kwargs), self.description)

    def parameters(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any]:
        """Return the arguments by the names the function gives them; wrong arguments are the function's affair."""
        if not args:
            return dict(kwargs)
        try:
            bound = self.signature.bind(*args, **kwargs).arguments if self.signature else {"args": args, **kwargs}
        except TypeError:
            return {"args": args, **kwargs}
        flat: dict[str, Any] = {}
        for name, value in bound.items():
            flat.update(value if self._is_keywords(name) else {name: value})
        first = next(iter(flat), None)
        if first in {"self", "cls"}:
            del flat[first]
        return flat

    def _is_keywords(self, name: str) -> bool:
        return self.signature is not None and self.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD


def _wrapper(tool: _Tool, function: Callable[..., Any]) -> Any:
    kind = getattr(function, "__func__", function)
    if inspect.isasyncgenfunction(kind):
        make = _async_generator
    elif inspect.isgeneratorfunction(kind):
        make = _generator
    elif inspect.iscoroutinefunction(kind) or inspect.iscoroutinefunction(getattr(kind, "__call__", None)):  # noqa: B004
        make = _coroutine
    else:
        make = _plain
    return functools.wraps(function)(make(tool, function))


def _plain(tool: _Tool, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if not current_recorder().active:
            return function(*args, **kwargs)
        with contextlib.ExitStack() as ending:
            block = ending.enter_context(tool.begin(args, kwargs))
            result = function(*args, **kwargs)
            # An async tool under another decorator: its work is yet to come. A result is not asked what it is.
            if type(result) is CoroutineType:
                return _awaited(result, block, ending.pop_all())
            block.output = result
            return result

    return call


async def _awaited(running: Coroutine[Any, Any, R], block: ToolCallBlock, ending: contextlib.ExitStack) -> R:
    with ending:
        block.output = result = await running
        return result


def _coroutine(tool: _Tool, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        if not current_recorder().active:
            return await function(*args, **kwargs)
        with tool.begin(args, kwargs) as block:
            result = await function(*args, **kwargs)
            block.output = result
            return result

    return call


class _Yielded:
    """The first items of a generator, and how many there were."""

    __slots__ = ("count", "items")

    def __init__(self) -> None:
        self.count = 0
        self.items: list[Any] = []

    def add(self, item: object) -> None:
        self.count += 1
        if self.count <= YIELDED_LIMIT:
            self.items.append(item)

    def output(self) -> object:
        if self.count <= YIELDED_LIMIT:
            return self.items
        return [*self.items, f"...[cut: {self.count} items]"]


def _generator(tool: _Tool, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        if not current_recorder().active:
            return (yield from function(*args, **kwargs))
        yielded = _Yielded()
        with tool.begin(args, kwargs) as block:
            try:
                return (yield from _noted(function(*args, **kwargs), yielded))
            finally:
                block.output = yielded.output()

    return call


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


def _async_generator(tool: _Tool, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        yielded = _Yielded()
        generator = function(*args, **kwargs)
        with tool.begin(args, kwargs) as block:
            step, sent = generator.asend, None
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

    return call
