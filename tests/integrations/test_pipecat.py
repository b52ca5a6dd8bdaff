"""The observer's connections, on real websockets, with a stand-in for the transport: no Pipecat needed."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from bluejay_ws import Bluejay, current_recorder, record
from bluejay_ws.current import INERT
from bluejay_ws.exceptions import BluejayError
from tests import nursery
from tests.servers.asgi_server import HEADERS, uvicorn_server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # where Pipecat is installed, its imports warn
    from bluejay_ws.integrations.pipecat import BluejayObserver, MissingPipecatError, TransportCalls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from starlette.websockets import WebSocket
    from websockets.asyncio.server import ServerConnection

    from bluejay_ws.testing.platform import FakePlatform

STANDIN = """
class BaseObserver:
    def __init__(self, *, name=None):
        self.name = name
    async def cleanup(self):
        self.cleaned = True
"""
HAS_PIPECAT = importlib.util.find_spec("pipecat") is not None


class Client:
    def __init__(self, websocket: object) -> None:
        self._websocket = websocket


class Transport:
    """What an observer uses of Pipecat's transports."""

    def __init__(self, websocket: object = None) -> None:
        self.handlers: dict[str, list[Callable[..., None]]] = {}
        self._client = Client(websocket)

    def output(self) -> Transport:
        return self

    def add_event_handler(self, name: str, handler: Callable[..., None]) -> None:
        self.handlers.setdefault(name, []).append(handler)

    def tell(self, name: str, websocket: object) -> None:
        for handler in self.handlers[name]:
            handler(self, websocket)


class TranscriptionFrame:
    id = 1
    text = "Hello"


class Push:
    """A final transcription on its way."""

    frame = TranscriptionFrame()
    direction = SimpleNamespace(name="DOWNSTREAM")
    timestamp = 0


class Broken:
    frame = TranscriptionFrame()  # and no direction


@pytest.fixture
def client(platform: FakePlatform) -> Iterator[Bluejay]:
    """Give a client that reports to the platform."""
    with Bluejay("test-key", base_url=platform.url, spool=False) as client:
        yield client


async def call_endpoint(endpoint: Callable[[WebSocket], Awaitable[None]], headers: Any = HEADERS) -> None:
    """Call a Starlette endpoint, wait for its end and leave."""
    app = Starlette(routes=[WebSocketRoute("/", endpoint)])
    async with uvicorn_server(app) as url, connect(url, additional_headers=headers) as websocket:
        async for _ in websocket:
            await websocket.close()


