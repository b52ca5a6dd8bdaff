"""`bluejay_ws.interrupts`: the agent's way to end passes, what a value raises does not."""

from __future__ import annotations

import functools
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.interrupts import of_a_value

if TYPE_CHECKING:
    from collections.abc import Callable


class Stop(BaseException):
    """What a library raises from its signal handler."""


def leave(*_: object) -> None:
    """End the process, as handlers often do."""
    sys.exit(0)


def forgets_its_arguments(signum: Any, frame: Any) -> None:
    """Leave nothing of the arguments to look at."""
    signum = frame = None
    raise Stop(signum, frame)


class Handler:
    """A handler that is an object, or one of its methods."""

    def __call__(self, *_: object) -> None:
        raise Stop

    def method(self, *_: object) -> None:
        """Do the same as a method."""
        raise Stop


def raised_by(handler: Callable[..., Any]) -> BaseException:
    """Return what comes out of a signal that is raised in the middle of something."""
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises((SystemExit, Stop)) as found:
            signal.raise_signal(signal.SIGUSR1)
        assert not of_a_value(found.value)  # while it is installed
        return found.value
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(
    "handler",
    [
        leave,
        lambda *_: sys.exit(0),
        lambda number, frame: sys.exit(number),
        forgets_its_arguments,
        functools.partial(leave, "more"),
        Handler(),
        Handler().method,
    ],
)
def test_what_a_signal_handler_raises_passes(handler: Callable[..., Any]) -> None:
    """However it takes its arguments, and whatever it raises."""
    assert isinstance(raised_by(handler), SystemExit | Stop)


@pytest.mark.parametrize("kind", [SystemExit, Stop, GeneratorExit, ValueError])
def test_what_a_value_raises_does_not(kind: type[BaseException]) -> None:
    """No signal was raised: it is the value's own doing."""

    def ask(*_: object) -> None:
        raise kind

    for arguments in ((), (1, "no frame"), (1, None)):
        with pytest.raises(kind) as found:
            ask(*arguments)
        assert of_a_value(found.value)


def test_an_argument_that_raises_when_it_is_asked_does_no_harm() -> None:
    """The arguments in a traceback are the value's own as well."""

    class Odd:
        def __getattribute__(self, name: str) -> Any:
            raise SystemExit

    def ask(_first: object, _second: object) -> None:
        raise Stop

    with pytest.raises(Stop) as found:
        ask(Odd(), Odd())
    assert of_a_value(found.value)


def test_ctrl_c_passes() -> None:
    """Wherever it comes from."""
    assert not of_a_value(KeyboardInterrupt())
