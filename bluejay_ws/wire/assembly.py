"""The report, made of the journals of a call's connections by joining the fragments they hold."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bluejay_ws.wire.fragments import mapping, text
from bluejay_ws.wire.values import cut_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["ITEM_KINDS", "TEXT_KINDS", "CallFacts", "assemble", "facts"]

ITEM_KINDS = ("tool_calls", "events", "recorded_transcript")
"""The report's lists of objects that happened at a time."""

TEXT_KINDS = ("tags", "trace_ids")
"""The report's lists of texts."""

_METADATA = "metadata"
_KINDS = (*ITEM_KINDS, *TEXT_KINDS, _METADATA)
_OURS = "bluejay_ws"

_BODY = re.compile(rb'\["([a-z_]+)",(.*)', re.DOTALL)
_NUMBERED = re.compile(rb'([0-9]{1,18})(?:,"([a-z_]+)",(.*))?', re.DOTALL)
_OFFSETS = re.compile(rb'\{"start_offset_ms":([0-9]{1,18}),(?:"end_offset_ms":([0-9]{1,18}),)?"')
_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True, kw_only=True)
class CallFacts:
    """What a journal says of its call, beside the items.

    Attributes:
        report_id: empty if the first line is lost.
        simulation_result_id: as bound later, else as connected; None if neither.
        started_at: Unix time of the handshake, in seconds; 0.0 if the first line is lost.
        version: of the bluejay_ws that wrote it.
        server: the server family it ran on.
        closed: facts of the end; None if it is missing.
        counts: items by kind, as recorded; what was withdrawn is not among them.
        delivery: what delivery noted last; None if nothing.
    """

    report_id: str = ""
    simulation_result_id: str | None = None
    started_at: float = 0.0
    version: str = ""
    server: str = ""
    closed: dict[str, Any] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    delivery: dict[str, Any] | None = None


def facts(bodies: Iterable[bytes]) -> CallFacts:
    """Return what a journal says of its call; what is missing, or is not what it should be, is left at its default."""
    journal = _Journal(bodies)
    started_at = journal.header.get("started_at")
    return CallFacts(
        report_id=journal.known("report_id"),
        simulation_result_id=journal.bound or journal.known("simulation_result_id") or None,
        started_at=float(started_at) if isinstance(started_at, int | float) else 0.0,
        version=journal.known("version"),
        server=journal.known("server"),
        closed=journal.closed,
        counts={kind: len(found) for kind, found in journal.fragments().items() if found},
        delivery=journal.delivery,
    )


def assemble(
    parts: Sequence[Sequence[bytes]],
    *,
    simulation_result_id: str,
    incomplete: str | None = None,
    output_limit: int | None = None,
) -> bytes:
    """Return the body to post: the journals' fragments, as they are.

    Items are in the order of their start, one part after the other. A part whose end is missing gets an event
    ``Connection closed`` that says so; each part after the first gets an event ``Reconnected``, and the report's
    metadata tell the parts' report ids.

    Args:
        parts: the bodies of one journal for each connection of the call, in order.
        simulation_result_id: of the call.
        incomplete: why an end is missing; default ``process_lost``.
        output_limit: bytes beyond which the output of a tool call is cut, for a platform that refused the whole.
    """
    journals = [_Journal(bodies) for bodies in parts]
    found: dict[str, list[bytes]] = {kind: [] for kind in _KINDS}
    for number, journal in enumerate(journals, 1):
        for kind, fragments in _part(journal, number, incomplete or "process_lost").items():
            found[kind] += fragments
    if output_limit is not None:
        found["tool_calls"] = [_with_output_cut(fragment, output_limit) for fragment in found["tool_calls"]]
    if len(journals) > 1:
        found[_METADATA].append(_parts_metadata(journals, found[_METADATA]))
    return _report(simulation_result_id, found)


class _Journal:
    """One journal, read: its fragments by kind, and the facts beside them."""

    __slots__ = ("_fragments", "_items", "bound", "closed", "delivery", "header")

    def __init__(self, bodies: Iterable[bytes]) -> None:
        self._items: dict[tuple[str, int], tuple[str, bytes]] = {}
        self.header: dict[str, Any] = {}
        self.bound: str | None = None
        self.closed: dict[str, Any] | None = None
        self.delivery: dict[str, Any] | None = None
        for number, body in enumerate(bodies):
            found = _BODY.fullmatch(body)
            if found is not None:
                self._take(number, found[1].decode(), found[2])

    def known(self, name: str) -> str:
        """Return a text of the first line; empty if there is none."""
        return _known(self.header, name)

    def fragments(self) -> dict[str, list[bytes]]:
        """Return the fragments by kind: items in the order of their start, texts once."""
        found: dict[str, list[bytes]] = {kind: [] for kind in _KINDS}
        for kind, fragment in self._items.values():
            found[kind].append(fragment)
        for kind in ITEM_KINDS:
            found[kind].sort(key=_start)
        return found | {kind: list(dict.fromkeys(found[kind])) for kind in TEXT_KINDS}

    def _take(self, number: int, kind: str, rest: bytes) -> None:
        if kind in _KINDS:
            self._keep(("line", number), kind, rest)
        elif kind in {"open", "done", "drop"}:
            self._take_numbered(kind, rest)
        elif kind == "call":
            self.header = self.header or _loaded(rest)
        elif kind == "close":
            self.closed = _loaded(rest)
        elif kind == "delivery":
            self.delivery = _loaded(rest)
        elif kind == "bind":
            self.bound = _known(_loaded(b'{"id":%b}' % rest), "id") or self.bound

    def _take_numbered(self, verb: str, rest: bytes) -> None:
        found = _NUMBERED.fullmatch(rest)
        if found is not None and verb == "drop":
            self._items.pop(("open", int(found[1])), None)
        elif found is not None and found[2] is not None:
            self._keep(("open", int(found[1])), found[2].decode(), found[3])

    def _keep(self, key: tuple[str, int], kind: str, fragment: bytes) -> None:
        if kind in _KINDS and _fits(kind, fragment):
            self._items[key] = (kind, fragment)


