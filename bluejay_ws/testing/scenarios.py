"""Scenarios: who calls an agent, what the caller does, and what must hold. Written in YAML, read into one model."""

from __future__ import annotations

import re
from difflib import get_close_matches
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from bluejay_ws.testing.protocols import ProtocolName, new_protocol

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

MOST_STEPS = 200
ENOUGH_SECONDS = 60.0
"""A call of so many seconds is over in the time that a scenario has by default, even if its answers come later."""
MOST_MS = 1e12
GOODBYE_MS = 3_000  # a caller who hangs up so soon after the last word waited for no answer
KEYS = r"^[0-9*#A-D]+$"
LONGEST = 120.0  # seconds: a wait that is longer was meant in milliseconds
ACTIONS = ("say", "play", "silence", "noise", "dtmf", "listen", "hang_up", "drop")


class ScenarioError(ValueError):
    """A scenario cannot be used; the message names the file, the line and the reason."""


class StepError(ScenarioError):
    """A step of a scenario cannot be done; steps are counted from 0."""

    def __init__(self, reason: str, number: int) -> None:
        super().__init__(reason)
        self.number = number


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_Words = Annotated[str, Field(min_length=1)]


class Step(_Part):
    """One thing that the caller does: exactly one of ``say`` ... ``drop``.

    Args:
        say: words, spoken by espeak-ng.
        play: a WAV file (16 kHz, mono, 16 bit), beside the scenario's file.
        silence: seconds of digital silence.
        noise: seconds of hold noise.
        dtmf: keys pressed: as tones, or as the carrier's messages.
        listen: wait until the agent has spoken, so many seconds at most.
        hang_up: close with this code.
        drop: cut the connection without a close frame.
        at: seconds since the call began; earlier steps that last longer delay it.
        interrupt_after: begin when so many seconds of the answer to the step before have been heard; of the greeting,
            for the first step.
        voice: of this step, in place of the scenario's.
    """

    say: str | None = Field(default=None, min_length=1)
    play: str | None = Field(default=None, min_length=1)
    silence: float | None = Field(default=None, ge=0, le=600)
    noise: float | None = Field(default=None, ge=0, le=600)
    dtmf: str | None = Field(default=None, pattern=KEYS)
    listen: float | None = Field(default=None, gt=0, le=600)
    hang_up: int | None = Field(default=None, ge=1000, le=4999)
    drop: Literal[True] | None = None
    at: float | None = Field(default=None, ge=0, le=3_600)
    interrupt_after: float | None = Field(default=None, ge=0, le=LONGEST)
    voice: str | None = None

    @model_validator(mode="after")
    def _one_action(self) -> Self:
        given = [name for name in ACTIONS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a step does exactly one of {', '.join(ACTIONS)}; this one does {given or 'none'}")
        if self.at is not None and self.interrupt_after is not None:
            raise ValueError("a step begins `at` a time or by `interrupt_after`, not both")
        if self.hang_up is not None and (1004 <= self.hang_up <= 1006 or 1015 <= self.hang_up <= 2999):
            raise ValueError(f"{self.hang_up} cannot be sent as a close code: give 1000, 1001, or 3000 to 4999")
        return self

    @property
    def in_words(self) -> str:
        """Return what it does, for messages."""
        name = next(name for name in ACTIONS if getattr(self, name) is not None)
        return f"{name}: {getattr(self, name)}"[:60]

    @property
    def speaks(self) -> bool:
        """Return whether the agent is to answer it."""
        return any(value is not None for value in (self.say, self.play, self.dtmf))


class Network(_Part):
    """How bad the caller's line is.

    Args:
        loss: share of the caller's audio frames that never arrive.
        delay_ms: how much later everything arrives.
        jitter_ms: how much later still, at random.
    """

    loss: float = Field(default=0.0, ge=0, lt=1)
    delay_ms: float = Field(default=0.0, ge=0, le=10_000)
    jitter_ms: float = Field(default=0.0, ge=0, le=10_000)


class Caller(_Part):
    """How the caller behaves.

    Args:
        greeting: seconds that the agent may take to speak first.
        patience: seconds to wait for an answer; then the caller continues.
        hangs_up_impatiently: the caller hangs up where an answer does not come in that time.
        background: what the line carries between utterances.
        skew_ms: how late ``speech.started`` is, and how early ``speech.completed``.
        yields: fall silent when the agent begins to speak over the caller.
        voices: of espeak-ng; the scenario runs once with each.
        seeds: of the network's chance; the scenario runs once with each.
    """

    greeting: float = Field(default=2.0, ge=0, le=60)
    patience: float = Field(default=10.0, gt=0, le=120)
    hangs_up_impatiently: bool = False
    background: Literal["noise", "silence", "pauses"] = "noise"
    skew_ms: float = Field(default=200.0, ge=0, le=1_000)
    yields: bool = True
    voices: list[str] = Field(default=["en-us"], min_length=1, max_length=20)
    seeds: list[int] = Field(default=[0], min_length=1, max_length=100)


class ToolExpectation(_Part):
    """A tool that must be called.

    Args:
        name: of the tool.
        parameters: with at least these; other parameters may be there too.
        times: so often exactly; default: at least once.
    """

    name: str = Field(min_length=1)
    parameters: dict[str, Any] | None = None
    times: int | None = Field(default=None, ge=1)


class Expect(_Part):
    """What must hold.

    Args:
        tools: must be called; one that is listed twice, twice.
        in_order: those tools must be called in this order; others may come between.
        not_called: must not be called.
        agent_says: each must stand in the agent's words, whatever the case.
        caller_heard_as: each must stand in what the agent heard of the caller.
        latency_p95: seconds that 95 % of the answers may take.
        interruptions: the agent may talk over the caller so often.
        silence: both may be silent at once for so long, in seconds, as the caller heard it.
        close: the close code.
        outcome: as the report's closing event has it, such as ``completed``.
        errors: so many `session.error` frames, failed tools and failures of the agent's code are allowed; so are
            utterances of the caller that nothing answers. None allows any number.
        all_steps: the caller must come to each of its steps: the agent may not end the call before, nor may the time.
    """

    tools: list[str | ToolExpectation] = []
    in_order: bool = False
    not_called: list[str] = []
    agent_says: list[_Words] = []
    caller_heard_as: list[_Words] = []
    latency_p95: float | None = Field(default=None, gt=0, le=LONGEST)
    interruptions: int | None = Field(default=None, ge=0)
    silence: float | None = Field(default=None, gt=0, le=LONGEST)
    close: int | None = Field(default=None, ge=1000, le=4999)
    outcome: str | None = None
    errors: int | None = Field(default=0, ge=0)
    all_steps: bool = True

    @property
    def wanted(self) -> list[ToolExpectation]:
        """Return the tools that must be called, all in the long form."""
        return [ToolExpectation(name=tool) if isinstance(tool, str) else tool for tool in self.tools]


class Scenario(_Part):
    """One call, and what must hold in it.

    Args:
        name: a sentence.
        steps: what the caller does, in order. The caller hangs up after the last one.
        expect: what must hold.
        caller: how the caller behaves.
        network: how bad the line is.
        protocol: how the call is carried: as Bluejay does (``chirp``), or by a carrier's media stream.
        coding: of a carrier's audio, such as ``l16/16000``; default: the carrier's usual one.
        seconds: the call ends after so long, whatever has been said.
    """

    name: str = Field(min_length=1, max_length=200)
    steps: list[Step] = Field(min_length=1, max_length=MOST_STEPS)
    expect: Expect = Field(default_factory=Expect)
    caller: Caller = Field(default_factory=Caller)
    network: Network = Field(default_factory=Network)
    protocol: ProtocolName = "chirp"
    coding: str | None = None
    seconds: float = Field(default=120.0, gt=0, le=3_600)

    @model_validator(mode="after")
    def _carried(self) -> Self:
        try:
            new_protocol(self.protocol, self.coding)
        except ValueError as error:
            raise _fault_at(["coding"], str(error)) from None
        for number, (before, step) in enumerate(zip([None, *self.steps], self.steps, strict=False), 1):
            if step.interrupt_after is not None and before is not None and not (before.speaks or before.listen):
                reason = f"step {number} interrupts an answer, and the step before it, {before.in_words}, has none"
                raise _fault_at(["steps", number - 1, "interrupt_after"], reason)
        return self


PARTS: dict[str, type[BaseModel]] = {
    "steps": Step,
    "tools": ToolExpectation,
    "expect": Expect,
    "caller": Caller,
    "network": Network,
}
"""By the setting in which they stand."""
SECONDS = {"silence", "noise", "listen", "at", "interrupt_after", "greeting", "patience", "latency_p95", "seconds"}
PLAIN = {
    "null": r"^(?:~|null|)$",
    "bool": r"^(?:true|True|false|False)$",
    "int": r"^[-+]?(?:0|[1-9][0-9]*)$",
    "float": r"^[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|\.inf)(?:[eE][-+]?[0-9]+)?$|^\.nan$",
    "merge": "^<<$",
}
"""What in YAML is no text."""
KINDS = {
    "missing": "it is missing",
    "string_type": "it must be text: write it in quotes",
    "string_pattern_mismatch": "it must be keys: 0 to 9, *, # and A to D",
    "list_type": "it must be a list, such as [one, two]",
    "float_parsing": "it must be a number, without a unit",
    "float_type": "it must be a number, without a unit",
    "int_parsing": "it must be a whole number, without a unit",
    "int_type": "it must be a whole number, without a unit",
    "bool_parsing": "it must be true or false",
}
"""What pydantic's kinds of faults mean for the person who writes a scenario."""
REMEDIES = {
    "'\\t'": ": indent with spaces",
    "another document": ": several scenarios in a file are one list",
    "constructor for the tag": ": write plain text, in quotes",
    "expected ',' or": ": put text in quotes",
    "end of stream": ": a quote or a bracket is still open",
}
"""The way out of what PyYAML says."""


def load(path: str | os.PathLike[str]) -> list[Scenario]:
    """Return the scenarios of a YAML file: one, or a list of them.

    Raises:
        ScenarioError: the file is no YAML, or no scenario; with the line and the reason of each fault.
        OSError: it cannot be read.
        ImportError: PyYAML is not installed.
    """
    node, value = _read(path)
    found = value if isinstance(value, list) else [value]
    if not found:
        raise ScenarioError(f"{path}:1: holds no scenario")
    scenarios, faults = [], []
    for number, entry in enumerate(found):
        try:
            scenarios.append(Scenario.model_validate(entry))
        except ValidationError as error:
            before = [number] if isinstance(value, list) else []
            for one in _worth_telling(error.errors()):
                place = [*before, *one["loc"], *one.get("ctx", {}).get("at", ())]
                faults.append(f"{path}:{_line(node, place)}: {_fault(one)}")
    if faults:
        raise ScenarioError("\n".join(dict.fromkeys(faults)))
    return scenarios


def _read(path: str | os.PathLike[str]) -> tuple[Any, Any]:
    """Return a file's YAML as nodes, which know their lines, and as data."""
    import yaml  # noqa: PLC0415 - an extra

    class Loader(yaml.SafeLoader):
        """Takes for text what YAML 1.1 does not: 19:00 (1140), 2026-11-28, 0042 (34), yes, no, on and off."""

        yaml_implicit_resolvers = {}  # noqa: RUF012 - it is the class's own

    for kind, pattern in PLAIN.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(pattern), None)
    with open(path, "rb") as file:  # noqa: PTH123 - any path
        data, text = file.read(), ""
    try:
        text = data.decode("utf-8-sig")
        node = yaml.compose(text, Loader)
        _check_keys(node, path, (), set())
        return node, yaml.load(text, Loader)  # noqa: S506 - it is a safe one
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}:{_line_at(data, error.start)}: is not UTF-8: save it as UTF-8") from None
    except yaml.reader.ReaderError as error:
        line = _line_at(text, error.position)
        raise ScenarioError(f"{path}:{line}: no YAML: the character U+{ord(text[error.position]):04X}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = str(getattr(error, "problem", None) or error)
        remedy = next((words for part, words in REMEDIES.items() if part in problem), "")
        raise ScenarioError(f"{path}:{line}: no YAML: {problem}{remedy}") from None
    except RecursionError:
        raise ScenarioError(f"{path}:1: no YAML: it is nested too deeply") from None


def _line_at(text: str | bytes, position: int) -> int:
    before = text[:position]
    return 1 + (before.count("\n") if isinstance(before, str) else before.count(b"\n"))


def _check_keys(node: Any, path: str | os.PathLike[str], inside: tuple[Any, ...], done: set[Any]) -> None:
    """Refuse what YAML takes in silence: a key that is given twice, ``yes`` as a key, what holds itself."""
    import yaml  # noqa: PLC0415 - an extra

    if not isinstance(node, yaml.MappingNode | yaml.SequenceNode):
        return
    if any(node is one for one in inside):
        raise ScenarioError(f"{path}:{node.start_mark.line + 1}: this holds itself, by an alias")
    seen: set[str] = set()
    for one in node.value:
        key, inner = one if isinstance(one, tuple) else (None, one)
        if key is not None:
            _check_key(key, seen, path)
        if inner not in done:  # an alias may stand in many places
            _check_keys(inner, path, (*inside, node), done)
    done.add(node)


def _check_key(key: Any, seen: set[str], path: str | os.PathLike[str]) -> None:
    where, text = f"{path}:{key.start_mark.line + 1}", key.value
    if not isinstance(text, str):
        raise ScenarioError(f"{where}: a key is a word, not a list or a mapping")
    if not key.tag.endswith((":str", ":merge")):
        raise ScenarioError(f"{where}: YAML does not take {text} for a word: write it in quotes")
    if text in seen:
        raise ScenarioError(f"{where}: {text} is given twice")
    seen.add(text)


def line_of_step(path: str | os.PathLike[str], name: str, number: int) -> int:
    """Return the line of a step in a file that `load` has read."""
    node, value = _read(path)
    entries = value if isinstance(value, list) else [value]
    place = next(at for at, entry in enumerate(entries) if entry["name"] == name)
    return _line(node, [*([place] if isinstance(value, list) else []), "steps", number])


def _fault_at(place: list[str | int], reason: str) -> PydanticCustomError:
    """Return an error that names where in a scenario it is."""
    return PydanticCustomError("place", "{reason}", {"reason": reason, "at": place})


def _worth_telling(errors: list[Any]) -> Iterator[Any]:
    """Leave out what an entry would have to be if it were the other thing that may stand there: a tool's name."""
    unions = {one["loc"][:-1] for one in errors if one["loc"][-1:] == (ToolExpectation.__name__,)}
    for one in errors:
        if one["loc"][:-1] in unions and one["type"] == "model_type":
            msg = "give a tool's name, or its name, parameters and times"
            yield {**one, "type": "tool", "loc": one["loc"][:-1], "msg": msg}
        elif one["loc"][-1:] != ("str",):
            yield one


def _fault(error: Any) -> str:
    place = [str(part) for part in error["loc"] if part != ToolExpectation.__name__]
    reason = error["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
    if error["type"] == "extra_forbidden":
        reason = _no_such_setting(place)
    elif error["type"] == "model_type":
        reason = "it must be settings, such as `name: value`"
        reason += ", and there is nothing" if error["input"] is None else ""
    elif error["type"] in KINDS:
        reason = KINDS[error["type"]]
    elif place and error["type"] in ("greater_than", "less_than_equal") and place[-1] in SECONDS:
        reason += " seconds"
    return f"{'.'.join(place)}: {reason}" if place else reason


def _no_such_setting(place: list[str]) -> str:
    """Return the names that may stand there, or the one that is meant."""
    part: type[BaseModel] = PARTS.get(next((one for one in reversed(place[:-1]) if one in PARTS), ""), Scenario)
    alike = get_close_matches(place[-1], part.model_fields, 1)
    *others, last = part.model_fields
    return "there is no such setting: " + (
        f"did you mean {alike[0]}?" if alike else f"give {', '.join(others)} or {last}"
    )


def _line(node: Any, path: list[Any]) -> int:
    """Return the line of the node that a path leads to, or of the last one on the way that exists."""
    import yaml  # noqa: PLC0415 - an extra

    line: int = node.start_mark.line + 1 if node is not None else 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == str(part)]
            if not pairs:
                continue  # the name of a model's alternative
            line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def from_report(report: dict[str, Any]) -> dict[str, Any]:
    """Return a scenario, as YAML data, that has the caller of a report say the same again and expects its tools.

    What the caller said over the agent's words is said over them again; where the caller left with the last word, so
    does the scenario's. What a report cannot say, such as the caller's
    voice, is left to the scenario's defaults. Of a report in which something has no sense, that is left out; of very
    many utterances the first 200 are taken.
    """
    speech = sorted(_objects(report.get("recorded_transcript")), key=_start_of)
    identity = _one_line(report.get("simulation_result_id", "?"))[:100]
    expected = {"tools": list(_tools(report)), "outcome": "completed", "latency_p95": 1.5}
    steps = list(islice(chain(_steps(speech), _goodbye(report, speech)), MOST_STEPS)) or [{"listen": 5}]
    lasted = max((_ms(line.get("end_offset_ms")) for line in speech), default=0.0) / 1000
    longer = {"seconds": min(3_600, round(lasted * 1.5) + 60)} if lasted > ENOUGH_SECONDS else {}
    return {"name": f"Call {identity} again", "steps": steps, "expect": expected, **longer}


def _goodbye(report: dict[str, Any], speech: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Have the caller hang up who had the last word, and waited for no answer to it."""
    last = speech[-1] if speech else {}
    if last.get("speaker") != "USER" or not _one_line(last.get("utterance") or ""):
        return
    for event in _objects(report.get("events")):
        notes = event.get("metadata")
        own = notes.get("bluejay_ws") if isinstance(notes, dict) else None
        by_caller = isinstance(own, dict) and own.get("closed_by") == "caller"
        if by_caller and 0 <= _start_of(event) - _ms(last.get("end_offset_ms")) < GOODBYE_MS:
            yield {"hang_up": 1000}
            return


def _tools(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for call in _objects(report.get("tool_calls")):
        name, parameters = call.get("name"), call.get("parameters")
        if isinstance(name, str) and name:
            parameters = _comparable(parameters) if isinstance(parameters, dict) else None
            yield {"name": name, **({"parameters": parameters} if parameters else {})}


def _comparable(parameters: dict[Any, Any]) -> dict[str, Any]:
    """Return parameters without what equals nothing: not a number."""
    return {
        str(key): _comparable(value) if isinstance(value, dict) else value
        for key, value in parameters.items()
        if value == value  # noqa: PLR0124
    }


def _steps(speech: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    answer: dict[str, Any] = {}
    for line in speech:
        if line.get("speaker") != "USER":
            answer = line
            continue
        words = _one_line(line.get("utterance") or "")
        if not words:
            continue
        start, heard_from = _start_of(line), _start_of(answer)
        over = answer and heard_from < start < _ms(answer.get("end_offset_ms"))
        yield {
            "say": words,
            **({"interrupt_after": min(LONGEST, round((start - heard_from) / 1000, 2))} if over else {}),
        }


def _one_line(value: object) -> str:
    """Return text on one line, without what cannot be said: control characters, halves of characters."""
    text = str(value).encode("utf-8", "replace").decode()
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _start_of(line: dict[str, Any]) -> float:
    return _ms(line.get("start_offset_ms"))


def _ms(value: object) -> float:
    """Return a place in a call; 0 for what is none."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < MOST_MS
    return value if usable else 0.0  # type: ignore[return-value]


def _objects(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
