"""The blocks of a recorder: what they tell it, what they never do, and what stands for an error."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import trio

from bluejay_ws.blocks import Block, EventBlock, ToolCallBlock, UtteranceBlock, failure
from bluejay_ws.wire.items import OMITTED

if TYPE_CHECKING:
    from collections.abc import Callable


class Notes:
    """Stand where the recorder stands, and note what the blocks tell it."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def _enter_block(self, block: Block) -> None:
        self.told.append(("entered", block))

    def _leave_block(self, block: Block, error: BaseException | None) -> None:
        self.told.append(("left", block, error))


def make_blocks(notes: Notes) -> dict[str, Block]:
    """Return one block of each kind."""
    return {
        "tool call": ToolCallBlock(notes, "freeze", {"last4": "4242"}, "Freeze a card"),
        "utterance": UtteranceBlock(notes, "agent", filler=True),
        "event": EventBlock(notes, "Lookup", "of a customer", ["a"], {"id": 1}),
    }


KINDS = list(make_blocks(Notes()))


async def _through(block: Block) -> Block:
    async with block as entered:
        return entered


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("run", [asyncio.run, lambda awaitable: trio.run(lambda: awaitable)], ids=["asyncio", "trio"])
def test_a_block_tells_its_recorder_when_it_begins_and_ends(kind: str, run: Callable[[Any], Any]) -> None:
    """With ``with`` and with ``async with``; what is entered is the block itself."""
    notes = Notes()
    block = make_blocks(notes)[kind]
    with block as entered:
        assert entered is block
        assert notes.told == [("entered", block)]
    assert notes.told == [("entered", block), ("left", block, None)]
    assert run(_through(block)) is block
    assert notes.told[2:] == [("entered", block), ("left", block, None)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_goes_through_a_block_unchanged(kind: str) -> None:
    """The recorder learns of it, and so does whoever runs the block."""
    notes = Notes()
    block = make_blocks(notes)[kind]
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught, block:
        raise error
    assert caught.value is error
    assert notes.told[-1] == ("left", block, error)


def test_a_tool_call_answers_with_its_output() -> None:
    """Nothing set is nothing given, which is not the same as None."""
    block = ToolCallBlock(Notes(), "freeze", None, None)
    assert block.result(None) is OMITTED
    block.output = None
    assert block.result(None) is None
    block.output = {"ok": True}
    assert block.result(None) == {"ok": True}


def test_a_failed_tool_call_keeps_the_output_it_had() -> None:
    """The failure stands in front, and what was there before is not lost."""
    block = ToolCallBlock(Notes(), "freeze", None, None)
    failed = {"status": "failed", "error": "ValueError", "message": "no"}
    assert block.result(ValueError("no")) == failed
    block.output = "half"
    assert block.result(ValueError("no")) == {**failed, "output": "half"}


class BrokenError(Exception):
    """An error that cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "noted"),
    [
        (asyncio.CancelledError("why"), {"status": "cancelled"}),
        (GeneratorExit(), {"status": "cancelled"}),
        (ValueError("no such card"), {"status": "failed", "error": "ValueError", "message": "no such card"}),
        (KeyboardInterrupt(), {"status": "failed", "error": "KeyboardInterrupt", "message": ""}),
        (
            BrokenError(),
            {"status": "failed", "error": "BrokenError", "message": "(its message could not be read)"},
        ),
    ],
)
def test_an_error_is_noted_by_type_and_message(error: BaseException, noted: dict[str, str]) -> None:
    """Cancelling is told apart from failing; an error that cannot be read is told by its type."""
    assert failure(error) == noted


def test_the_cancellation_of_trio_is_one() -> None:
    """The recorder knows no event loop: cancellations are known by name."""
    noted: list[dict[str, object]] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except BaseException as error:
                noted.append(failure(error))
                raise

    trio.run(main)
    assert noted == [{"status": "cancelled"}]


def test_a_block_has_no_number_and_no_time_before_it_begins() -> None:
    """Made and never entered, it is nothing."""
    for block in make_blocks(Notes()).values():
        assert (block.number, block.start_offset_ms) == (-1, -1)
