"""The tool calls of one provider connection: each is recorded once, whatever comes first, twice, or without an id."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from bluejay_ws.integrations.messages import parsed
from bluejay_ws.wire.items import OMITTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bluejay_ws.blocks import ToolCallBlock
    from bluejay_ws.recorder import Recorder

KEPT = 1_000  # so many tool calls of a connection are remembered
_UNANSWERED = object()
_NO_ID = object()


class ToolCall:
    """What is known of one tool call, from its first mention on.

    Attributes:
        by_model: whether the model asked for it on this connection; else the client may only repeat what was before.
        response: the reply that it belongs to, where the provider says so.
        pieces: its arguments as they come in, until they are whole.
        start: when it began, if its arguments come later.
        outcome: what became of it, unless it is answered after all.
    """

    __slots__ = (
        "answer", "arguments", "begun", "block", "by_model", "key", "name", "outcome", "pieces", "response", "start",
        "twin",
    )  # fmt: skip

    def __init__(self, key: Any) -> None:
        self.key = key
        self.name: str | None = None
        self.arguments: Any = None
        self.block: ToolCallBlock | None = None  # while it is open
        self.begun = self.by_model = False
        self.answer: Any = _UNANSWERED  # seen before the call itself
        self.twin: ToolCall | None = None  # another one with the same id, open at the same time
        self.response: Any = None
        self.pieces: str | None = None
        self.start: int | None = None
        self.outcome: Any = None

    def is_another(self, name: str | None, arguments: Any, *, another: bool) -> bool:
        """Return whether a call is not this one, though it has its id."""
        known = self.arguments
        differs = type(known) is dict is type(arguments) and known != arguments and bool(known and arguments)
        return self.block is not None or another or differs or self.renamed(name)

    def renamed(self, name: str | None) -> bool:
        """Return whether a call of this name is not this one."""
        return bool(name) and name != self.name


class ToolCalls:
    """The tool calls of one connection.

    ``elsewhere`` returns those of the call's other connections to the same provider: a connection that was lost and
    opened again answers what the one before it was asked.
    """

    def __init__(self, recorder: Recorder, elsewhere: Callable[[], Iterable[ToolCalls]] = tuple) -> None:
        self._recorder = recorder
        self._elsewhere = elsewhere
        self._calls: dict[Any, ToolCall] = {}
        self._unnamed = count(1)
        self._descriptions: dict[str, str | None] = {}

    def describe(self, tools: Iterable[dict[str, Any]] | None) -> None:
        """Take the tools' descriptions from the provider's settings."""
        for tool in tools or ():
            facts = tool.get("function") or tool
            name, description = facts.get("name"), facts.get("description")
            if type(name) is str:
                self._descriptions[name] = description if type(description) is str else None

    def of(self, key: Any) -> ToolCall:
        """Return what is known of a call; perhaps nothing yet."""
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = ToolCall(key)
            forget_oldest(self._calls, KEPT)
        return call

    def known(self) -> list[ToolCall]:
        """Return all that were mentioned, in order."""
        return list(self._calls.values())

    def open(self) -> list[ToolCall]:
        """Return those that have begun and are not over, in order."""
        return [call for call in self._calls.values() if call.block is not None]

    def begin(
        self, key: Any, name: str | None, arguments: Any, description: str | None = None, *, another: bool = False
    ) -> None:
        """Open a tool call; the same ``key`` is the same call, None is always another one.

        Some services count their ids anew in each reply: what is plainly ``another`` call is one, whatever its id.
        """
        call = self.of((_NO_ID, next(self._unnamed)) if key is None else key)
        if call.block is not None and (call.twin is not None or not call.renamed(name)):
            return  # told again, as most are several times
        arguments = {} if arguments == "" else parsed(arguments)  # JSON text of many providers, and none as empty text
        if call.begun and not call.is_another(name, arguments, another=another):
            return
        if not call.begun and self._waits_elsewhere(key, name or call.name, arguments):
            return
        if call.block is not None:  # both are open: the first answer is the first one's
            call.twin = call = self.of((_NO_ID, next(self._unnamed)))
        call.name = name = name or call.name or "unknown"
        call.arguments, call.begun = arguments, True
        block = self._recorder.tool_call(name, arguments, description or self._descriptions.get(name))
        if call.start is not None:
            block.start_offset_ms = call.start
        call.block = block.__enter__()
        if call.answer is not _UNANSWERED:
            answer, call.answer = call.answer, _UNANSWERED
            _leave(call, answer)

    def answered(self, key: Any, output: Any, name: Any = None, *, failed: object = False) -> None:
        """End a tool call with what it answered; if it ``failed``, with why."""
        said = parsed(output)
        self.end(key, {"status": "failed", "message": said} if failed else said, name)

    def cancelled(self, key: Any, status: str = "cancelled") -> None:
        """End a tool call that was called off."""
        self.end(key, {"status": status})

    def ended(self, key: Any) -> None:
        """End a tool call whose output is not to be seen here."""
        self.end(key, OMITTED)

    def end(self, key: Any, output: Any, name: Any = None) -> None:
        """End a tool call; what comes before its call waits for it.

        Without a key, or with an id that is not known, that is the oldest open one that fits, by its name where that is
        known.
        """
        call = self._calls.get(key)
        if call is not None and call.block is None and call.twin is not None:
            call, call.twin = call.twin, None
        if call is None or not call.begun:
            call = self._without_id(key, name) or self._of_another(key) or (None if key is None else self.of(key))
        if call is not None and call.block is not None:
            _leave(call, output)
        elif call is not None and not call.begun:
            call.answer = output

    def _without_id(self, key: Any, name: Any) -> ToolCall | None:
        """Return the oldest open call of this name for an answer without an id; else one that came without an id."""
        fits = [one for one in self.open() if name is None or one.name == name]
        unnamed = [one for one in fits if type(one.key) is tuple and one.key[0] is _NO_ID]
        found = unnamed or (fits if key is None and name is not None else [])
        return found[0] if found else None

    def _waits_elsewhere(self, key: Any, name: str | None, arguments: Any) -> bool:
        """Return whether a connection before this one was asked for it: a session that is resumed asks again."""
        waits = self._of_another(key)
        return waits is not None and waits.name == name and waits.arguments == arguments

    def told_before(self, key: Any) -> bool:
        """Return whether a call of this id has begun, on any connection; for what only repeats."""
        return any(one.key == key and one.begun for tools in (self, *self._elsewhere()) for one in tools.known())

    def _of_another(self, key: Any) -> ToolCall | None:
        """Return the call that another connection was asked for."""
        return next((one for tools in self._elsewhere() for one in tools.open() if one.key == key), None)


def _leave(call: ToolCall, output: Any) -> None:
    block, call.block = call.block, None
    if block is not None:
        block.output = output
        block.__exit__(None, None, None)


def is_new(key: Any, met: dict[Any, None], most: int) -> bool:
    """Return whether a key was not met before; it is now."""
    new = key not in met
    met[key] = None
    forget_oldest(met, most)
    return new


def forget_oldest(kept: dict[Any, Any], most: int) -> None:
    """Bound what is remembered, however long the call."""
    while len(kept) > most:
        del kept[next(iter(kept))]
