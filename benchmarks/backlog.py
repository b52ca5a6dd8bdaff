"""Reports that wait when a process starts: when the first and the last of them are delivered."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.delivering import fill, wait_for
from benchmarks.measure import Effort, Result, spread
from benchmarks.peer import peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.peer import Peer

__all__ = ["run"]

WAITING = 1_500
APART = 3.0
"""Seconds between two starts. Each mostly waits for its share of the ramp, so several may go on at once."""

_AGENT = """
import sys
from bluejay_ws import Bluejay
with Bluejay({key!r}, base_url={url!r}, spool={directory!r}, flush_timeout=0.0) as client:
    with client.call({{"X-Simulation-Result-Id": "goes-on"}}):  # the first connection starts delivery
        sys.stdin.read()
"""


class _Restart:
    """A process that starts on a spool in which reports wait."""

    def __init__(self, platform: Peer, process: subprocess.Popen[bytes], began: float) -> None:
        self.platform = platform
        self._process = process
        self._began = began

    def drained(self, count: int) -> tuple[float, float]:
        """Wait for the last report; return the seconds to the first one and to the last, from the process's start."""
        wait_for(lambda: int(self.platform.ask("count")) >= count, 120.0)
        first, last = map(float, self.platform.ask("times").split())
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(60) == 0
        return first - self._began, last - self._began


@contextmanager
def _restart(directory: Path, count: int) -> Iterator[_Restart]:
    with peer("platform") as platform:
        url, key = platform.answer().split()
        fill(directory, url, count)
        code = _AGENT.format(key=key, url=url, directory=str(directory))
        began = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            try:
                yield _Restart(platform, process, began)
            finally:
                process.kill()


def run(effort: Effort) -> list[Result]:
    """Measure whole processes: their start, with its imports, counts."""
    quick = effort.crowd < 1_000
    count = 20 if quick else WAITING
    found = []
    with tempfile.TemporaryDirectory() as root, ExitStack() as stack:
        restarts = []
        for number in range(1 if quick else 3):
            restarts.append(stack.enter_context(_restart(Path(root, str(number)), count)))
            time.sleep(0.0 if quick else APART)
        found = [restart.drained(count) for restart in restarts]
    first, last = ([pair[which] for pair in found] for which in (0, 1))
    what = f"{count:,} reports wait when a process starts: the first is delivered after"
    return [
        Result(
            what,
            median(first),
            "s",
            spread(first),
            f"{len(found)} processes",
            1.0,
        ),
        Result("the last of them after", median(last), "s", spread(last), "at most 50 a second, as a ramp", 40.0),
    ]
