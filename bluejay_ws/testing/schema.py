"""The published schema of a report, and its verdict on a request body in the words of the platform's 422."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


def _integral(value: object) -> object:
    """Return 5 for 5.0: JSON Schema calls both an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, BeforeValidator(_integral)]
Offset = Annotated[int, Field(ge=0), BeforeValidator(_integral)]
JsonObject = dict[str, Any]


class Published(BaseModel):
    """Take what the schema takes and nothing else: no text for numbers, no numbers for booleans."""

    model_config = ConfigDict(strict=True, extra="allow")


class Event(Published):
    """Something that happened in the call."""

    title: str
    start_offset_ms: Integer
    end_offset_ms: Integer | None = None
    description: str | None = None
    tags: list[str] | None = None
    metadata: JsonObject | None = None


class ToolCall(Published):
    """A tool that the agent called."""

    name: str
    start_offset_ms: Offset
    description: str | None = None
    parameters: JsonObject | None = None
    output: Any = None


class TranscriptEntry(Published):
    """Something that was said, as the agent heard or spoke it."""

    start_offset_ms: Integer
    end_offset_ms: Integer
    speaker: Literal["AGENT", "USER"]
    utterance: str
    filler_utterance: bool | None = None


class SimulationReport(Published):
    """The body of one report."""

    simulation_result_id: str
    events: list[Event] | None = None
    tool_calls: list[ToolCall] | None = None
    recorded_transcript: list[TranscriptEntry] | None = None
    tags: list[str] | None = None
    metadata: JsonObject | None = None
    trace_ids: list[str] = []


class BodyRejectedError(Exception):
    """Say how the platform answers a body that it does not take; its words may repeat what was sent."""

    def __init__(self, status: int, detail: list[dict[str, Any]] | str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    @property
    def problems(self) -> list[dict[str, Any]]:
        """Return the detail as a list of problems, whatever its shape."""
        return [_problem("json_invalid", self.detail, None)] if isinstance(self.detail, str) else self.detail


def read(body: bytes, content_type: str | None) -> SimulationReport:
    """Return the report that a request's body holds.

    Raises:
        BodyRejectedError: it is not JSON, not declared as JSON, or not what the schema describes.
    """
    if not body:
        raise BodyRejectedError(422, [_problem("missing", "Field required", None)])
    value = _value(body)
    if not _declares_json(content_type):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise BodyRejectedError(422, [_problem("model_attributes_type", message, body.decode("utf-8", "replace"))])
    try:
        return SimulationReport.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        raise BodyRejectedError(422, [{**found, "loc": ["body", *found["loc"]]} for found in problems]) from None


def unknown_fields(report: BaseModel) -> list[str]:
    """Return the paths of what ``report`` holds beyond the schema: the platform takes it and forgets it."""
    found = list(report.model_extra or {})
    for name in type(report).model_fields:
        items = getattr(report, name)
        for index, item in enumerate(items if isinstance(items, list) else []):
            if isinstance(item, BaseModel):
                found += [f"{name}.{index}.{path}" for path in unknown_fields(item)]
    return found


def _value(body: bytes) -> object:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        problem = _problem("json_invalid", "JSON decode error", {}) | {"ctx": {"error": error.msg}}
        raise BodyRejectedError(422, [problem | {"loc": ["body", error.pos]}]) from None
    except (ValueError, RecursionError):  # not UTF-8, NaN, a number of thousands of digits, nested without end
        raise BodyRejectedError(400, "There was an error parsing the body") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _declares_json(content_type: str | None) -> bool:
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _problem(kind: str, message: str, given: object) -> dict[str, Any]:
    return {"type": kind, "loc": ["body"], "msg": message, "input": given}