def _fits(kind: str, fragment: bytes) -> bool:
    """Tell whether a fragment looks like one of its kind: a sound line that is none of ours must not spoil a report."""
    if kind in ITEM_KINDS:
        return _OFFSETS.match(fragment) is not None and fragment.endswith(b"}")
    opening, closing = (b"{", b"}") if kind == _METADATA else (b'"', b'"')
    return len(fragment) > 1 and fragment.startswith(opening) and fragment.endswith(closing)


def _loaded(data: bytes) -> dict[str, Any]:
    """Return a JSON object; an empty one where there is none."""
    try:
        loaded = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _known(loaded: dict[str, Any], name: str) -> str:
    value = loaded.get(name)
    return value if isinstance(value, str) else ""


def _part(journal: _Journal, number: int, incomplete: str) -> dict[str, list[bytes]]:
    """Return one connection's fragments by kind, with the events that tell of a lost end and of a redial."""
    found = journal.fragments()
    report_id = journal.known("report_id")
    if journal.closed is None:
        lost = {"report_id": report_id, "version": journal.known("version"), "incomplete": incomplete}
        found["events"].append(_event(_last(found), "Connection closed", lost))
    if number > 1:
        found["events"].insert(0, _event(0, "Reconnected", {"report_id": report_id, "part": number}))
    return found


def _event(offset_ms: int, title: str, ours: dict[str, Any]) -> bytes:
    metadata = mapping({_OURS: ours})
    return b'{"start_offset_ms":%d,"title":"%b","metadata":%b}' % (offset_ms, title.encode(), metadata)


def _start(fragment: bytes) -> int:
    return int(fragment[19 : fragment.index(b",", 19)])  # behind `{"start_offset_ms":`, see _fits


def _last(found: dict[str, list[bytes]]) -> int:
    """Return the latest offset that any item tells of."""
    matches = (_OFFSETS.match(fragment) for kind in ITEM_KINDS for fragment in found[kind])
    return max((int(offset) for match in matches if match for offset in match.groups(b"0")), default=0)


def _report(simulation_result_id: str, found: dict[str, list[bytes]]) -> bytes:
    members = [b'"simulation_result_id":' + text(simulation_result_id)]
    members += [_list(kind, found[kind]) for kind in ITEM_KINDS if found[kind] or kind == "tool_calls"]
    members += [_list("tags", dict.fromkeys(found["tags"]))] if found["tags"] else []
    metadata = _merged(found[_METADATA])
    members += [b'"metadata":' + metadata] if metadata != b"{}" else []
    members += [_list("trace_ids", dict.fromkeys(found["trace_ids"]))] if found["trace_ids"] else []
    return b"{%b}" % b",".join(members)


def _list(kind: str, fragments: Iterable[bytes]) -> bytes:
    return b'"%b":[%b]' % (kind.encode(), b",".join(fragments))


def _merged(fragments: list[bytes]) -> bytes:
    """Return one JSON object of several, later keys first in force; the values stay as they are written."""
    if len(fragments) == 1:
        return fragments[0]
    members: dict[str, bytes] = {}
    for fragment in fragments:
        members |= _members(fragment)
    return _joined(members)


def _parts_metadata(journals: list[_Journal], metadata: list[bytes]) -> bytes:
    """Return metadata that tell the parts of a report, beside what was recorded under the same name."""
    ours = _members(_members(_merged(metadata)).get(_OURS, b"{}"))
    ids = mapping({"parts": len(journals), "report_ids": [journal.known("report_id") for journal in journals]})
    return _joined({_OURS: _joined(ours | _members(ids))})


def _members(fragment: bytes) -> dict[str, bytes]:
    """Return the members of a compact JSON object as they are written; none where it is no such object."""
    members: dict[str, bytes] = {}
    try:
        source = fragment.decode()
        end = 0
        while source[end : end + 2] not in {"{}", "}"}:
            key, colon = _decode(source, end + 1)
            _, end = _decode(source, colon + 1)
            members[key] = source[colon + 1 : end].encode()
    except (ValueError, TypeError, RecursionError):  # a line that is sound and still no JSON was not written by us
        return {}
    return members


def _joined(members: dict[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(text(key) + b":" + value for key, value in members.items())


def _with_output_cut(fragment: bytes, limit: int) -> bytes:
    members = _members(fragment) if len(fragment) > limit else {}
    if len(members.get("output", b"")) <= limit:
        return fragment
    return _joined(members | {"output": cut_json(members["output"], limit)})
