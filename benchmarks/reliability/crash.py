"""``kill -9``: an agent with live calls, and reports on their way, is killed at a random moment; then the next one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from typing import TYPE_CHECKING, Any

from websockets.exceptions import WebSocketException

from benchmarks.reliability.crowd import Crowd
from benchmarks.reliability.nursery import LONGEST
from benchmarks.reliability.stage import Stage
from bluejay_ws.testing.platform import Answer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

    from benchmarks.reliability.account import Account

__all__ = ["run"]

CALLS_MOST = 20
LATEST_KILL = LONGEST * 1.5
PATIENCE = (1.0, 1.0, 1.0, 3.0)  # some agents live long enough to deliver what the last one left
PLATFORM_DELAY = 0.02  # so that many a kill meets a report that is accepted and not answered
DRAIN_SECONDS = 120.0


def run(kills: int, seed: int, options: Mapping[str, Any] | None = None) -> Account:
    """Kill so many agents, each with 1 to 20 calls, all on one spool; start anew; return the account.

    Args:
        kills: how many.
        seed: of the moments and the numbers of calls.
        options: of the library.
    """
    with Stage(options) as stage:
        stage.platform.otherwise(Answer(delay=PLATFORM_DELAY))
        dice = random.Random(seed)
        nursery = stage.start("benchmarks.reliability.nursery", "{fd}")
        asyncio.run(_kill_again_and_again(stage, nursery, kills, dice))
        before = len(stage.platform.accepted)
        stage.platform.otherwise()
        fresh = stage.next_start(DRAIN_SECONDS)
        account = stage.account(runs=kills)
        account.slowest = fresh
        account.notes.append(f"{before} delivered between the kills, the rest by the next start")
        return account


async def _kill_again_and_again(stage: Stage, nursery: subprocess.Popen[str], kills: int, dice: random.Random) -> None:
    for number in range(kills):
        pid = int(await _told(nursery, "live"))
        calls = 1 + int(CALLS_MOST * dice.random() ** 5)  # few calls more often than many
        dials = [asyncio.create_task(_call(Crowd(stage.url), f"kill{number}-{call}")) for call in range(calls)]
        await asyncio.sleep(dice.uniform(0.0, LATEST_KILL) * dice.choice(PATIENCE))
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(_line, nursery)
        for dial in dials:
            dial.cancel()
        await asyncio.gather(*dials, return_exceptions=True)


async def _call(crowd: Crowd, identity: str) -> None:
    """Dial, and listen until the end."""
    connection = await crowd.dial(identity)
    try:
        with contextlib.suppress(WebSocketException, OSError):
            async for _ in connection:
                pass
    finally:
        connection.transport.abort()


async def _told(process: subprocess.Popen[str], command: str) -> str:
    assert process.stdin is not None
    print(command, file=process.stdin, flush=True)
    return await asyncio.to_thread(_line, process)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("the nursery is gone")
    return line
