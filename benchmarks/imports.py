"""What ``import bluejay_ws`` costs an agent at its start."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.measure import Effort, Result, difference, in_turns, spread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run"]


def _start(code: str) -> Callable[[], float]:
    def measure() -> float:
        begun = perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdin=subprocess.DEVNULL)
        return perf_counter() - begun

    return measure


def run(effort: Effort) -> list[Result]:
    """Measure whole processes that import, against the same process that does not."""
    cases = {
        "nothing": _start("pass"),
        "ours": _start("import bluejay_ws"),
        "websockets": _start("import websockets"),
        "server": _start("import websockets.asyncio.server"),
        "agent": _start("import websockets.asyncio.server, bluejay_ws"),
        "client": _start("import websockets.asyncio.server, bluejay_ws; bluejay_ws.Bluejay('made-up', spool=False)"),
    }
    found = in_turns(cases, max(1, effort.rounds // 4))
    alone = [
        ours - theirs
        for ours, theirs in zip(
            difference(found["ours"], found["nothing"]), difference(found["websockets"], found["nothing"]), strict=True
        )
    ]
    added = difference(found["agent"], found["server"])
    client = difference(found["client"], found["server"])
    bare = f"bare interpreter: {median(found['nothing']) * 1e3:.0f} ms"
    server = median(difference(found["server"], found["nothing"])) * 1e3
    return [
        Result("`import bluejay_ws` beyond `import websockets`", median(alone), "s", spread(alone), bare, 0.15),
        Result(
            "the same in an agent that serves",
            median(added),
            "s",
            spread(added),
            f"`websockets.asyncio.server` itself: {server:.0f} ms",
        ),
        Result(
            "the same, and a client is made",
            median(client),
            "s",
            spread(client),
        ),
    ]
