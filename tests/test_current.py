"""The current recorder: whose it is, where it is seen, and the inert one where there is no call."""

from __future__ import annotations

import threading
from contextvars import copy_context
from typing import TYPE_CHECKING

from bluejay_ws.current import INERT, InertRecorder, current_recorder, enter, leave
from bluejay_ws.recorder import Recorder
from tests.support import Call

if TYPE_CHECKING:
    from collections.abc import Callable


def test_without_a_call_there_is_the_inert_recorder() -> None:
    """It is a recorder like any other, and never None."""
    assert current_recorder() is INERT
    assert isinstance(INERT, Recorder)
    assert not INERT.active


def test_the_inert_recorder_keeps_and_counts_nothing() -> None:
    """Production traffic leaves no trace, however often it records."""
    recorder = InertRecorder()
    recorder.add_tool_call("t")
    recorder.agent_said("a")
    with recorder.tool_call("t"):
        pass
    recorder.discard()
    assert recorder.bodies == []
    assert recorder._counters.snapshot() == {}
    assert repr(recorder) == "<InertRecorder: no simulation here>"


def test_calls_nest_and_each_is_left_for_the_one_before() -> None:
    """A call inside a call ends with the outer one being current again."""
    outer, inner = Call().recorder, Call().recorder
    before = enter(outer)
    assert enter(inner) is outer
    assert current_recorder() is inner
    leave(inner, outer)
    assert current_recorder() is outer
    leave(outer, before)
    assert current_recorder() is INERT


def test_leaving_twice_is_leaving_once() -> None:
    """The second time nothing happens, whatever has become current since."""
    one, other = Call().recorder, Call().recorder
    before = enter(one)
    leave(one, before)
    enter(other)
    leave(one, before)
    assert current_recorder() is other
    leave(other, before)


def test_leaving_in_a_context_that_never_entered_does_nothing() -> None:
    """A generator that is closed elsewhere leaves where it never was."""
    recorder = Call().recorder
    leave(recorder, copy_context().run(enter, recorder))
    assert current_recorder() is INERT


def test_a_plain_thread_sees_no_call_but_one_in_a_copied_context_does() -> None:
    """What the documentation says of threads."""
    call = Call()
    seen: list[Recorder] = []
    before = enter(call.recorder)
    for target in (lambda: seen.append(current_recorder()), _in_copy(seen)):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    leave(call.recorder, before)
    assert seen == [INERT, call.recorder]


def _in_copy(seen: list[Recorder]) -> Callable[[], None]:
    context = copy_context()
    return lambda: context.run(lambda: seen.append(current_recorder()))
