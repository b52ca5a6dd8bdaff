"""Servers that are told to end with sockets open: real processes, real signals, a platform that keeps count."""

from __future__ import annotations

import signal
import sys

import pytest
from websockets.version import version

from benchmarks.reliability.life import SETUPS, Setup, run
from benchmarks.reliability.stage import QUICK, Stage

CALLS = 8
BY_DAY = (
    "websockets, asyncio.run, SIGINT",
    "websockets, threads, SIGINT",
    "gunicorn, uvicorn worker, --preload, SIGTERM",
)
"""One of each way to end: an exception in the loop, in a thread, a server that ends in order and was forked."""


@pytest.mark.parametrize(
    "setup",
    [
        pytest.param(setup, id=setup.name, marks=[] if setup.name in BY_DAY else [pytest.mark.nightly])
        for setup in SETUPS
        if not setup.nightly
    ],
)
def test_a_signal_loses_no_call(setup: Setup) -> None:
    """What was recorded arrives as it was, once: before the process ends, else with the next start."""
    if setup.missing:
        pytest.skip(f"not installed: {', '.join(setup.missing)}")
    if setup.name == "websockets, threads, SIGINT" and int(version.split(".")[0]) < 15:
        pytest.skip("websockets 13: a threaded server that is shut down leaves its connections open")
    if "hypercorn" in setup.name and sys.version_info >= (3, 12):
        pytest.skip("hypercorn does not end with open websockets on this Python, recorded or not (its issue 308)")
    account = run(setup, CALLS, QUICK)
    assert account.sound, account
    assert account.delivered == account.calls == CALLS + 1, account
    assert account.at_once == (0 if setup.kills else CALLS), account


def test_no_signal_handler_is_ours() -> None:
    """Handlers belong to the application: after a delivered call each signal has the one it had."""
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    with Stage(QUICK) as stage:
        stage.next_start()
        assert {number: signal.getsignal(number) for number in signal.valid_signals()} == handlers
