"""A platform, an agent whose disk can be made to fail, its caller, and the account of what became of each call."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from websockets.sync.client import connect

from bluejay_ws.testing.platform import FakePlatform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
CALLS = 2
WORDS = ("good morning", "freeze my card")
PATIENCE = 30.0

# Words of the counters that say that a call was not delivered, and why.
REASONS = ("held", "parked", "dropped.")


@dataclass
class Run:
    """What was seen of one agent.

    Args:
        calls: the ids of the calls it answered.
        frames: what its callers got, with the code of the close.
        exit: the code of its exit; None if it did not end.
        stats: what it counted.
        lines: what it logged.
    """

    calls: tuple[str, ...] = ()
    frames: list[list[Any]] = field(default_factory=list)
    exit: int | None = None
    stats: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def loud(self) -> list[str]:
        """The lines that are warnings or worse."""
        return [line for line in self.lines if not line.startswith(("INFO", "DEBUG"))]

    @property
    def unsettled(self) -> int:
        """How many calls were not delivered for a reason that is told."""
        return sum(count for name, count in self.stats.items() if name.startswith(REASONS))


class DiskStage:
    """Start agents on one machine, one after the other."""

    def __init__(self) -> None:
        self.platform = FakePlatform()
        self._numbers = itertools.count(720488)
        self._control = socket.create_server(("127.0.0.1", 0))
        self._control.settimeout(PATIENCE)
        host, port = self._control.getsockname()
        command = [sys.executable, str(Path(__file__).with_name("disk_agent.py")), host, str(port)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "COVERAGE_PROCESS_CONFIG": ""}
        pipe = subprocess.PIPE
        self._nursery = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environ)

    def __enter__(self) -> Self:
        self.platform.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.close()
        self._nursery.stdout.close()
        self._nursery.kill()
        self._nursery.wait()
        self._control.close()
        self.platform.__exit__(None, None, None)

    def run(
        self,
        spool: Path,
        calls: int = CALLS,
        *,
        hold: Callable[[int], contextlib.AbstractContextManager[object]] = lambda _: contextlib.nullcontext(),
        between: Callable[[str], object] = lambda _: None,
        file_size: int | None = None,
        flush_timeout: float = 20.0,
    ) -> Run:
        """Let an agent answer some calls and come to its end.

        Args:
            spool: its spool.
            calls: how many.
            hold: called with its process id before it touches the disk; left when it has ended.
            between: called with the name of each step: ``begun``, ``talked``, ``ended``.
            file_size: bytes beyond which none of its files can grow.
            flush_timeout: seconds that it waits at its end for what its disk may keep it from delivering.
        """
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        order = {"url": self.platform.url, "spool": str(spool), "calls": calls, "file_size": file_size}
        order["flush_timeout"] = flush_timeout
        self._nursery.stdin.write(json.dumps(order) + "\n")
        self._nursery.stdin.flush()
        run = Run(tuple(str(next(self._numbers)) for _ in range(calls)))
        with self._control.accept()[0] as control, control.makefile("rw") as said:
            control.settimeout(PATIENCE)
            known = json.loads(said.readline())
            with hold(known["pid"]):
                said.write("go\n")
                said.flush()
                self._call(f"ws://127.0.0.1:{known['port']}", run, between)
                run.__dict__.update(json.loads(said.readline() or "{}"))
                run.exit = int(self._nursery.stdout.readline())
        return run

    @staticmethod
    def _call(url: str, run: Run, between: Callable[[str], object]) -> None:
        """Talk on all calls at once, then hang up on one after the other."""
        with contextlib.ExitStack() as stack:
            callers = []
            for identity in run.calls:
                header = {"X-Simulation-Result-Id": identity}
                caller = connect(url, additional_headers=header, compression=None, open_timeout=PATIENCE)
                callers.append(stack.enter_context(caller))
            run.frames = [[] for _ in callers]
            between("begun")
            for word in WORDS:
                for caller, frames in zip(callers, run.frames, strict=True):
                    caller.send(word)
                    frames.append(caller.recv(timeout=PATIENCE))
            between("talked")
            for caller, frames in zip(callers, run.frames, strict=True):
                caller.close()
                frames.append(caller.protocol.close_code)
                between("ended")

    def check(self, run: Run, then: Run, usual: Run) -> None:
        """Check that the agent noticed nothing, and that each call is delivered once and whole, or counted."""
        calls = run.calls
        assert (run.frames, run.exit) == (usual.frames, 0), run.lines
        assert then.exit == 0, then.lines
        assert self.platform.duplicates == {}
        seen = Counter(report.simulation_result_id for report in self.platform.accepted)
        missing = [identity for identity in calls if not seen[identity]]
        assert len(missing) <= run.unsettled + then.unsettled, (missing, run, then)
        for identity in calls:
            for report in self.platform.reports_for(identity):
                names = sorted(call["name"] for call in report.tool_calls)
                words = [call["parameters"]["said"] for call in report.tool_calls]
                assert names == [f"tool-{number}" for number in range(len(WORDS))], (identity, names)
                assert sorted(words) == sorted(WORDS)
        assert len(run.loud) <= len(calls) + 2, run.lines
        assert all("freeze my card" not in line and "test-key" not in line for line in [*run.lines, *then.lines])


class Failing:
    """Let system calls of a process fail: ``with failing(pid): ...``. Skips the test where strace may not attach.

    Args:
        system_calls: names; of a call that has several, all: which of them is made differs between machines.
        error: of the C library, such as ``EIO``.
        when: as strace has it: ``3`` the third, ``3+`` from then on; counted for each thread on its own.
        log: a file for strace to write to.
    """

    def __init__(self, system_calls: str, error: str, when: str, log: Path) -> None:
        self._log = log
        calls = ",".join(f"?{name}" for name in system_calls.split(","))
        inject = f"inject={calls}:error={error}:when={when}"
        self._command = ["strace", "-f", "-o", str(log), "-e", f"trace={calls}", "-e", inject]

    @property
    def struck(self) -> bool:
        """Whether any call was made to fail."""
        return "INJECTED" in self._log.read_text("utf-8", "replace")

    @contextlib.contextmanager
    def __call__(self, pid: int) -> Iterator[None]:
        with subprocess.Popen([*self._command, "-p", str(pid)], stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            first = tracer.stderr.readline()
            reader = threading.Thread(target=tracer.stderr.read)
            reader.start()
            try:
                if "attached" not in first:
                    pytest.skip(f"strace may not attach here: {first.strip()}")
                yield
            finally:
                tracer.terminate()
                reader.join()


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not there")
