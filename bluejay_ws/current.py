"""The recorder of the call that the running code belongs to."""

from __future__ import annotations

from contextvars import ContextVar

from bluejay_ws.recorder import Recorder
from bluejay_ws.stats import Counters

__all__ = ["INERT", "InertRecorder", "current_recorder", "enter", "leave"]


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


def enter(recorder: Recorder) -> Recorder:
    """Make ``recorder`` the current one in this context; return the one before, for `leave`.

    (No token and no object that undoes it: both take more for each idle connection.)
    """
    before = _current.get()
    _current.set(recorder)
    return before


def leave(recorder: Recorder, before: Recorder) -> None:
    """Undo one `enter`, in its context. In another one, which ends by itself, and a second time nothing happens."""
    if _current.get() is recorder:
        _current.set(before)
