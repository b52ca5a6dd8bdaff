"""The recorder of the call that the running code belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from bluejay_ws.recorder import Recorder
from bluejay_ws.stats import Counters

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["INERT", "InertRecorder", "current_recorder", "enter"]


class InertRecorder(Recorder):
    """The recorder outside a simulation: the same methods, none of which keeps or counts anything."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(clock=lambda: 0, started_ns=0, report_id="", simulation_result_id=None, counters=Counters())
        self.abandon()

    def __repr__(self) -> str:
        return "<InertRecorder: no simulation here>"

    def _late(self) -> None:
        """Keep quiet: outside a simulation nothing is late."""


INERT = InertRecorder()
_current: ContextVar[Recorder] = ContextVar("bluejay_ws.recorder", default=INERT)


def current_recorder() -> Recorder:
    """Return the recorder of the call this code runs for; outside a simulation an inert one, never None.

    It follows the context: tasks, task groups, ``asyncio.to_thread`` and anyio's threads see it; a plain
    ``threading.Thread`` and ``loop.run_in_executor`` do not (run them in ``contextvars.copy_context()``,
    or hand the recorder over).
    """
    return _current.get()


def enter(recorder: Recorder) -> Callable[[], None]:
    """Make ``recorder`` the current one in this context; call the result, in the same context, to undo it."""
    before = _current.get()
    _current.set(recorder)
    return _Leave(recorder, before)


class _Leave:
    """Undo one `enter`. An object and not a closure, and no token: both take more for each idle connection."""

    __slots__ = ("_before", "_recorder")

    def __init__(self, recorder: Recorder, before: Recorder) -> None:
        self._recorder = recorder
        self._before = before

    def __call__(self) -> None:
        # Left in another context (a generator closed elsewhere)? That context ends by itself. Left twice? Once.
        if _current.get() is self._recorder:
            _current.set(self._before)
