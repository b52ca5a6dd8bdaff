"""Python programs in processes of their own that need not import everything anew.

`start` and `run` are `subprocess.Popen` and `subprocess.run` for a command that begins with ``sys.executable``. The
process is forked from one that has made the imports: that takes a hundredth of a second instead of a whole one. All
else is as in a fresh process: environment, directory, streams, ``__main__``, signals, and the end of the interpreter.
Where the imports themselves are the point, and where coverage measures the process, use `subprocess`, as this does.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import fcntl
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import socket
import subprocess
import sys
import threading
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
IMPORTED = (
    "asyncio",
    "websockets.asyncio.client",
    "websockets.asyncio.server",
    "bluejay_ws.decorator",
    "bluejay_ws.servers.websockets",
    "bluejay_ws.delivery.http",
    "bluejay_ws.testing.platform",
)
FORKS = hasattr(os, "pidfd_open")
MEASURED = "COVERAGE_PROCESS_CONFIG"  # has Python start with coverage
LONGEST_ORDER = 1 << 17
HIGH = 500
_asking = threading.Lock()


def start(command: Sequence[str], *, imported: Sequence[str] = (), **options: Any) -> subprocess.Popen[str]:
    """Start a program; its streams are text.

    Args:
        command: ``sys.executable``, then ``-c`` and code, ``-m`` and a module, or a file; then its arguments.
        imported: modules that it needs besides, which take long.
        options: those of `subprocess.Popen`.
    """
    environ = options.get("env") or os.environ
    if environ.get(MEASURED) or not FORKS:
        return subprocess.Popen(command, text=True, **options)
    return _Forked([*IMPORTED, *imported], command, text=True, **options)


def run(command: Sequence[str], *, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; return what it said."""
    pipe = subprocess.PIPE
    with start(command, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, **options) as process:
        try:
            said, problems = process.communicate(timeout=55)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert not (check and process.returncode), problems
    return subprocess.CompletedProcess(command, process.returncode, said, problems)


class _Forked(subprocess.Popen[str]):
    """A process that is the child of the nursery, which tells us the code of its exit."""

    def __init__(self, imported: Sequence[str], command: Sequence[str], **options: Any) -> None:
        self._imported = imported
        self._end, self._told = os.pipe()
        self._waiting = threading.Lock()
        super().__init__(command, **options)

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, *rest: Any) -> None:
        pass_fds, cwd, env, _, _, _, *pipes = rest[:12]
        child = [pipe if pipe != -1 else number for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))]
        order = {
            "imported": self._imported,
            "arguments": [str(word) for word in args[1:]],
            "directory": str(cwd or Path.cwd()),
            "environ": dict(os.environ if env is None else env),
            "kept": list(pass_fds),
        }
        with _asking:
            socket.send_fds(_nursery(), [json.dumps(order).encode()], [*child, self._told, *pass_fds])
            self.pid = int(_nursery().recv(100))
        self._child_created = True
        os.close(self._told)
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _wait(self, timeout: float | None) -> int:
        while self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._end, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            with self._waiting:
                if self.returncode is None:
                    self.returncode = os.waitstatus_to_exitcode(int(os.read(self._end, 100) or b"9"))
                    os.close(self._end)
        return self.returncode

    def _internal_poll(self, *_: object, **__: object) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._wait(0.0)
        return self.returncode


@functools.cache
def _nursery() -> socket.socket:
    """Return this process's connection to the one that forks."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST_ORDER)
    connection.connect(begin()[0])
    return connection


@functools.cache
def begin() -> tuple[bytes, subprocess.Popen[bytes]]:
    """Start the process that forks, for this one and those that are forked of it; return its address, and itself.

    It ends when they have ended. Whoever lets go of it before is warned, as from Python 3.13 on a forked process would.
    """
    alive, ours = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("")  # Linux finds a free name
        listener.listen(64)
        fds = [listener.fileno(), alive]
        command = [sys.executable, __file__, *map(str, fds)]
        environ = {name: value for name, value in os.environ.items() if name != MEASURED}
        process = subprocess.Popen(command, pass_fds=fds, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL)
        address: bytes = listener.getsockname()
    os.close(alive)
    atexit.register(process.wait)
    atexit.register(os.close, ours)  # first: that is its end
    return address, process


# -- in the nursery ---------------------------------------------------------------------------------------------------


def serve(listener: socket.socket, alive: int) -> tuple[dict[str, Any], list[int]] | None:
    """Fork a child for each order, and tell how each ended; return in a child, with its order and descriptors."""
    with selectors.DefaultSelector() as selector:
        selector.register(alive, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == alive:
                    return None
                if key.data is not None:
                    _tell_the_end(selector, key.fd, *key.data)
                elif key.fileobj is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                elif child := _obey(selector, key.fileobj):  # type: ignore[arg-type]
                    return child


def _obey(selector: selectors.BaseSelector, orders: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    text, fds = b"", list[int]()
    with contextlib.suppress(ConnectionResetError):
        text, fds, _, _ = socket.recv_fds(orders, LONGEST_ORDER, 16)
    if not text:
        selector.unregister(orders)
        orders.close()
        return None
    order = json.loads(text)
    for name in order["imported"]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else each child looks through all that was imported, which copies it
    if not (pid := os.fork()):
        for key in selector.get_map().values():
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.detach()  # `become` closes them all
        return order, fds
    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, fds.pop(3)))
    with contextlib.suppress(BrokenPipeError):  # who gave the order may have been killed meanwhile
        orders.send(str(pid).encode())
    for fd in fds:
        os.close(fd)
    return None


def _tell_the_end(selector: selectors.BaseSelector, pidfd: int, pid: int, told: int) -> None:
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(told, str(status).encode())
    selector.unregister(pidfd)
    os.close(pidfd)
    os.close(told)


def become(order: dict[str, Any], fds: list[int]) -> None:
    """Make this process what one is that was just started: descriptors, environment and directory."""
    out_of_the_way = [fcntl.fcntl(fd, fcntl.F_DUPFD, HIGH) for fd in fds]
    os.closerange(3, HIGH)
    for fd, number in zip(out_of_the_way, [0, 1, 2, None, *order["kept"]], strict=True):
        if number is not None:
            os.dup2(fd, number)
        os.close(fd)
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environ"])


def execute(arguments: list[str]) -> None:
    """Run a program as Python does with these arguments."""
    while arguments[0] == "-W":
        warnings._setoption(arguments[1])  # type: ignore[attr-defined]
        arguments = arguments[2:]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    first, *sys.argv = arguments
    if first == "-m":
        sys.path[0] = str(Path.cwd())
        runpy._run_module_as_main(sys.argv[0])  # type: ignore[attr-defined]
    elif first == "-c":
        code, sys.argv[0], sys.path[0] = sys.argv[0], "-c", ""
        exec(compile(code, "<string>", "exec"), main.__dict__)
    else:
        sys.argv[:0], sys.path[0], main.__file__ = [first], str(Path(first).resolve().parent), first
        exec(compile(Path(first).read_bytes(), first, "exec"), main.__dict__)


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    if program := serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])):
        become(*program)
        sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        execute(program[0]["arguments"])
