"""A recorder whose methods are called in any order with any values, and a death at any line of what it has written."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle as Drawn
from hypothesis.stateful import RuleBasedStateMachine, consumes, invariant, precondition, rule

from bluejay_ws.blocks import EventBlock, ToolCallBlock, UtteranceBlock
from bluejay_ws.wire import journal
from tests.support import Call
from tests.testing.published import problems
from tests.wire.hostile import ANYTHING, TEXTS


class Box:
    """A value that the machine around the test does not look at."""

    def __init__(self, value: Any) -> None:
        self.value = value


VALUES = ANYTHING.map(Box)
WORDS = (TEXTS | ANYTHING).map(Box)
OFFSETS = (st.none() | st.integers(-5, 10_000) | ANYTHING).map(Box)
BLOCKS = (ToolCallBlock, EventBlock, UtteranceBlock)


def report_of(bodies: list[bytes]) -> bytes:
    """Return the report of these lines."""
    return journal.assemble([bodies], simulation_result_id="720488")


class Recording(RuleBasedStateMachine):
    """One call; what it ought to hold is noted beside it, in the order in which it began."""

    blocks: Drawn[Any] = Drawn("blocks")
    entered: Drawn[Any] = Drawn("entered")

    def __init__(self) -> None:
        super().__init__()
        self.call = Call()
        self.recorder = self.call.recorder
        self.tools: list[str] = []
        self.titles: list[str] = []
        self.reports: list[tuple[int, bytes]] = []
        self.names = iter(range(10**6))
        self.discarded = False

    @property
    def over(self) -> bool:
        """Whether nothing more is recorded."""
        return bool(self.recorder.closed)

    def name(self, kind: list[str]) -> str:
        """Return a name that was not there before, and note that it is recorded."""
        name = f"{next(self.names)} é"
        if not self.over:
            kind.append(name)
        return name

    @rule(ms=st.integers(0, 1000))
    def time_passes(self, ms: int) -> None:
        self.call.clock.sleep(ms)

    @rule(parameters=VALUES, output=VALUES, at=OFFSETS, words=WORDS)
    def tool_call(self, parameters: Box, output: Box, at: Box, words: Box) -> None:
        self.recorder.add_tool_call(
            self.name(self.tools),
            parameters=parameters.value,
            output=output.value,
            start_offset_ms=at.value,
            description=words.value,
        )

    @rule(start=OFFSETS, end=OFFSETS, tags=VALUES, metadata=VALUES)
    def event(self, start: Box, end: Box, tags: Box, metadata: Box) -> None:
        self.recorder.add_event(
            self.name(self.titles),
            start_offset_ms=start.value,
            end_offset_ms=end.value,
            tags=tags.value,
            metadata=metadata.value,
        )

    @rule(speaker=st.sampled_from(["agent", "user", "x", None, 1, ("agent",)]), words=WORDS, start=OFFSETS)
    def utterance(self, speaker: Any, words: Box, start: Box) -> None:
        self.recorder.add_utterance(speaker, words.value, start_offset_ms=start.value)

    @rule(tags=st.lists(WORDS, max_size=3), trace=WORDS)
    def texts(self, tags: list[Box], trace: Box) -> None:
        self.recorder.add_tags(*(tag.value for tag in tags))
        self.recorder.add_trace_id(trace.value)

    @rule(values=st.dictionaries(st.sampled_from(["a", "b", "bluejay_ws"]), VALUES, max_size=2))
    def metadata(self, values: dict[str, Box]) -> None:
        self.recorder.add_metadata(**{key: box.value for key, box in values.items()})

    @rule(identity=TEXTS | st.sampled_from([None, 1, b"720488", ["720488"]]))
    def bind(self, identity: Any) -> None:
        self.recorder.bind(identity)

    @rule(target=blocks, kind=st.sampled_from(["tool", "event", "said"]), value=VALUES)
    def make_block(self, kind: str, value: Box) -> Any:
        if kind == "tool":
            return self.recorder.tool_call("later", parameters=value.value)
        return (
            self.recorder.event("later", metadata=value.value) if kind == "event" else self.recorder.utterance("agent")
        )

    @rule(target=entered, block=consumes(blocks))
    def enter(self, block: Any) -> Any:
        if isinstance(block, ToolCallBlock):
            block.name = self.name(self.tools)
        elif isinstance(block, EventBlock):
            block.title = self.name(self.titles)
        assert block.__enter__() is block
        return block

    @rule(block=entered, value=VALUES)
    def fill(self, block: Any, value: Box) -> None:
        """Set what may be set until the block ends."""
        if isinstance(block, ToolCallBlock):
            block.output = value.value
        elif isinstance(block, EventBlock):
            block.metadata = value.value
        else:
            block.text = value.value

    @rule(block=consumes(entered), error=st.sampled_from([None, KeyError("x"), KeyboardInterrupt()]))
    def leave(self, block: Any, error: BaseException | None) -> None:
        kind = None if error is None else type(error)
        assert not block.__exit__(kind, error, None)

    @precondition(lambda self: len(self.call.journal) > 4)
    @rule()
    def close(self) -> None:
        if not self.over:
            self.titles.append("Connection closed")
        self.recorder.close({"close_code": 1000}, {})

    @precondition(lambda self: len(self.call.journal) > 4)
    @rule(really=st.integers(0, 9))
    def discard(self, really: int) -> None:
        if not really and not self.over:
            self.recorder.discard()
            self.discarded = True

    @invariant()
    def what_was_recorded_is_there(self) -> None:
        """Each item, once, in a report that the platform takes; memory and file hold the same."""
        if self.discarded:
            return
        assert self.call.journal == self.recorder.bodies
        report = report_of(self.call.journal)
        loaded = json.loads(report)
        assert sorted(item["name"] for item in loaded["tool_calls"]) == sorted(self.tools)
        titles = sorted([*self.titles, *([] if self.over else ["Connection closed"])])
        assert sorted(item["title"] for item in loaded.get("events", [])) == titles
        self.reports.append((len(self.call.journal), report))

    def teardown(self) -> None:
        """Let the process have died after each line, and within the next: the file holds what was recorded until then.

        A change of several lines (the last one alone has them) may be cut between any two.
        """
        lines = [journal.line(body) for body in self.call.journal]
        data = b"".join(lines)
        assert journal.parse(data) == (self.call.journal, [], b"")
        for count, report in self.reports:
            whole = b"".join(lines[:count])
            torn = (lines[count] if count < len(lines) else b"")[:-1]
            for cut in {0, len(torn) // 2, len(torn)}:
                parsed = journal.parse(whole + torn[:cut])
                assert parsed.torn == torn[:cut]
                assert parsed.damaged == []
                assert report_of(parsed.bodies) == report
        if self.reports:
            assert problems(json.loads(self.reports[-1][1])) == []
        super().teardown()


# Each is a whole call with a death at every line: a tenth as many as of the others.
Recording.TestCase.settings = settings(max_examples=max(3, settings().max_examples // 10), stateful_step_count=30)
TestRecording = Recording.TestCase
