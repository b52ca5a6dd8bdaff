"""Give the modules of an agent the virtual time where they ask `time` for it."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bluejay_ws.testing.virtual_time import VirtualTimeLoop

CLOCKS = ("time", "monotonic", "perf_counter")


@contextlib.contextmanager
def own_time(loop: VirtualTimeLoop, directory: Path) -> Iterator[None]:
    """Have each loaded module below a directory read the loop's time in the place of the machine's.

    ``time.time``, ``time.monotonic``, ``time.perf_counter`` and their ``_ns`` are replaced where the module imported
    `time` or these names; in other threads than this one they stay real. Installed packages are left alone.

    Args:
        loop: whose time it is; of this thread.
        directory: of the agent.
    """
    there = ModuleType("time")
    vars(there).update(vars(time))
    replaced: dict[Any, Any] = {time: there}
    for name in CLOCKS:
        for clock, unit in ((name, 1.0), (f"{name}_ns", 1e9)):
            vars(there)[clock] = replaced[getattr(time, clock)] = _clock(getattr(time, clock), unit, loop)
    changed = [(module, name, value) for module, name, value in _names(directory) if _is_one_of(value, replaced)]
    for module, name, value in changed:
        setattr(module, name, replaced[value])
    try:
        yield
    finally:
        for module, name, value in changed:
            setattr(module, name, value)


def _clock(real: Callable[[], Any], unit: float, loop: VirtualTimeLoop) -> Callable[[], Any]:
    began, loop_began, thread, kind = real(), loop.time(), threading.get_ident(), type(real())

    def now() -> Any:
        if threading.get_ident() != thread:
            return real()
        return began + kind((loop.time() - loop_began) * unit)

    return now


def _names(directory: Path) -> Iterator[tuple[ModuleType, str, Any]]:
    below = str(directory).rstrip("/") + "/"
    for module in list(sys.modules.values()):
        path = str(getattr(module, "__file__", None))
        if path.startswith(below) and "/site-packages/" not in path:
            for name, value in list(vars(module).items()):
                yield module, name, value


def _is_one_of(value: Any, known: dict[Any, Any]) -> bool:
    return any(value is one for one in known)
