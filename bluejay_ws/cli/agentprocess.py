"""The agent's process: start one, see where it listens, and read what it was started with."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bluejay_ws.cli.terminal import Problem, clean, temporary_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bluejay_ws.cli.terminal import Terminal

PROC = Path("/proc")
LISTENS = "0A"
LOOK_SECONDS = 0.05
SETTLE_SECONDS = 0.3  # an agent that opens several ports opens them one after the other
LAST_LINES = 12
TOOLLESS = ("was never awaited", "ended without a tool call although")
"""How Python and the library say so: nothing else shows that a tool was meant to be called."""


class AgentProcess:
    """An agent that this command has started, and the directory that goes when it does: its log and its spool.

    The process leads a session of its own.
    """

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process = process
        self.spool = directory / "spool"
        self._log = directory / "agent.log"

    def last_words(self) -> list[str]:
        """Return the last lines that the agent has written."""
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return [clean(line) for line in lines if line.strip()][-LAST_LINES:]

    def notes(self) -> list[str]:
        """Return what the agent has written of tools that did not run, or ran outside of the call."""
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return [clean(line) for line in lines if any(sign in line for sign in TOOLLESS)]

    def ended(self) -> str:
        """Return that the process has ended, and what it said last; empty while it runs."""
        code, words = self.process.poll(), self.last_words()
        said = f"; it said: {words[-1]}" if words else ""
        return "" if code is None else f"the agent's process ended (exit code {code}){said}"

    def crashed(self) -> bool:
        """Return whether the agent has written a traceback."""
        return "Traceback (most recent call last)" in self._log.read_text("utf-8", "replace")

    def wait_for_traceback(self, seconds: float) -> None:
        """Wait a moment for a traceback: servers close the connection first, and write it then."""
        until = time.monotonic() + seconds
        while not self.crashed() and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)

    def wait_for_port(self, wanted: int | None, seconds: float, terminal: Terminal) -> int:
        """Wait until the agent listens, on the ``wanted`` port or on whichever it takes, and return it.

        Raises:
            Problem: it ended, listens nowhere, or on several ports.
        """
        with terminal.waiting("waiting for the agent to listen"):
            until = time.monotonic() + seconds
            while not (ports := self._ports(wanted)):
                if self.process.poll() is not None:
                    raise self._problem(f"the agent ended before it listened (exit code {self.process.returncode})")
                if time.monotonic() > until:
                    place = "on any port" if wanted is None else f"on port {wanted}"
                    raise self._problem(f"the agent does not listen {place} after {seconds:.0f} s")
                time.sleep(LOOK_SECONDS)
        if wanted is None:
            time.sleep(SETTLE_SECONDS)
            ports = self._ports(None)
        if len(ports) > 1:
            names = " and ".join(map(str, sorted(ports)))
            raise Problem(f"the agent listens on ports {names}", "say which one takes calls: --port", exit_code=2)
        return ports.pop()

    def _ports(self, wanted: int | None) -> set[int]:
        if wanted is None:
            return listening_ports(self.process.pid)
        return {wanted} & listening_ports(None)

    def _problem(self, message: str) -> Problem:
        words = self.last_words()
        return Problem(message, f"it said: {words[-1]}" if words else "it wrote nothing", exit_code=3)

    def stop(self, seconds: float, terminal: Terminal) -> None:
        """Ask the agent and its children to end, and kill what is left after so many seconds, or at another Ctrl-C."""
        try:
            self._signal(signal.SIGTERM)
            with terminal.waiting(f"waiting up to {seconds:.0f} s for the agent to end; Ctrl-C kills it"):
                self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            terminal.wrapped(
                "  killed    ", f"The agent did not end within {seconds:.0f} s of SIGTERM.", style="yellow"
            )
        finally:
            self._signal(signal.SIGKILL)
            self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


@contextlib.contextmanager
def started(
    command: str, environment: Mapping[str, str], terminal: Terminal, *, stop_seconds: float
) -> Iterator[AgentProcess]:
    """Start an agent with a spool of its own, and stop it on the way out: it is killed after ``stop_seconds``.

    No shell reads the command. The environment comes on top of our own.

    Raises:
        Problem: the command cannot be run.
    """
    with temporary_directory() as name:
        directory = Path(name)
        variables = {**environment, "BLUEJAY_SPOOL": str(directory / "spool")}
        agent = None
        try:
            with (directory / "agent.log").open("wb") as log, _signals_later():
                agent = AgentProcess(_start(command, variables, log.fileno()), directory)
            yield agent
        finally:
            if agent is not None:
                agent.stop(stop_seconds, terminal)


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Put Ctrl-C and a termination off until the process that is being started is known, and can be stopped."""
    if threading.current_thread() is not threading.main_thread():  # has no signal handlers
        yield
        return
    came: list[int] = []
    with signals_go_to(came.append):
        yield
    for late in came:
        signal.raise_signal(late)


