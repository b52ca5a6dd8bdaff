"""Real servers that `record` cannot record: it says so at their first simulated call, and the way that it names works.

They come with the extra `frameworks`; what is not installed is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect

from bluejay_ws import record
from bluejay_ws.servers import unsupported
from tests.support import report_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from bluejay_ws import Bluejay
    from bluejay_ws.testing.platform import FakePlatform


async def echo(url: str, identity: str = "720488") -> None:
    """Make a simulated call: two texts, and their echoes."""
    async with connect(url, additional_headers={"X-Simulation-Result-Id": identity}) as websocket:
        for message in ("one", "two"):
            await websocket.send(message)
            assert await websocket.recv() == message


# -- the servers: each with a handler under `record`, and in it what `record` says to do -------------------------------


@contextlib.asynccontextmanager
async def tornado(client: Bluejay) -> AsyncIterator[str]:
    """A handler class, whose methods each serve a part of the call."""
    web: Any = pytest.importorskip("tornado.web")
    websocket: Any = pytest.importorskip("tornado.websocket")
    base: Any = websocket.WebSocketHandler

    class Agent(base):  # type: ignore[misc]
        @record(client=client)
        def open(self) -> None:
            self.call = client.call(self.request.headers)
            self.call.__enter__().add_tool_call("answer")

        async def on_message(self, message: str) -> None:
            await self.write_message(message)

        def on_close(self) -> None:
            self.call.__exit__(None, None, None)

    server = web.Application([("/", Agent)]).listen(0, "127.0.0.1")
    (listening,) = server._sockets.values()
    yield f"ws://127.0.0.1:{listening.getsockname()[1]}"
    server.stop()
    await server.close_all_connections()


@contextlib.asynccontextmanager
async def legacy(client: Bluejay) -> AsyncIterator[str]:
    """The old server of ``websockets``, which has its connections do everything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module: Any = pytest.importorskip("websockets.legacy.server")

    @record(client=client)
    async def agent(websocket: Any) -> None:
        with client.call(websocket.request_headers) as recorder:
            recorder.add_tool_call("answer")
            async for message in websocket:
                await websocket.send(message)

    async with module.serve(agent, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def flask_sock(client: Bluejay) -> AsyncIterator[str]:
    """A handler with a thread, whose headers are Flask's current request's."""
    flask: Any = pytest.importorskip("flask")
    sock: Any = pytest.importorskip("flask_sock")
    serving: Any = pytest.importorskip("werkzeug.serving")
    app = flask.Flask("agent")

    @sock.Sock(app).route("/")  # type: ignore[untyped-decorator]
    @record(client=client)
    def agent(websocket: Any) -> None:
        with client.call(flask.request.headers) as recorder:
            recorder.add_tool_call("answer")
            while True:
                websocket.send(websocket.receive())

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = serving.make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"ws://127.0.0.1:{server.server_port}"
    server.shutdown()
    await asyncio.to_thread(thread.join)
    server.server_close()


SERVERS = {"tornado": tornado, "websockets.legacy": legacy, "flask-sock": flask_sock}
WAYS = {
    "tornado": "bluejay.call(self.request.headers)",
    "websockets.legacy": "bluejay.call(websocket.request_headers)",
    "flask-sock": "bluejay.call(request.headers)",
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_cannot_be_recorded_is_named_once_with_a_way_that_works(
    name: str,
    client: Bluejay,
    platform: FakePlatform,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two simulated calls: one line, two counts, and both reports by the way that the line names."""
    monkeypatch.setattr(unsupported, "_SAID", set())

    async def main() -> None:
        async with SERVERS[name](client) as url:
            for identity in ("1", "2"):
                await echo(url, identity)
            await platform.await_for(2)

    with caplog.at_level(logging.ERROR, "bluejay_ws"):
        asyncio.run(main())
    (line,) = [entry.getMessage() for entry in caplog.records if entry.name == "bluejay_ws"]
    assert WAYS[name] in line
    assert client.stats()["dropped.unknown_server"] == 2
    for report in platform.wait_for(2):
        assert [tool["name"] for tool in report.tool_calls] == ["answer"]


# -- servers with processes of their own -----------------------------------------------------------------------------

ROBYN = """
from robyn import Robyn
from bluejay_ws import Bluejay, record
bluejay = Bluejay(spool=False)
app = Robyn(__file__)

@app.websocket("/")
@record(client=bluejay)
async def agent(websocket):
    headers = {"X-Simulation-Result-Id": websocket.query_params.get("simulation_result_id", None)}
    with bluejay.call(headers) as recorder:
        recorder.add_tool_call("answer")
        for _ in range(2):  # Robyn 0.88 does not say to its handler that the caller has hung up
            await websocket.send_text(await websocket.receive_text())

app.start(host="127.0.0.1", port=PORT)
"""
GRANIAN = """
from granian import Granian
from bluejay_ws import Bluejay, record
bluejay = Bluejay(spool=False)

@record(client=bluejay)
async def agent(scope, protocol):
    with bluejay.call(scope.headers) as recorder:
        recorder.add_tool_call("answer")
        transport = await protocol.accept()
        while (message := await transport.receive()).kind:
            await transport.send_str(message.data)

if __name__ == "__main__":
    Granian("agent:agent", "127.0.0.1", PORT, interface="rsgi").serve()
"""
PROGRAMS = {
    "robyn": (ROBYN, "/?simulation_result_id=720488", "query_params.get"),
    "granian": (GRANIAN, "/", "bluejay.call(scope.headers)"),
}


@contextlib.contextmanager
def program(source: str, directory: Path, platform: FakePlatform) -> Iterator[tuple[int, Callable[[], str]]]:
    """Run a server; give its port, and what ends it and returns its output."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    (directory / "agent.py").write_text(source.replace("PORT", str(port)))
    environ = {
        **os.environ,
        "BLUEJAY_API_URL": platform.url,
        "BLUEJAY_API_KEY": platform.api_key,
        "PYTHONPATH": str(Path.cwd()),
    }
    environ.pop("PYTEST_CURRENT_TEST", None)  # what is recorded under pytest stays here
    log = directory / "log"
    with log.open("wb") as output:
        command = [sys.executable, "agent.py"]
        process = subprocess.Popen(
            command, cwd=directory, env=environ, stdout=output, stderr=output, start_new_session=True
        )

    def end() -> str:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return log.read_text()

    try:
        yield port, end
    finally:
        end()


async def patient_echo(url: str) -> None:
    """Call a server as soon as it listens."""
    while True:
        try:
            return await echo(url)
        except OSError:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_server_in_a_process_of_its_own_says_so_too(name: str, tmp_path: Path, platform: FakePlatform) -> None:
    """Robyn keeps no headers of a websocket, so any call is said; on Granian's own interface a simulated one."""
    pytest.importorskip(name)
    source, path, way = PROGRAMS[name]
    with program(source, tmp_path, platform) as (port, end):
        asyncio.run(patient_echo(f"ws://127.0.0.1:{port}{path}"))
        assert [tool["name"] for tool in report_of(platform).tool_calls] == ["answer"]
        output = end()
    assert output.count("@record cannot record") == 1
    assert way in output
