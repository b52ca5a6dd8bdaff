"""`bluejay_ws.cli.agentprocess`: the agent's process, and what the kernel knows of it."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.cli import agentprocess, terminal
from bluejay_ws.cli.agentprocess import (
    environment_of,
    listening_ports,
    pid_listening_on,
    port_of,
    signals_go_to,
    started,
)
from bluejay_ws.cli.terminal import Problem, Terminal

if TYPE_CHECKING:
    from pathlib import Path

SLEEP = 'python -c "import time; time.sleep(60)"'
NOWHERE = Terminal(io.StringIO())
LISTEN = "import socket, sys, time; kept = [socket.create_server(('127.0.0.1', 0)) for _ in range({})]; time.sleep(60)"


def test_the_port_of_a_url() -> None:
    """Its own, else that of its scheme."""
    assert [port_of(url) for url in ("ws://a:8765", "ws://a", "wss://a/b")] == [8765, 80, 443]


def test_a_process_that_listens_is_found() -> None:
    """By its port; nobody listens on a port that is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port in listening_ports(None)
        assert pid_listening_on(port) == os.getpid()
    assert pid_listening_on(port) is None


def test_the_variables_of_a_process_are_read() -> None:
    """As it was started; one that is not there has none."""
    with started(SLEEP, {"MINE": "a=b"}, NOWHERE, stop_seconds=5) as agent:
        while (known := environment_of(agent.process.pid)) is None:
            time.sleep(0.01)  # the kernel has not put them in place yet
    assert known["MINE"] == "a=b"
    assert environment_of(2**22 + 1) is None


@pytest.mark.parametrize("left", [b"", b"\0\0\0", b"agent: worker\0\0"])
def test_variables_that_a_title_has_overwritten_are_not_known(
    left: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else a server with a title of its own would seem to lack every variable."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "environ").write_bytes(left)
    monkeypatch.setattr(agentprocess, "PROC", tmp_path)
    assert environment_of(7) is None


def test_an_agent_is_stopped_with_its_children(tmp_path: Path) -> None:
    """Also one that does not listen to SIGTERM, and one that a shell started."""
    script = tmp_path / "stubborn.py"
    script.write_text("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + LISTEN.format(1))
    for command, killed in ((f"sh -c '{sys.executable} {script} & wait'", False), (f"{sys.executable} {script}", True)):
        said = io.StringIO()
        with started(command, {}, Terminal(said), stop_seconds=0.2 if killed else 30.0) as agent:
            port = agent.wait_for_port(None, 30, NOWHERE)
            assert pid_listening_on(port) is not None
        assert ("did not end within" in said.getvalue()) is killed, command
        while pid_listening_on(port) is not None:
            pass  # the kernel takes a moment to close its sockets


def test_a_person_who_waits_for_an_agent_to_end_reads_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a second; the remedy is in the line."""
    monkeypatch.setattr(terminal, "QUIET_SECONDS", 0.0)
    aside = io.StringIO()

    def slow(timeout: float | None = None) -> int:
        while timeout is not None and "agent to end" not in aside.getvalue():
            time.sleep(0.001)
        return waited()

    with started(SLEEP, {}, Terminal(io.StringIO(), aside=aside), stop_seconds=30) as agent:
        waited = agent.process.wait
        monkeypatch.setattr(agent.process, "wait", slow)
    assert aside.getvalue() == "waiting up to 30 s for the agent to end; Ctrl-C kills it ...\n"


def test_an_agent_on_several_ports_has_to_say_which() -> None:
    """Nothing is guessed."""
    command = f'python -c "{LISTEN.format(2)}"'
    with (
        started(command, {}, NOWHERE, stop_seconds=5) as agent,
        pytest.raises(Problem, match="listens on ports") as caught,
    ):
        agent.wait_for_port(None, 30, NOWHERE)
    assert "--port" in caught.value.remedy


def test_an_agent_that_never_listens_is_not_waited_for_for_ever() -> None:
    """With its last words."""
    command = "python -c \"import time; print('sleepy', flush=True); time.sleep(60)\""
    with started(command, {}, NOWHERE, stop_seconds=5) as agent:
        until = time.monotonic() + 30.0
        while not agent.last_words() and time.monotonic() < until:
            time.sleep(0.005)
        with pytest.raises(Problem, match="does not listen on port 9 after 0 s") as caught:
            agent.wait_for_port(9, 0.01, NOWHERE)
    assert "sleepy" in caught.value.remedy


@pytest.mark.parametrize("answer", ["n127.0.0.1:8765\nn[::1]:8766\n", None])
def test_without_proc_lsof_is_asked(answer: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on macOS; where there is no lsof either, no port is known."""

    def run(command: list[str], **_: Any) -> Any:
        assert command[0] == "lsof"
        if answer is None:
            raise FileNotFoundError
        return subprocess.CompletedProcess(command, 0, stdout=f"p1\n{answer}")

    monkeypatch.setattr(agentprocess, "PROC", tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    assert listening_ports(None) == listening_ports(1) == ({8765, 8766} if answer else set())


def test_a_ctrl_c_while_the_agent_starts_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment between the start of a process and knowing it."""
    processes = []
    start = agentprocess._start

    def interrupted(*args: Any) -> subprocess.Popen[bytes]:
        processes.append(start(*args))
        signal.raise_signal(signal.SIGINT)
        return processes[0]

    monkeypatch.setattr(agentprocess, "_start", interrupted)
    with pytest.raises(KeyboardInterrupt), started(SLEEP, {}, NOWHERE, stop_seconds=5):
        pytest.fail("it was interrupted before")
    assert processes[0].returncode == -signal.SIGTERM


def test_a_ctrl_c_while_the_agent_ends_kills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who presses it twice waits no longer."""

    def impatient(timeout: float | None = None) -> int:
        if timeout is not None:
            raise KeyboardInterrupt
        return waited()

    running = started(SLEEP, {}, NOWHERE, stop_seconds=60)
    agent = running.__enter__()
    waited = agent.process.wait
    monkeypatch.setattr(agent.process, "wait", impatient)
    with pytest.raises(KeyboardInterrupt):
        running.__exit__(None, None, None)
    assert agent.process.returncode in {-signal.SIGTERM, -signal.SIGKILL}


def test_an_agent_can_be_started_from_a_thread() -> None:
    """Where no signals arrive."""

    def run() -> int:
        with started(SLEEP, {}, NOWHERE, stop_seconds=5) as agent:
            return agent.process.pid

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run).result() > 0


def test_a_handler_of_signals_that_was_not_pythons_becomes_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python cannot give such a handler back: it shows it as None, and refuses None."""
    given: list[object] = []

    def set_handler(_: int, handler: object) -> None:
        if handler is None:
            raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
        given.append(handler)

    monkeypatch.setattr(signal, "signal", set_handler)
    with signals_go_to(given.append):
        assert len(given) == 2
    assert given[2:] == [signal.SIG_DFL] * 2
