"""The items of a report, each as the JSON that is journaled and posted: encoded once, when it is recorded.

Every builder appends to ``notes`` what it had to do, such as ``cut.output`` or ``mapped.parameters``, and never
raises, whatever value it is given. Offsets are the recorder's own: whole milliseconds since the handshake, not
negative, an end not before its start. They are always the first keys: items can be sorted without being parsed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pydantic_core import from_json, to_json

from bluejay_ws.wire.encode import (
    DEPTH_LIMIT,
    ITEM_LIMIT,
    NUL,
    Encoded,
    cut_json,
    encode,
    plain_json,
    room_left,
    strict_json,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CALL_LIMIT",
    "DEPTH_LIMIT",
    "ITEMS_LIMIT",
    "ITEM_LIMIT",
    "NAME_LIMIT",
    "OMITTED",
    "OUTPUT_ROOM",
    "Item",
    "event",
    "mapping",
    "text",
    "tool_call",
    "utterance",
    "with_output",
]

Item: TypeAlias = bytes
"""One JSON value, compact, UTF-8, without line end."""

CALL_LIMIT = 4 * 1024 * 1024
"""Bytes of JSON that all items of one call may take."""

ITEMS_LIMIT = 20_000
"""Items that one call may have."""

NAME_LIMIT = 1024
"""Characters that the name of a tool or the title of an event may have."""

OMITTED: Final = object()
"""Stands for an output that was not given: its key is left out, where None is ``null``."""

_BACKSLASH = 0x5C
_DEEPEST = DEPTH_LIMIT + 1  # the item itself lies around its values
_MARKER_ROOM = 96
_OUTPUT_KEY = b',"output":'
OUTPUT_ROOM: Final = len(_OUTPUT_KEY) + _MARKER_ROOM
"""Bytes that an output takes at least, to say that it was cut."""

_NAME_ROOM = 8 * NAME_LIMIT
_FILLERS = {None: b"", True: b',"filler_utterance":true', False: b',"filler_utterance":false'}
_UTTERANCE_ROOM = 128  # what an utterance has beside its words


def tool_call(
    start_offset_ms: int,
    name: str,
    parameters: object,
    output: object,
    description: str | None,
    notes: list[str],
    limit: int = ITEM_LIMIT,
) -> Item:
    """Return one of the report's ``tool_calls``.

    Over the limit, the output is cut first, then the parameters, then the description; the name never.

    Args:
        start_offset_ms: milliseconds since the handshake, not negative.
        name: its first 1,024 characters are kept.
        parameters: a mapping; anything else becomes ``{"value": ...}``; None is left out.
        output: anything; `OMITTED` is left out.
        description: text; None is left out.
        notes: gets what was cut or mapped.
        limit: bytes that the item may take; held to from 8 KiB on.
    """
    # The hottest path of all: `encode.plain_json` written out, so that nothing is built or called in vain.
    item: dict[str, object] = {"start_offset_ms": start_offset_ms, "name": name}
    if description is not None:
        item["description"] = description
    if parameters is not None:
        item["parameters"] = parameters
    if output is not OMITTED:
        item["output"] = output
    if (
        type(name) is str
        and len(name) <= NAME_LIMIT
        and (type(parameters) is dict or parameters is None)
        and (description is None or (type(description) is str and len(description) <= limit))
    ):
        try:
            room = room_left(parameters, limit, DEPTH_LIMIT)
            if output is not OMITTED:
                room = room_left(output, room, DEPTH_LIMIT)
            if room >= 0:
                data = strict_json(item)
                if len(data) <= limit and (_BACKSLASH not in data or NUL not in data):
                    return data
        except Exception:  # noqa: BLE001, S110 - as in `encode.plain_json`
            pass
    return _careful_tool_call(item, limit, notes)


def _careful_tool_call(item: dict[str, object], limit: int, notes: list[str]) -> Item:
    builder = _Builder(limit, notes)
    builder.put_offset("start_offset_ms", item)
    builder.put_name("name", item["name"])
    builder.put_text("description", item.get("description"), later=2)
    builder.put_object("parameters", item.get("parameters"), later=1)
    if "output" in item:
        builder.put_value("output", item["output"])
    return builder.item()


def with_output(opened: Item, output: object, notes: list[str], *, limit: int = ITEM_LIMIT) -> Item:
    """Return a tool call that was encoded without output, with it: name and parameters stay as they were then.

    Args:
        opened: from `tool_call`, given a limit that is lower by `OUTPUT_ROOM`.
        output: anything.
        notes: gets what was cut or mapped.
        limit: bytes that the item may take.
    """
    limit = max(_MARKER_ROOM, limit - len(opened) - len(_OUTPUT_KEY))
    data = plain_json(output, limit)
    if data is None:
        found = encode(output, limit=limit)
        _note(notes, "output", found)
        data = found.json
    return opened[:-1] + _OUTPUT_KEY + data + b"}"


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
) -> Item:
    """Return one of the report's ``events``.

    Over the limit, the metadata are cut first, then the description, then the tags; the title never.

    Args:
        start_offset_ms: milliseconds since the handshake, not negative.
        title: its first 1,024 characters are kept.
        end_offset_ms: milliseconds since the handshake, not below the start; None is left out.
        description: text; None is left out.
        tags: texts, or a single one; None is left out.
        metadata: a mapping; anything else becomes ``{"value": ...}``; None is left out.
        notes: gets what was cut or mapped.
        limit: bytes that the item may take; held to from 8 KiB on.
    """
    item: dict[str, object] = {"start_offset_ms": start_offset_ms}
    if end_offset_ms is not None:
        item["end_offset_ms"] = end_offset_ms
    item["title"] = title
    if tags is not None:
        item["tags"] = tags
    if description is not None:
        item["description"] = description
    if metadata is not None:
        item["metadata"] = metadata
    data = None
    if (
        type(title) is str
        and len(title) <= NAME_LIMIT
        and (tags is None or (type(tags) in {list, tuple} and all(type(tag) is str for tag in tags)))  # type: ignore[attr-defined]
        and (description is None or type(description) is str)
        and (metadata is None or type(metadata) is dict)
    ):
        data = plain_json(item, limit, _DEEPEST)
    return _careful_event(item, limit, notes) if data is None else data


def _careful_event(item: dict[str, object], limit: int, notes: list[str]) -> Item:
    builder = _Builder(limit, notes)
    builder.put_offset("start_offset_ms", item)
    builder.put_offset("end_offset_ms", item)
    builder.put_name("title", item["title"])
    builder.put_texts("tags", item.get("tags"), later=2)
    builder.put_text("description", item.get("description"), later=1)
    builder.put_object("metadata", item.get("metadata"))
    return builder.item()


def utterance(
    start_offset_ms: int,
    end_offset_ms: int,
    speaker: Literal["AGENT", "USER"],
    text: str,
    filler: bool | None,  # noqa: FBT001 - one of the wire's fields
    notes: list[str],
    *,
    limit: int = ITEM_LIMIT,
) -> Item:
    """Return one of the report's ``recorded_transcript``.

    Args:
        start_offset_ms: milliseconds since the handshake, not negative.
        end_offset_ms: milliseconds since the handshake, not below the start.
        speaker: whose words they are.
        text: the words.
        filler: whether they only filled a silence; None, and what is neither true nor false, is left out.
        notes: gets what was cut or mapped.
        limit: bytes that the item may take; held to from 8 KiB on.
    """
    words = plain_json(text, limit - _UTTERANCE_ROOM)
    if words is None:
        found = _text(text, limit - _UTTERANCE_ROOM)
        _note(notes, "utterance", found)
        words = found.json
    if filler is not None and type(filler) is not bool:
        notes.append("dropped.filler_utterance")
        filler = None
    return b'{"start_offset_ms":%d,"end_offset_ms":%d,"speaker":"%b","utterance":%b%b}' % (
        start_offset_ms, end_offset_ms, speaker.encode(), words, _FILLERS[filler],
    )  # fmt: skip


def text(value: object, notes: list[str] | None = None, *, limit: int = ITEM_LIMIT, key: str = "text") -> Item:
    """Return a JSON string: a tag, a trace id, a simulation result id, words.

    Args:
        value: text; anything else becomes the text of its JSON.
        notes: gets what was cut or mapped.
        limit: bytes that it may take.
        key: what the notes call it.
    """
    found = _text(value, limit)
    _note(notes, key, found)
    return found.json


def mapping(value: Mapping[str, Any], notes: list[str] | None = None, *, limit: int = ITEM_LIMIT) -> Item:
    """Return a JSON object: metadata of the call.

    Args:
        value: a mapping; anything else becomes ``{"value": ...}``.
        notes: gets what was cut or mapped.
        limit: bytes that it may take.
    """
    data = plain_json(value, limit) if type(value) is dict else None
    if data is not None:
        return data
    found = _object(value, limit)
    _note(notes, "metadata", found)
    return found.json


class _Builder:
    """Put an item together key by key, from whatever it is given; what comes last is cut first."""

    __slots__ = ("_notes", "_parts", "_room")

    def __init__(self, limit: int, notes: list[str]) -> None:
        self._parts: list[bytes] = []
        self._room = limit - 2
        self._notes = notes

    def item(self) -> Item:
        return b"{" + b",".join(self._parts) + b"}"

    def put_offset(self, key: str, item: dict[str, Any]) -> None:
        if key in item:
            self._add(key, b"%d" % item[key])

    def put_name(self, key: str, value: object) -> None:
        known = _text(value, _NAME_ROOM)
        name: str = from_json(known.json)
        cut = known.cut or len(name) > NAME_LIMIT
        self._keep(key, Encoded(to_json(name[:NAME_LIMIT]), known.mapped, cut))

    def put_text(self, key: str, value: object, *, later: int) -> None:
        if value is not None:
            self._keep(key, _text(value, self._left(key, later)))

    def put_texts(self, key: str, value: object, *, later: int) -> None:
        if value is not None:
            self._keep(key, _texts(value, self._left(key, later)))

    def put_object(self, key: str, value: object, *, later: int = 0) -> None:
        if value is not None:
            self._keep(key, _object(value, self._left(key, later)))

    def put_value(self, key: str, value: object) -> None:
        self._keep(key, encode(value, limit=self._left(key, 0)))

    def _left(self, key: str, later: int) -> int:
        """Return the room for a value when ``later`` more keys must find room for a marker at least."""
        return max(_MARKER_ROOM, self._room - len(key) - 4 - later * (_MARKER_ROOM + len("description") + 4))

    def _keep(self, key: str, found: Encoded) -> None:
        _note(self._notes, key, found)
        self._add(key, found.json)

    def _add(self, key: str, data: bytes) -> None:
        part = b'"%b":%b' % (key.encode(), data)
        self._parts.append(part)
        self._room -= len(part) + 1


def _note(notes: list[str] | None, key: str, found: Encoded) -> None:
    if notes is not None and found.cut:
        notes.append(f"cut.{key}")
    if notes is not None and found.mapped:
        notes.append(f"mapped.{key}")


def _text(value: object, limit: int) -> Encoded:
    """Return a value as a JSON string; the text of its JSON, if it is none."""
    found = encode(value, limit=limit)
    if found.json.startswith(b'"'):
        return found
    data = to_json(found.json.decode())
    return Encoded(cut_json(data, limit), mapped=True, cut=len(data) > limit)


def _object(value: object, limit: int) -> Encoded:
    """Return a value as a JSON object; as the only member of one, if it is none."""
    found = encode(value, limit=limit - len('{"value":}'))
    if found.json.startswith(b"{"):
        return found
    return Encoded(b'{"value":%b}' % found.json, found.mapped or not found.cut, found.cut)


def _texts(value: object, limit: int) -> Encoded:
    """Return a value as a JSON array of strings."""
    found = encode(value, limit=limit - 2)
    if not found.json.startswith(b"["):
        one = _text(value, limit - 2)
        return Encoded(b"[%b]" % one.json, one.mapped, one.cut)
    texts: list[Any] = from_json(found.json)
    if all(type(one) is str for one in texts):
        return found
    data = to_json([one if type(one) is str else to_json(one).decode() for one in texts])
    if len(data) <= limit:
        return Encoded(data, mapped=True)
    return Encoded(b"[%b]" % cut_json(data, limit - 2), mapped=True, cut=True)