async def call_server(handler: Callable[[ServerConnection], Awaitable[None]], headers: Any = HEADERS) -> None:
    """Call a handler of a websockets server, and leave when it has sent something."""
    async with serve(handler, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with connect(url, additional_headers=headers) as websocket:
            async for _ in websocket:
                await websocket.close()


async def until_closed(websocket: WebSocket) -> None:
    """Say something to a caller, and wait until it has left."""
    await websocket.send_text("{}")
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


def texts(platform: FakePlatform) -> list[tuple[str, list[str]]]:
    """Return each report's id and what was said in it."""
    return [(one.simulation_result_id, [said["utterance"] for said in one.transcript]) for one in platform.accepted]


@pytest.mark.skipif(HAS_PIPECAT, reason="pipecat is installed")
def test_without_pipecat_the_observer_gives_the_install_line() -> None:
    """The module can be imported; the observer says what to install, as an error of ours and as an ImportError."""
    with pytest.raises(MissingPipecatError, match=r"pip install 'bluejay_ws\[pipecat\]'") as caught:
        BluejayObserver(Transport())
    assert isinstance(caught.value, BluejayError)


def test_the_install_line_is_an_error_of_both_kinds() -> None:
    """Who catches ImportError catches it, and who catches ours does."""
    assert issubclass(MissingPipecatError, ImportError)
    assert issubclass(MissingPipecatError, BluejayError)
    assert "pip install 'bluejay_ws[pipecat]'" in str(MissingPipecatError())


def test_nothing_else_imports_pipecat() -> None:
    """Recording without Pipecat does not pay for it."""
    code = "import sys, bluejay_ws, bluejay_ws.integrations.pipecat_frames; sys.exit('pipecat' in sys.modules)"
    nursery.run([sys.executable, "-c", code])


@pytest.mark.skipif(HAS_PIPECAT, reason="pipecat is installed")
@pytest.mark.usefixtures("measured_children")
def test_the_observer_is_one_of_pipecats(tmp_path: Path) -> None:
    """It derives from Pipecat's base, takes its options, hands frames on and ends at its cleanup."""
    (tmp_path / "pipecat" / "observers").mkdir(parents=True)
    (tmp_path / "pipecat" / "observers" / "base_observer.py").write_text(STANDIN)
    code = "; ".join(
        (
            "import asyncio, sys",
            f"sys.path.insert(0, {str(tmp_path)!r})",
            "from bluejay_ws.integrations.pipecat import BluejayObserver, BaseObserver",
            "transport = type('Transport', (), {'add_event_handler': lambda *_: None})()",
            "observer = BluejayObserver(transport, name='ours')",
            "assert isinstance(observer, BaseObserver) and observer.name == 'ours'",
            "assert not observer.recorder.active",
            "asyncio.run(observer.on_push_frame(None))",
            "asyncio.run(observer.cleanup())",
            "assert observer.cleaned",
        )
    )
    nursery.run([sys.executable, "-c", code])


def test_an_endpoint_that_is_not_recorded_gets_a_call_of_the_observers(client: Bluejay, platform: FakePlatform) -> None:
    """The call is there from the observer's making, current in the endpoint, and observed to its end."""
    seen: list[Any] = []

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        transport = Transport(websocket)
        calls = TransportCalls(transport, client=client)
        seen.append(current_recorder() is calls.recorder)
        transport.tell("on_client_connected", websocket)
        calls.pushed(Push())
        await until_closed(websocket)
        transport.tell("on_client_disconnected", websocket)
        await asyncio.sleep(0.1)
        seen.append(calls.recorder is INERT)

    asyncio.run(call_endpoint(endpoint))
    client.flush(30.0)
    assert seen == [True, True]
    assert texts(platform) == [("720488", ["Hello"])]
    (closing,) = platform.accepted[0].events
    assert closing["metadata"]["bluejay_ws"]["closed_by"] == "caller"


def test_in_a_recorded_endpoint_the_observer_adds_to_its_call(client: Bluejay, platform: FakePlatform) -> None:
    """One connection, one report: the endpoint's; the observer only brings its words in before it leaves."""

    @record(client=client)
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        transport = Transport(websocket)
        calls = TransportCalls(transport, client=client)
        transport.tell("on_client_connected", websocket)
        assert calls.recorder is current_recorder()
        calls.pushed(Push())
        await until_closed(websocket)
        transport.tell("on_client_disconnected", websocket)
        calls.end()
        calls.end()
        await asyncio.sleep(0.1)

    asyncio.run(call_endpoint(endpoint))
    client.flush(30.0)
    assert texts(platform) == [("720488", ["Hello"])]


def test_a_discarded_call_is_not_taken_up_again(client: Bluejay, platform: FakePlatform) -> None:
    """What its endpoint has left out stays out."""

    @record(client=client)
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        current_recorder().discard()
        calls = TransportCalls(Transport(websocket), client=client)
        assert calls.recorder is INERT
        calls.pushed(Push())
        await until_closed(websocket)

    asyncio.run(call_endpoint(endpoint))
    client.flush(30.0)
    assert texts(platform) == []


@pytest.mark.parametrize("recorded", [True, False])
def test_parameters_of_a_carrier_name_the_call(recorded: bool, client: Bluejay, platform: FakePlatform) -> None:
    """An id in what the carrier's first message brought is bound, in the endpoint's call or in the observer's."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        parameters = {"my_id": "7", "x": {1}}
        calls = TransportCalls(Transport(websocket), client=client, id_names=("my_id",), parameters=parameters)
        calls.pushed(Push())
        await until_closed(websocket)
        calls.end()

    handler = record(client=client, id_from=("header", "message"))(endpoint) if recorded else endpoint
    asyncio.run(call_endpoint(handler, headers=None))
    client.flush(30.0)
    assert texts(platform) == [("7", ["Hello"])]


def test_a_servers_clients_have_calls_of_their_own(client: Bluejay, platform: FakePlatform) -> None:
    """Behind the server transport one observer serves all clients, one after the other."""
    transport = Transport()
    calls = TransportCalls(transport, client=client)

    async def handler(websocket: ServerConnection) -> None:
        transport.tell("on_client_connected", websocket)
        calls.pushed(Push())
        await websocket.send("{}")
        await websocket.wait_closed()
        transport.tell("on_client_disconnected", object())  # somebody else's end is not this one's
        transport.tell("on_client_disconnected", websocket)
        await asyncio.sleep(0.1)

    async def main() -> None:
        await call_server(handler, {"X-Simulation-Result-Id": "1"})
        calls.pushed(Push())  # between two calls
        await call_server(handler, {"X-Simulation-Result-Id": "2"})

    asyncio.run(main())
    client.flush(30.0)
    assert sorted(texts(platform)) == [("1", ["Hello"]), ("2", ["Hello"])]


def test_a_client_that_takes_anothers_place_gets_its_own_call(client: Bluejay, platform: FakePlatform) -> None:
    """In older releases the newest client wins; the end of the one before is told after that."""
    transport = Transport()
    calls = TransportCalls(transport, client=client)

    async def main() -> None:
        first, second = (SimpleNamespace(headers={"X-Simulation-Result-Id": one}) for one in "12")
        transport.tell("on_client_connected", first)
        transport.tell("on_client_disconnected", first)
        transport.tell("on_client_connected", second)
        calls.pushed(Push())
        await asyncio.sleep(0.1)
        assert calls.recorder.simulation_result_id == "2"
        calls.end()

    asyncio.run(main())
    client.flush(30.0)
    assert sorted(texts(platform)) == [("1", []), ("2", ["Hello"])]


def test_any_other_websocket_is_recorded_without_its_frames(client: Bluejay, platform: FakePlatform) -> None:
    """Whatever has headers can name a call; without headers, or a name in them, there is none."""
    transport = Transport()
    calls = TransportCalls(transport, client=client)

    async def main() -> None:
        for headers in (None, {}, {"x-simulation-result-id": "3"}):
            transport.tell("on_client_connected", SimpleNamespace(headers=headers))
        calls.pushed(Push())
        calls.end()

    asyncio.run(main())
    client.flush(30.0)
    assert texts(platform) == [("3", ["Hello"])]
    assert client.stats()["recorded"] == 1


def test_words_settle_by_the_loops_clock(client: Bluejay, platform: FakePlatform) -> None:
    """What waits for late words is in the journal half a second later, whatever becomes of the process."""
    transport = Transport()
    calls = TransportCalls(transport, client=client)

    async def main() -> None:
        transport.tell("on_client_connected", SimpleNamespace(headers={"X-Simulation-Result-Id": "4"}))
        calls.pushed(Push())
        assert not calls.recorder.bodies
        async with asyncio.timeout(5.0):
            while not calls.recorder.bodies:
                await asyncio.sleep(0.02)
        calls.end()

    asyncio.run(main())


def test_an_error_of_ours_is_counted_and_reaches_nobody(client: Bluejay, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong in the observer, Pipecat is not told; the log names its type only."""
    transport = Transport()
    calls = TransportCalls(transport, client=client)
    transport.tell("on_client_connected", SimpleNamespace(headers={"X-Simulation-Result-Id": "5"}))
    with caplog.at_level(logging.ERROR, "bluejay_ws"):
        calls.pushed(Broken())
    calls.end()
    assert client.stats()["internal_error.pipecat"] == 1
    assert "AttributeError" in caplog.text


def test_a_transport_that_is_none_is_counted(client: Bluejay) -> None:
    """The pipeline is built and runs without a report."""
    TransportCalls(object(), client=client).pushed(Push())
    assert client.stats()["internal_error.pipecat"] == 1


def test_without_a_usable_client_the_pipeline_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong setting in the environment shows when the first call comes; it is logged, and nothing is raised."""
    from bluejay_ws import client as clients

    monkeypatch.setattr(clients, "_default", None)
    monkeypatch.setenv("BLUEJAY_API_URL", "http://elsewhere.example")
    transport = Transport()
    calls = TransportCalls(transport)
    with caplog.at_level(logging.ERROR, "bluejay_ws"):
        transport.tell("on_client_connected", SimpleNamespace(headers={"X-Simulation-Result-Id": "6"}))
    assert calls.recorder is INERT
    assert "calls are not recorded (ConfigurationError)" in caplog.text


def test_an_unknown_place_for_the_id_is_refused() -> None:
    """A mistake in the agent's own code is told at once."""
    with pytest.raises(ValueError, match="id_from"):
        TransportCalls(Transport(), id_from=("cookie",))  # type: ignore[arg-type]
