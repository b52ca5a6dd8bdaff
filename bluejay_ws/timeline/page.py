"""One HTML file that shows a call: everything it needs is inside, and nothing in it comes from anywhere else.

The page's parts lie beside this module as they are written: ``assets/page.html``, ``page.css`` and ES modules. They are
put together here, without a build step: each module becomes a function's body in one script, whose checksum is the only
one that the page's Content-Security-Policy allows.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections import Counter
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluejay_ws.timeline.judged import expected_tools, judged, verdicts
from bluejay_ws.timeline.reading import read, seconds
from bluejay_ws.timeline.verdict import LEVELS, THRESHOLD_MS, compare, findings, headline, latency_of, missed

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from bluejay_ws.timeline.reading import Call, Item
    from bluejay_ws.timeline.sound import Sound
    from bluejay_ws.timeline.verdict import Finding, Latency

__all__ = ["render", "shell", "view", "write_page"]

MODULES = ("util", "state", "lanes", "list", "latency", "player", "main")
"""In the order in which each uses only what stands before it."""
_IMPORT = re.compile(r"^import (\{[^}]*\}) from \"\./(\w+)\.js\";$", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:const|function\*?) (\w+))", re.MULTILINE)
_LEFT_OPEN = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def write_page(report: object, path: str | os.PathLike[str], **options: Any) -> Path:
    """Write the page of a report, and return its path.

    Args:
        report: the parsed JSON of a report; a partial or foreign one gives a page too.
        path: of the HTML file; it is replaced.
        options: as for `view`.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(path)
    target.write_text(render(report, **options), "utf-8")
    return target


def render(report: object, **options: Any) -> str:
    """Return the page of a report as HTML; ``options`` are those of `view`."""
    return shell({"call": view(report, **options)})


def view(
    report: object,
    *,
    against: object = None,
    expected: Mapping[str, Any] | None = None,
    delivery: Mapping[str, Any] | None = None,
    result: Mapping[str, Any] | None = None,
    sound: Sound | None = None,
    threshold_ms: float = THRESHOLD_MS,
) -> dict[str, Any]:
    """Return what the page shows of a report, as data.

    Args:
        report: the parsed JSON of a report; a partial or foreign one gives a page too.
        against: another report, to be shown beside it: the last call that went well.
        expected: the tools that the simulation expected, by name; see `bluejay_ws.timeline.reading.read`.
        delivery: what is known of the report's way: ``state``, ``reason``, ``attempts``.
        result: what the platform shows for the call: `bluejay_ws.results.CallResult.as_dict`.
        sound: what the local caller heard and said.
        threshold_ms: an answer that takes longer is late.
    """
    call = read(report, expected=expected_tools(result) if expected is None and result else expected)
    latency = latency_of(call, threshold_ms)
    found = findings(call, latency, dict(delivery or {}))
    if result:
        found = sorted([*found, *verdicts(result)], key=lambda finding: LEVELS.index(finding.level))
    shown = _shown(call, latency, found, delivery)
    if result:
        shown["result"] = judged(result)
    if sound is not None:
        shown["sound"] = sound.to_page()
    if against is not None:
        other = read(against)
        before = latency_of(other, threshold_ms)
        shown["against"] = _shown(other, before, findings(other, before), None)
        shown["differences"] = [_finding(one) for one in compare(call, other, latency, before)]
    return shown