@contextlib.contextmanager
def signals_go_to(take: Callable[[int], object]) -> Iterator[None]:
    """Let ``take`` have Ctrl-C and SIGTERM for a while; the handlers that were there before come back."""
    before = {one: signal.signal(one, lambda number, _: take(number)) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it was not Python's, and cannot be given back


def _start(command: str, environment: Mapping[str, str], log: int) -> subprocess.Popen[bytes]:
    # The environment in which this command is installed comes first: there is a `python` that knows bluejay_ws.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    try:
        words = shlex.split(command)
        program = shutil.which(words[0], path=path) or words[0]
        return subprocess.Popen(  # noqa: S603 - the user's own command
            [program, *words[1:]],
            env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for this process; the agent is asked to stop
        )
    except (OSError, ValueError, IndexError) as error:
        reason = getattr(error, "strerror", None) or "it is no command"
        raise Problem(f"cannot start {clean(command)!r}: {reason.lower()}", "check --run", exit_code=2) from None


# -- what the kernel knows ------------------------------------------------------------------------------------------


def listening_ports(session: int | None) -> set[int]:
    """Return the TCP ports on which the processes of a session listen; None: all processes of this machine."""
    if not PROC.joinpath("net", "tcp").exists():
        return _ports_by_lsof(session)
    if session is None:
        return set(_listening_sockets().values())
    own = {inode for pid in _session(session) for inode in _sockets_of(pid)}
    return {port for inode, port in _listening_sockets().items() if inode in own} if own else set()


def pid_listening_on(port: int) -> int | None:
    """Return the process that listens on a port of this machine, or None where that cannot be seen."""
    inodes = {inode for inode, found in _listening_sockets().items() if found == port}
    pids = (int(path.name) for path in PROC.glob("[0-9]*")) if inodes else ()
    return next((pid for pid in pids if inodes & set(_sockets_of(pid))), None)


def environment_of(pid: int) -> dict[str, str] | None:
    """Return the variables that a process was started with, or None where that cannot be seen.

    A process that sets its title, as gunicorn does with setproctitle, writes over them: nothing is known then.
    """
    try:
        text = PROC.joinpath(str(pid), "environ").read_bytes().decode("utf-8", "replace")
    except OSError:
        return None
    found = {name: value for name, equals, value in (one.partition("=") for one in text.split("\0")) if equals}
    return found or None


def port_of(url: str) -> int:
    """Return the port that a websocket URL means."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "wss" else 80)


def _listening_sockets() -> dict[str, int]:
    """Return the port of each listening TCP socket, by its inode."""
    found: dict[str, int] = {}
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            lines = PROC.joinpath("net", name).read_text().splitlines()[1:]  # of a busy machine, tens of thousands
            rows = [line.split() for line in lines if f" {LISTENS} " in line]
            found.update({row[9]: int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == LISTENS})
    return found


def _session(session: int) -> list[int]:
    found = []
    for stat in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                found.append(int(stat.parent.name))
    return found


def _sockets_of(pid: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for link in PROC.joinpath(str(pid), "fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(link.readlink())
                if target.startswith("socket:["):
                    found.append(target[8:-1])
    return found


def _ports_by_lsof(session: int | None) -> set[int]:
    """Ask ``lsof``, which macOS has, where there is no ``/proc``. A session's leader leads its first group too."""
    of_whom = [] if session is None else ["-a", "-g", str(session)]
    command = ["lsof", "-nP", "-iTCP", "-sTCP:LISTEN", "-Fn", *of_whom]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return set()
    return {int(line.rpartition(":")[2]) for line in said.splitlines() if line.startswith("n")}
