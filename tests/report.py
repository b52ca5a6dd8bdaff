"""The report as models: what tests read it with. The package itself never takes a report apart in this way.

The fields are those of the platform's published schema, plus ``trace_ids``, which is in its documentation only.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Event", "Report", "ToolCall", "Utterance"]


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class ToolCall(_Fact):
    """One tool that the agent called.

    Args:
        start_offset_ms: milliseconds since the handshake, not negative.
        name: compared exactly by the platform's ``tool_call`` metric.
        description: what the tool is for.
        parameters: what it was called with.
        output: what it returned: any JSON.
    """

    start_offset_ms: int = Field(ge=0)
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    output: Any = None


class Event(_Fact):
    """One thing that happened in the call.

    Args:
        start_offset_ms: milliseconds since the handshake.
        end_offset_ms: milliseconds since the handshake; None for what takes no time.
        title: what happened.
        tags: labels of the event.
        description: what happened, in a sentence.
        metadata: more about it, by name.
    """

    start_offset_ms: int
    end_offset_ms: int | None = None
    title: str
    tags: list[str] | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None


class Utterance(_Fact):
    """One stretch of speech.

    Args:
        start_offset_ms: milliseconds since the handshake.
        end_offset_ms: milliseconds since the handshake.
        speaker: ``AGENT`` said it, or ``USER``, as the agent's speech recognition heard it.
        utterance: the words.
        filler_utterance: whether they only filled a silence.
    """

    start_offset_ms: int
    end_offset_ms: int
    speaker: Literal["AGENT", "USER"]
    utterance: str
    filler_utterance: bool | None = None


class Report(_Fact):
    """All that the platform learns of one call.

    Args:
        simulation_result_id: the value of the connect request's header.
        tool_calls: what the agent's tools did.
        events: what else happened.
        recorded_transcript: what was said, as the agent knows it.
        tags: labels of the call.
        metadata: facts by name; fills the placeholders of the platform's custom metrics.
        trace_ids: OpenTelemetry traces of the call.
    """

    simulation_result_id: str
    tool_calls: list[ToolCall] | None = None
    events: list[Event] | None = None
    recorded_transcript: list[Utterance] | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None
    trace_ids: list[str] | None = None

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Return the report that was posted as ``data``.

        Raises:
            pydantic.ValidationError: it is no report.
        """
        return cls.model_validate_json(data)

    def to_json(self) -> bytes:
        """Return the body to post: strict JSON of the fields that were given, NaN and infinities as null.

        Raises:
            pydantic_core.PydanticSerializationError: a value has no JSON, such as a text with a lone surrogate.
        """
        return self.model_dump_json(exclude_unset=True).encode()
