"""The items of a report, each as the JSON that is journaled and posted: encoded once, when it is recorded.

Every builder takes the list ``notes`` last and appends to it what it had to do: ``cut.output``, ``mapped.parameters``.
The offset is always the first key, so that items can be sorted without being parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from bluejay_ws.wire.values import DEPTH_LIMIT, ITEM_LIMIT, Encoded, cut_json, dump, encode, plain_json

__all__ = [
    "CALL_LIMIT",
    "DEPTH_LIMIT",
    "ITEMS_LIMIT",
    "ITEM_LIMIT",
    "NAME_LIMIT",
    "OMITTED",
    "Fragment",
    "event",
    "mapping",
    "text",
    "tool_call",
    "utterance",
]

Fragment: TypeAlias = bytes

CALL_LIMIT = 4 * 1024 * 1024
"""Bytes of JSON that all items of one call may take."""

ITEMS_LIMIT = 20_000
"""Items of one call."""

NAME_LIMIT = 1024
"""Characters of a tool's name or an event's title."""

OMITTED: Final = object()
"""Stands for an output that was not given: the key is left out (None is ``null``)."""

_DEEPEST = DEPTH_LIMIT + 1  # the item itself is around its values
_MARKER_ROOM = 96
_OFFSET_LIMIT = 2**53
_SPEAKERS = {"agent": b'"AGENT"', "user": b'"USER"'}


def tool_call(
    start_offset_ms: int,
    name: str,
    parameters: object,
    output: object,
    description: str | None,
    notes: list[str],
    *,
    limit: int = ITEM_LIMIT,
) -> Fragment:
    """Return one of the report's ``tool_calls``.

    Over the limit, the output is cut first, then the parameters, then the description; the name never.

    Args:
        start_offset_ms: milliseconds since the handshake, not negative.
        name: its first 1,024 characters are kept.
        parameters: a mapping; anything else becomes ``{"value": ...}``; None is left out.
        output: anything; `OMITTED` is left out.
        description: text; None is left out.
        notes: gets what was cut or mapped.
        limit: bytes that the item may take.
    """
    if type(name) is str and type(start_offset_ms) is int and start_offset_ms >= 0 and len(name) <= NAME_LIMIT:
        item: dict[str, object] = {"start_offset_ms": start_offset_ms, "name": name}
        if description is not None:
            item["description"] = description
        if parameters is not None:
            item["parameters"] = parameters
        if output is not OMITTED:
            item["output"] = output
        if (type(parameters) is dict or parameters is None) and (description is None or type(description) is str):
            data = plain_json(item, limit, _DEEPEST)
            if data is not None:
                return data
    builder = _Builder(limit, notes)
    builder.offset("start_offset_ms", start_offset_ms)
    builder.label("name", name)
    builder.text("description", description, later=2)
    builder.object("parameters", parameters, later=1)
    builder.any("output", output)
    return builder.fragment()


def event(
    start_offset_ms: int,
    title: str,
    end_offset_ms: int | None,
    description: str | None,
    tags: object,
    metadata: object,
    notes: list[str],
    *,
    limit: int = ITEM_LIMIT,
) -> Fragment:
    """Return one of the report's ``events``.

    Over the limit, the metadata are cut first, then the description, then the tags; the title never.

    Args:
        start_offset_ms: milliseconds since the handshake, not negative.
        title: its first 1,024 characters are kept.
        end_offset_ms: milliseconds since the handshake, not below the start; None is left out.
        description: text; None is left out.
        tags: texts; a single one is taken as a list of one; None is left out.
        metadata: a mapping; anything else becomes ``{"value": ...}``; None is left out.
        notes: gets what was cut or mapped.
        limit: bytes that the item may take.
    """
    builder = _Builder(limit, notes)
    start = builder.offset("start_offset_ms", start_offset_ms)
    if end_offset_ms is not None:
        builder.offset("end_offset_ms", end_offset_ms, least=start)
    builder.label("title", title)
    builder.tags("tags", tags, later=2)
    builder.text("description", description, later=1)
    builder.object("metadata", metadata)
    return builder.fragment()


def utterance(
    start_offset_ms: int,
    end_offset_ms: int,
    speaker: Literal["AGENT", "USER"],
    text: str,
    filler: bool | None,  # noqa: FBT001 - the wire's own field
    notes: list[str],
    *,
    limit: int = ITEM_LIMIT,
) -> Fragment:
    """Return one of the report's ``recorded_transcript``.

    Args:
        start_offset_ms: milliseconds since the handshake, not negative.
        end_offset_ms: milliseconds since the handshake, not below the start.
        speaker: whose words they are; what is neither is taken for the agent.
        text: the words.
        filler: whether they only filled a silence; None is left out.
        notes: gets what was cut or mapped.
        limit: bytes that the item may take.
    """
    builder = _Builder(limit, notes)
    start = builder.offset("start_offset_ms", start_offset_ms)
    builder.offset("end_offset_ms", end_offset_ms, least=start)
    builder.speaker(speaker)
    builder.text("utterance", "" if text is None else text, later=1)
    if filler is not None:
        builder.add("filler_utterance", b"true" if filler is True else b"false")
    return builder.fragment()


def text(value: str, notes: list[str] | None = None, *, limit: int = ITEM_LIMIT) -> Fragment:
    """Return a JSON string: a tag, a trace id, a simulation result id.

    Args:
        value: text; anything else becomes the text of its JSON.
        notes: gets what was cut or mapped.
        limit: bytes that it may take.
    """
    found = _text(value, limit)
    _note(notes, "text", found)
    return found.json


def mapping(value: Mapping[str, Any], notes: list[str] | None = None, *, limit: int = ITEM_LIMIT) -> Fragment:
    """Return a JSON object: metadata of the call.

    Args:
        value: a mapping; anything else becomes ``{"value": ...}``.
        notes: gets what was cut or mapped.
        limit: bytes that it may take.
    """
    found = _object(value, limit)
    _note(notes, "metadata", found)
    return found.json


class _Builder:
    """Put one item together, key by key; what is added last is what is cut first."""

    __slots__ = ("_notes", "_parts", "_room")

    def __init__(self, limit: int, notes: list[str]) -> None:
        self._parts: list[bytes] = []
        self._room = limit - 2
        self._notes = notes

    def add(self, key: str, data: bytes) -> None:
        part = b'"%b":%b' % (key.encode(), data)
        self._parts.append(part)
        self._room -= len(part) + 1

    def fragment(self) -> Fragment:
        return b"{" + b",".join(self._parts) + b"}"

    def offset(self, key: str, value: object, least: int = 0) -> int:
        offset = _whole(value)
        if offset is None:
            self._notes.append(f"mapped.{key}")
        offset = min(max(least, offset or 0), _OFFSET_LIMIT)
        self.add(key, b"%d" % offset)
        return offset

    def label(self, key: str, value: object) -> None:
        found = encode(value, limit=16 * NAME_LIMIT)
        name = json_text(found)
        if found.cut or len(name) > NAME_LIMIT:
            self._notes.append(f"cut.{key}")
        if found.mapped or type(value) is not str:
            self._notes.append(f"mapped.{key}")
        self.add(key, dump(name[:NAME_LIMIT]))

    def speaker(self, value: object) -> None:
        found = _SPEAKERS.get(value.lower()) if type(value) is str else None
        if found is None:
            self._notes.append("mapped.speaker")
        self.add("speaker", found or _SPEAKERS["agent"])

    def text(self, key: str, value: object, *, later: int = 0) -> None:
        if value is not None:
            self._keep(key, _text(value, self._left(key, later)))

    def tags(self, key: str, value: object, *, later: int = 0) -> None:
        if value is not None:
            self._keep(key, _tags(value, self._left(key, later)))

    def object(self, key: str, value: object, *, later: int = 0) -> None:
        if value is not None:
            self._keep(key, _object(value, self._left(key, later)))

    def any(self, key: str, value: object) -> None:
        if value is not OMITTED:
            self._keep(key, encode(value, limit=self._left(key, 0)))

    def _left(self, key: str, later: int) -> int:
        """Return the room for a value, when ``later`` keys must still find room for a marker."""
        return max(_MARKER_ROOM, self._room - len(key) - 4 - later * _MARKER_ROOM)

    def _keep(self, key: str, found: Encoded) -> None:
        _note(self._notes, key, found)
        self.add(key, found.json)


def _note(notes: list[str] | None, key: str, found: Encoded) -> None:
    if notes is not None and found.cut:
        notes.append(f"cut.{key}")
    if notes is not None and found.mapped:
        notes.append(f"mapped.{key}")


def _whole(value: object) -> int | None:
    """Return a number of milliseconds, or None when there is none in ``value``."""
    if type(value) is int:
        return value
    try:
        return int(json_number(encode(value)))
    except (TypeError, ValueError, OverflowError):
        return None


def json_number(found: Encoded) -> float:
    """Return the number that ``found`` is; raises ValueError when it is none."""
    return float(found.json)


def json_text(found: Encoded) -> str:
    """Return the string that ``found`` is, or the text of its JSON."""
    import json  # noqa: PLC0415

    loaded = json.loads(found.json) if found.json.startswith(b'"') else None
    return loaded if isinstance(loaded, str) else found.json.decode()


def _text(value: object, limit: int) -> Encoded:
    found = encode(value, limit=limit)
    if found.json.startswith(b'"'):
        return found
    data = dump(json_text(found))
    return Encoded(cut_json(data, limit), mapped=True, cut=len(data) > limit)


def _object(value: object, limit: int) -> Encoded:
    found = encode(value, limit=limit - 10)
    if found.json.startswith(b"{"):
        return found
    return Encoded(b'{"value":%b}' % found.json, mapped=found.mapped or not found.cut, cut=found.cut)


def _tags(value: object, limit: int) -> Encoded:
    import json  # noqa: PLC0415

    found = encode(value, limit=limit - 2)
    loaded = json.loads(found.json)
    if not isinstance(loaded, list):
        return Encoded(dump([json_text(found)]), mapped=found.mapped or type(value) is not str, cut=found.cut)
    if all(isinstance(tag, str) for tag in loaded):
        return found
    texts = [tag if isinstance(tag, str) else dump(tag).decode() for tag in loaded]
    return Encoded(dump(texts), mapped=True)
