"""The ``with`` blocks of a recorder: a tool call, an utterance, an event that are still open.

A block calls its recorder twice: when it is entered (so that a process that dies in between leaves
it in the journal, marked as interrupted) and when it is left. Every block also works with ``async with``,
may be left twice without effect, and never raises an error of its own: what cannot be kept is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

from pydantic_core import from_json

from bluejay_ws.wire.encode import message
from bluejay_ws.wire.items import OMITTED, mapping

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["EventBlock", "ToolCallBlock", "UtteranceBlock", "failure"]

# asyncio and trio name their cancellations so; the recorder knows neither of them.
_CANCELLATIONS = frozenset({"CancelledError", "Cancelled", "GeneratorExit"})


def failure(error: BaseException) -> dict[str, object]:
    """Return what stands in the ``output`` of a tool call that ended with ``error``.

    Returns:
        ``{"status": "cancelled"}``, or ``{"status": "failed", "error": type name, "message": text}``.
    """
    if type(error).__name__ in _CANCELLATIONS:
        return {"status": "cancelled"}
    said = message(error, "(its message could not be read)")
    return {"status": "failed", "error": type(error).__name__, "message": said}


class Blocks(Protocol):
    """What a block needs of its recorder; none of these raises."""

    def _enter_block(self, block: Block) -> None: ...

    def _leave_block(self, block: Block, error: BaseException | None) -> None: ...


class Block:
    """One thing that is still open; the recorder learns when it is entered and left.

    Attributes:
        start_offset_ms: when it began, set as it is entered; whoever knows better may set it before.
    """

    __slots__ = ("_recorder", "number", "start_offset_ms")

    def __init__(self, recorder: Blocks) -> None:
        self._recorder = recorder
        self.number = -1
        self.start_offset_ms = -1

    @property
    def _given_start(self) -> Any:
        """What stands for its start because somebody set it beforehand; else None."""
        start = self.start_offset_ms
        return None if self.number >= 0 or (type(start) is int and start < 0) else start

    def _begin(self, number: int, start_offset_ms: int) -> None:
        """Have a number among all blocks, and a start."""
        self.number, self.start_offset_ms = number, start_offset_ms

    def __enter__(self) -> Self:
        self._recorder._enter_block(self)  # noqa: SLF001 - a block is the recorder's other half
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._recorder._leave_block(self, error)  # noqa: SLF001

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


class ToolCallBlock(Block):
    """A tool call in progress: set `output` before the block ends.

    An exception that leaves the block is noted in the report's ``output`` and continues unchanged; a cancelled
    tool call and one that is still open at the end of the call are kept, and say so there.

    Attributes:
        output: what the tool answered; any Python value, kept as it is when the block ends.
    """

    __slots__ = ("description", "name", "opened", "output", "parameters")

    def __init__(self, recorder: Blocks, name: str, parameters: object, description: str | None) -> None:
        super().__init__(recorder)
        self.name = name
        self.parameters = parameters
        self.description = description
        self.output: Any = OMITTED
        self.opened: bytes | None = None  # its JSON as it began: a tool may change what it was called with

    def _keep(self, opened: bytes) -> None:
        """Keep its JSON as it began."""
        self.opened = opened

    def result(self, error: BaseException | None) -> object:
        """Return the output to report, given the exception that ended the block (None: a normal end)."""
        if error is None:
            return self.output
        noted = failure(error)
        if self.output is not OMITTED:
            noted["output"] = self.output
        return noted


class UtteranceBlock(Block):
    """An utterance in progress: add to `text` as it is spoken or understood.

    Attributes:
        text: what was said; an utterance without text is not reported.
    """

    __slots__ = ("filler", "speaker", "text")

    def __init__(self, recorder: Blocks, speaker: str, *, filler: bool | None) -> None:
        super().__init__(recorder)
        self.speaker = speaker
        self.filler = filler
        self.text = ""


class EventBlock(Block):
    """An event in progress; its fields may be set until the block ends."""

    __slots__ = ("description", "metadata", "tags", "title")

    def __init__(
        self, recorder: Blocks, title: str, description: str | None, tags: object, metadata: dict[str, Any] | None
    ) -> None:
        super().__init__(recorder)
        self.title = title
        self.description = description
        self.tags = tags
        self.metadata = metadata

    def _interrupt(self) -> None:
        """Say in its metadata that it outlived its call."""
        known = {} if self.metadata is None else self.metadata
        known = known if type(known) is dict else from_json(mapping(known))  # plain, and of a bounded size
        self.metadata = {**known, "bluejay_ws": {"interrupted": True}}
