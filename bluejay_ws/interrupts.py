"""Tell the agent's own way to end from what a recorded value raises: only the first may pass through a recorder."""

from __future__ import annotations

import signal
from functools import partial
from types import CodeType, FrameType, MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["of_a_value"]


def of_a_value(error: BaseException) -> bool:
    """Return whether what was raised while a value was read comes from the value's own code.

    Then it must not reach the agent. What is not of a value is a KeyboardInterrupt, and whatever else a signal handler
    raised that is no `Exception`, such as the SystemExit of a handler of SIGTERM: the process is to end.

    Args:
        error: as it was caught, with its traceback.
    """
    if isinstance(error, Exception):
        return True
    return not isinstance(error, KeyboardInterrupt) and not _from_signal_handler(error)


def _from_signal_handler(error: BaseException) -> bool:
    """Return whether a signal handler raised this: Python runs one between any two lines."""
    handlers: set[CodeType] | None = None
    for frame in _frames(error):
        if _called_by_a_signal(frame):
            return True
        handlers = _handlers() if handlers is None else handlers
        if frame.f_code in handlers:
            return True
    return False


def _frames(error: BaseException) -> Iterator[FrameType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _called_by_a_signal(frame: FrameType) -> bool:
    """Return whether the last two arguments of a call are a signal's number and a frame, as a handler gets them."""
    code, names = frame.f_code, frame.f_locals
    arguments = [names.get(name) for name in code.co_varnames[: code.co_argcount]]
    # `isinstance` would ask a foreign value for its class, which may raise.
    return len(arguments) > 1 and issubclass(type(arguments[-2]), int) and type(arguments[-1]) is FrameType


def _handlers() -> set[CodeType]:
    """Return the code of the handlers that are installed: one may take its arguments in another way."""
    found = (_code(signal.getsignal(number)) for number in signal.valid_signals())
    return {code for code in found if code is not None}


def _code(handler: Any) -> CodeType | None:
    while type(handler) is partial:
        handler = handler.func
    if type(handler) is MethodType:
        handler = handler.__func__
    code = getattr(handler, "__code__", None)
    if code is None:  # an object that can be called
        code = getattr(vars(type(handler)).get("__call__"), "__code__", None)
    return code if type(code) is CodeType else None