def _shown(call: Call, latency: Latency, found: list[Finding], delivery: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "id": call.simulation_result_id,
        "duration": call.duration,
        "headline": headline(found),
        "level": next((one.level for one in found if one.level != "note"), "good"),
        "findings": [_finding(one) for one in found],
        "figures": _figures(call, latency),
        "latency": {"threshold": latency.threshold, "p50": latency.p50, "p95": latency.p95, "values": latency.values},
        "items": [_item(item) for item in call.items],
        "tools": _tools(call),
        "delivery": dict(delivery) if delivery else None,
        "about": _about(call),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {"level": finding.level, "text": finding.text, "at": finding.at}


def _item(item: Item) -> dict[str, Any]:
    short = {"k": item.kind, "s": item.start, "e": item.end, "t": item.text, "f": item.facts, "n": item.count}
    if item.is_mocked:
        short["m"] = True
    return {**short, "p": item.problem} if item.problem else short


def _figures(call: Call, latency: Latency) -> list[list[str]]:
    tools = call.of("tool")
    counts = {
        "failed": sum(bool(tool.problem) for tool in tools),
        "mocked": sum(tool.is_mocked for tool in tools),
    }
    marked = [f"{count} {word}" for word, count in counts.items() if count]
    none = "-"
    return [
        ["Length", seconds(call.duration)],
        ["Answers, p50", none if latency.p50 is None else seconds(latency.p50)],
        ["Answers, p95", none if latency.p95 is None else seconds(latency.p95)],
        ["Interruptions", str(len(call.of("interruption")))],
        ["Tool calls", ", ".join([str(len(tools)), *marked])],
        ["Errors", str(sum(item.count for item in call.of("error")))],
    ]


def _tools(call: Call) -> list[dict[str, Any]] | None:
    """Return the tools as expected and as called; None where nothing is known of what was expected."""
    if call.expected is None:
        return None
    actual = Counter(item.text for item in call.of("tool"))
    return [
        {
            "name": name,
            "expected": len(call.expected.get(name, [])),
            "actual": actual[name],
            "differs": bool(actual[name] and missed(call, name)),
        }
        for name in dict.fromkeys([*call.expected, *actual])
    ]


def _about(call: Call) -> dict[str, Any]:
    facts = {"tags": call.tags, "trace_ids": call.trace_ids, "metadata": call.metadata, "closing": call.closing}
    return {name: value for name, value in facts.items() if value}


def shell(data: Mapping[str, Any], *, connect: str = "'none'") -> str:
    """Return the page with ``data`` in it.

    Args:
        data: ``call`` holds a `view`; ``live`` the path that a live page reads from.
        connect: what the page's script may connect to, as its Content-Security-Policy writes it.
    """
    script, style = _script(), _asset("page.css")
    policy = (
        f"default-src 'none'; script-src '{_checksum(script)}'; style-src '{_checksum(style)}'; "
        f"connect-src {connect}; img-src data:; base-uri 'none'; form-action 'none'"
    )
    identity = str((data.get("call") or {}).get("id") or "")
    parts = {
        "policy": html.escape(policy),
        "title": html.escape(f"Call {identity}" if identity else "Bluejay call"),
        "style": style,
        "data": _safe_json(data),
        "script": script,
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))
    return page.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate has no UTF-8


def _safe_json(data: Mapping[str, Any]) -> str:
    """Return JSON in which nothing can end the script element that holds it."""
    options: dict[str, Any] = {"ensure_ascii": False, "separators": (",", ":"), "default": str}
    try:
        text = json.dumps(data, allow_nan=False, **options)
    except ValueError:  # a browser's JSON knows no NaN
        text = json.dumps(_without_nan(data), **options)
    return re.sub("[<>&\u2028\u2029]", lambda found: _LEFT_OPEN[found[0]], text)


def _without_nan(value: Any) -> Any:
    """Return data in which what is no finite number is text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return [_without_nan(one) for one in value] if isinstance(value, list | tuple) else value


@cache
def _script() -> str:
    return '\n"use strict";\nconst modules = {};\n' + "\n".join(_in_function(name) for name in MODULES)


def _in_function(name: str) -> str:
    """Return a module as a function that runs at once and leaves what it exports in ``modules``."""
    source = _asset(f"{name}.js")
    exports = ", ".join(_EXPORT.findall(source))
    body = _EXPORT.sub("", _IMPORT.sub(r"const \1 = modules.\2;", source))
    return f"modules.{name} = (() => {{\n{body}return {{ {exports} }};\n}})();\n"


@cache
def _asset(name: str) -> str:
    return files("bluejay_ws.timeline").joinpath("assets", name).read_text("utf-8")


def _checksum(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
