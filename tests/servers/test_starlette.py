"""``@record`` on Starlette and FastAPI endpoints: it means the same there as everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import weakref
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.exceptions import HTTPException, WebSocketException
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from websockets.asyncio.client import connect

from bluejay_ws import Bluejay, Recorder, current_recorder, record, record_tool
from bluejay_ws.current import INERT
from bluejay_ws.servers import starlette as adapter
from bluejay_ws.servers.asgi import SCOPE_KEY, BluejayMiddleware
from tests.servers.asgi_server import (
    HEADERS,
    WS,
    Peer,
    TestClient,
    audio,
    hang_up,
    uvicorn_server,
    websocket_scope,
)
from tests.support import report_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bluejay_ws.testing.platform import FakePlatform


def closing(platform: FakePlatform) -> dict[str, Any]:
    """Return what the closing event of the one report says."""
    facts: dict[str, Any] = report_of(platform).report["events"][-1]["metadata"]["bluejay_ws"]
    return facts


@record_tool
async def lookup(name: str) -> str:
    """Look something up."""
    return f"found {name}"


async def echo(websocket: WebSocket) -> None:
    """Accept, use a tool, echo until the caller hangs up."""
    await websocket.accept()
    await lookup("it")
    async for message in websocket.iter_bytes():
        await websocket.send_bytes(message)


async def accept_only(websocket: WebSocket) -> None:
    """Accept and return."""
    await websocket.accept()


async def accepted(websocket: WebSocket) -> str:
    """Accept, as a dependency of an endpoint."""
    await websocket.accept()
    return "yes"


async def given_token(token: str = "none") -> str:
    """Return a query parameter, as a dependency of an endpoint."""
    return token


def one_call(app: Any, path: str = "/", *, backend: Any = "asyncio", headers: dict[str, str] | None = None) -> None:
    """Call an application once: one frame there and back, then hang up with 4001."""
    with (
        TestClient(app, backend=backend) as peer,
        peer.websocket_connect(path, headers=dict(HEADERS if headers is None else headers)) as websocket,
    ):
        websocket.send_bytes(bytes(640))
        assert websocket.receive_bytes() == bytes(640)
        websocket.close(4001, "bye")


def starlette_app(endpoint: Any) -> Starlette:
    """Return an application with one endpoint."""
    return Starlette(routes=[WebSocketRoute("/", endpoint)])


# -- what it records ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_endpoint_ends_in_a_report_with_its_facts(platform: FakePlatform, client: Bluejay, backend: str) -> None:
    """Frames both ways, tool calls, close code and reason; on asyncio and trio."""
    one_call(starlette_app(record(echo, client=client)), backend=backend)
    facts = closing(platform)
    assert (facts["server"], facts["user_frames"], facts["agent_frames"]) == ("starlette", 1, 1)
    assert (facts["close_code"], facts["close_reason"], facts["closed_by"]) == (4001, "bye", "caller")
    assert [call["name"] for call in report_of(platform).report["tool_calls"]] == ["lookup"]


@pytest.mark.anyio
async def test_an_endpoint_that_just_returns_ends_its_call(
    platform: FakePlatform, client: Bluejay, anyio_backend: str
) -> None:
    """The server closes for it, when the connection's task ends; on trio the endpoint's end counts."""
    peer = Peer()

    async def connection() -> None:
        await record(accept_only, client=client)(WebSocket(websocket_scope("720488"), peer.receive, peer.send))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connection)
    facts = closing(platform)
    assert "close_code" not in facts
    assert facts["closed_by"] == "agent"


def test_the_agents_close_is_the_agents(platform: FakePlatform, client: Bluejay) -> None:
    """With its code and reason."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json({"type": "mark", "data": {"name": "m"}}, mode="text")
        await websocket.close(4444, "done")

    with (
        TestClient(starlette_app(record(endpoint, client=client))) as peer,
        peer.websocket_connect("/", headers=dict(HEADERS)) as websocket,
    ):
        websocket.receive_json()
        with pytest.raises(WebSocketDisconnect):
            websocket.receive_json()
    facts = closing(platform)
    assert (facts["close_code"], facts["close_reason"], facts["closed_by"]) == (4444, "done", "agent")
    assert facts["marks_sent"] == 1


def test_a_close_that_the_framework_makes_of_an_exception_is_seen(platform: FakePlatform, client: Bluejay) -> None:
    """Starlette turns it into a close outside the endpoint, on the same websocket."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        raise WebSocketException(1008, "policy")

    with (
        TestClient(starlette_app(record(endpoint, client=client))) as peer,
        peer.websocket_connect("/", headers=dict(HEADERS)) as websocket,
        pytest.raises(WebSocketDisconnect) as caught,
    ):
        websocket.receive_bytes()
    assert (caught.value.code, caught.value.reason) == (1008, "policy")
    facts = closing(platform)
    assert (facts["close_code"], facts["close_reason"], facts["error"]) == (1008, "policy", "WebSocketException")


@pytest.mark.parametrize("error", [WebSocketException(1008), HTTPException(403)])
def test_a_refused_connection_leaves_no_report(platform: FakePlatform, client: Bluejay, error: Exception) -> None:
    """What is refused before it is accepted was no call."""

    async def endpoint(websocket: WebSocket) -> None:
        raise error

    peer = Peer()
    scope = websocket_scope("720488", root_path="", extensions={"websocket.http.response": {}})
    asyncio.run(starlette_app(record(endpoint, client=client))(scope, peer.receive, peer.send))
    assert client.flush()
    assert platform.accepted == []
    assert client.stats()["dropped.refused"] == 1


def test_a_crash_before_accept_leaves_a_report_that_says_so(platform: FakePlatform, client: Bluejay) -> None:
    """The exception passes, and the report has its type."""

    async def endpoint(websocket: WebSocket) -> None:
        raise LookupError("no model")

    with (
        TestClient(starlette_app(record(endpoint, client=client))) as peer,
        pytest.raises(LookupError),
        peer.websocket_connect("/", headers=dict(HEADERS)),
    ):
        pass
    facts = closing(platform)
    assert (facts["accepted"], facts["outcome"], facts["error"]) == (False, "agent_error", "LookupError")


def test_a_websocket_that_was_accepted_before_the_endpoint_is_recorded(platform: FakePlatform, client: Bluejay) -> None:
    """A dependency may accept."""
    app = FastAPI()

    @app.websocket("/")
    @record(client=client)
    async def endpoint(websocket: WebSocket, answer: Annotated[str, Depends(accepted)]) -> None:
        current_recorder().add_tags(answer)

    with TestClient(app) as peer, peer.websocket_connect("/", headers=dict(HEADERS)):
        pass
    assert report_of(platform).report["tags"] == ["yes"]


# -- where an endpoint can stand ---------------------------------------------------------------------------------------


def test_fastapi_sees_the_endpoints_own_signature(platform: FakePlatform, client: Bluejay) -> None:
    """Dependencies, path parameters, queries and annotations work as without the decorator."""
    router = APIRouter()

    @router.websocket("/voice/{name}")
    @record(client=client)
    async def voice(
        websocket: WebSocket, name: str, depth: Annotated[int, Query()], token: Annotated[str, Depends(given_token)]
    ) -> None:
        """Talk."""
        await websocket.accept()
        current_recorder().add_metadata(name=name, depth=depth, token=token)
        await websocket.send_bytes(await websocket.receive_bytes())
        await websocket.receive()

    app = FastAPI()
    app.include_router(router, prefix="/v1")
    one_call(app, "/v1/voice/bob?depth=3&token=t")
    assert report_of(platform).report["metadata"] == {"name": "bob", "depth": 3, "token": "t"}
    assert list(inspect.signature(voice).parameters) == ["websocket", "name", "depth", "token"]
    assert (voice.__name__, voice.__doc__) == ("voice", "Talk.")


def test_a_mounted_application_and_a_class_are_recorded(platform: FakePlatform, client: Bluejay) -> None:
    """Class-based endpoints are recorded from the method that is decorated."""

    class Voice(WebSocketEndpoint):
        encoding = "bytes"

        @record(client=client)
        async def on_connect(self, websocket: WebSocket) -> None:
            await websocket.accept()

        @record(client=client)
        async def on_receive(self, websocket: WebSocket, data: Any) -> None:
            await lookup("it")
            await websocket.send_bytes(data)

    one_call(Starlette(routes=[Mount("/agents", app=starlette_app(Voice))]), "/agents/")
    facts = closing(platform)
    assert (facts["user_frames"], facts["agent_frames"], facts["close_code"]) == (1, 1, 4001)
    assert len(report_of(platform).report["tool_calls"]) == 1


def test_a_bound_method_a_partial_and_a_callable_are_recorded(platform: FakePlatform, client: Bluejay) -> None:
    """Whatever a route accepts."""

    class Voice:
        async def talk(self, websocket: WebSocket) -> None:
            await echo(websocket)

    one_call(starlette_app(record(Voice().talk, client=client)))
    assert len(platform.wait_for(1)) == 1
    partial = functools.partial(record(echo, client=client))
    one_call(starlette_app(partial), headers={"X-Simulation-Result-Id": "720489"})
    assert len(platform.wait_for(2)) == 2


@pytest.mark.parametrize("outer", [True, False], ids=["middleware first", "decorated twice"])
def test_a_call_is_recorded_once(platform: FakePlatform, client: Bluejay, outer: bool) -> None:
    """Middleware and decorator, or two decorators: one call, one report, no frame counted twice."""
    app: Any = starlette_app(record(record(echo, client=client), client=client))
    one_call(BluejayMiddleware(app, client) if outer else app)
    assert client.flush()
    facts = closing(platform)
    assert (facts["user_frames"], facts["agent_frames"]) == (1, 1)
    assert client.stats()["recorded"] == 1


@pytest.mark.parametrize("inner", ["decorator", "middleware"])
def test_a_second_client_on_the_same_connection_is_no_secret(
    platform: FakePlatform, client: Bluejay, spool: Path, caplog: pytest.LogCaptureFixture, inner: str
) -> None:
    """The outer client records; that the redaction of the inner one does not run is said once, and counted."""
    with Bluejay("test-key", base_url=platform.url, spool=spool, redact=lambda *_: "secret") as other:
        recorded = inner == "decorator"
        app: Any = starlette_app(record(echo, client=other) if recorded else echo)
        for number in ("1", "2"):
            one_call(
                BluejayMiddleware(app if recorded else BluejayMiddleware(app, other), client),
                headers={"X-Simulation-Result-Id": number},
            )
        assert client.flush()
        assert (other.stats()["doubled.clients"], other.stats()["recorded"]) == (2, 0)
    (line,) = [line for line in caplog.messages if "two clients" in line]
    assert "redact of the other one are not used; give the middleware and the decorators the same client" in line
    assert platform.accepted[0].report["tool_calls"][0]["output"] == "found it"


def test_two_clients_of_the_same_settings_need_no_word(
    platform: FakePlatform, client: Bluejay, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is recorded is the same whoever of them records it."""
    with Bluejay("test-key", base_url=platform.url, spool=spool) as twin:
        assert twin.settings == client.settings
        one_call(BluejayMiddleware(starlette_app(record(echo, client=twin)), client))
        assert "doubled.clients" not in twin.stats()
    assert not [line for line in caplog.messages if "two clients" in line]


def test_the_framework_adds_the_middleware(platform: FakePlatform, client: Bluejay) -> None:
    """The one line of the README; the lifespan passes through it."""
    app = starlette_app(echo)
    app.add_middleware(BluejayMiddleware, client=client)
    one_call(app)
    assert closing(platform)["server"] == "asgi"


# -- what it lets through ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"X-Simulation-Result-Id": "no id"}])
def test_without_an_id_the_endpoint_gets_an_untouched_websocket(client: Bluejay, headers: dict[str, str]) -> None:
    """Nothing is attached, nothing is recorded."""
    seen: list[Any] = []

    @record(client=client)
    async def endpoint(websocket: WebSocket) -> None:
        seen.extend([set(vars(websocket)) & {"receive", "send"}, SCOPE_KEY in websocket.scope, current_recorder()])
        await echo(websocket)

    one_call(starlette_app(endpoint), headers=headers)
    assert seen == [set(), False, INERT]


def test_a_recorded_websocket_is_the_frameworks_own(platform: FakePlatform, client: Bluejay) -> None:
    """Its type, its state and its methods are what the endpoint expects."""
    seen: list[Any] = []

    @record(client=client)
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept("chirp", headers=[(b"x-agent", b"1")])
        seen.extend([type(websocket), websocket.application_state.name, type(current_recorder())])
        seen.append(await websocket.receive_json())
        with contextlib.suppress(RuntimeError):
            await websocket.send({"type": "websocket.nonsense"})
        async for text in websocket.iter_text():
            await websocket.send_text(text)
        with pytest.raises(RuntimeError, match="once a disconnect message"):
            await websocket.receive()

    with (
        TestClient(starlette_app(endpoint)) as peer,
        peer.websocket_connect("/", headers=dict(HEADERS), subprotocols=["chirp"]) as websocket,
    ):
        assert websocket.accepted_subprotocol == "chirp"
        websocket.send_json({"a": 1})
        websocket.send_text("ä")
        assert websocket.receive_text() == "ä"
    assert seen == [WebSocket, "CONNECTED", Recorder, {"a": 1}]
    assert closing(platform)["text_frames"] == 3


@pytest.mark.parametrize("part", [False, True])
def test_an_endpoint_whose_websocket_cannot_be_observed_is_recorded_without_frames(
    platform: FakePlatform, client: Bluejay, part: bool
) -> None:
    """Somebody's own class may forbid attributes; the call continues and ends with its endpoint, or its part of one."""

    class Sealed:
        __slots__ = ("application_state", "scope")

        def __init__(self) -> None:
            self.scope = websocket_scope("720488")
            self.application_state = WebSocketState.CONNECTED

    call = adapter.open_call(Sealed(), lambda: client, part=part)
    assert call is not None
    call.leave(call.enter())
    assert closing(platform)["closed_by"] == "unknown"
    assert client.stats()["internal_error.attach"] == 1


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("patched", [False, True])
async def test_the_websocket_is_left_as_it_was_made(client: Bluejay, patched: bool) -> None:
    """When its task is over it stands in no cycle, unless somebody else has patched it too."""
    peer, gone = Peer(audio(), hang_up()), list[Any]()

    async def handler(websocket: WebSocket) -> None:
        await record(echo, client=client)(websocket)
        gone.append(weakref.ref(websocket))
        if patched:
            vars(websocket)["send"] = "theirs"
            gone.append(websocket)

    websocket = WebSocket(websocket_scope("720488"), peer.receive, peer.send)
    task = asyncio.create_task(handler(websocket))
    del websocket
    gc.disable()
    try:
        await task
        del task
        await asyncio.sleep(0)
        if patched:
            assert (vars(gone[1]).get("send"), "receive" in vars(gone[1])) == ("theirs", False)
        else:
            assert gone[0]() is None
    finally:
        gc.enable()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("ws", WS)
async def test_a_caller_that_drops_is_noticed_by_the_endpoint(platform: FakePlatform, client: Bluejay, ws: str) -> None:
    """Behind a real server: the endpoint's exception passes, the report says what the server says."""
    seen: list[BaseException] = []

    @record(client=client)
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        try:
            await websocket.receive_bytes()
        except WebSocketDisconnect as error:
            seen.append(error)
            raise

    app = starlette_app(endpoint)
    async with uvicorn_server(app, ws) as url, connect(url, additional_headers=HEADERS) as websocket:
        await websocket.recv()
        websocket.transport.abort()
        await asyncio.to_thread(platform.wait_for)
    facts = closing(platform)
    assert len(seen) == 1
    assert (facts["close_code"], facts["closed_by"], facts["outcome"]) == (1006, "nobody", "connection_lost")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("raises", [False, True])
async def test_a_server_that_shuts_down_waits_for_delivery(
    platform: FakePlatform, client: Bluejay, raises: bool
) -> None:
    """Without the middleware nobody hears of the lifespan: the endpoint's own end is the last chance, and is used."""

    @record(client=client)
    async def endpoint(websocket: WebSocket) -> None:
        await echo(websocket)
        if raises:
            raise ValueError("broke")

    async with contextlib.AsyncExitStack() as stack:
        async with uvicorn_server(starlette_app(endpoint)) as url:
            websocket = await stack.enter_async_context(connect(url, additional_headers=HEADERS))
            await websocket.send(bytes(640))
            await websocket.recv()
        assert len(platform.accepted) == 1
    assert closing(platform)["close_code"] == 1012


@pytest.mark.anyio
async def test_a_delivery_that_fails_to_be_awaited_reaches_nobody(tmp_path: Path, anyio_backend: str) -> None:
    """It is counted."""

    class Broken(Bluejay):
        async def flush_at_end(self) -> bool:
            raise RuntimeError("broken")

    with Broken("test-key", base_url="http://127.0.0.1:9", spool=tmp_path, flush_timeout=0.0) as client:
        peer = Peer(hang_up(1012))
        await record(echo, client=client)(WebSocket(websocket_scope("720488"), peer.receive, peer.send))
        assert client.stats()["internal_error.flush"] == 1


@pytest.mark.parametrize(("error", "waits"), [(ValueError("broke"), 1), (asyncio.CancelledError(), 0)])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_cancelled_endpoint_waits_for_no_delivery(
    platform: FakePlatform, tmp_path: Path, anyio_backend: str, error: BaseException, waits: int
) -> None:
    """Whoever cancels wants an end now; one that fails at a shutdown has the time that its server gives it."""
    waited: list[None] = []

    class Patient(Bluejay):
        async def flush_at_end(self) -> bool:
            waited.append(None)
            return True

    async def endpoint(websocket: WebSocket) -> None:
        await echo(websocket)
        raise error

    peer = Peer(hang_up(1012))
    with Patient("test-key", base_url=platform.url, spool=tmp_path) as client:
        with pytest.raises(type(error)):
            await record(endpoint, client=client)(WebSocket(websocket_scope("720488"), peer.receive, peer.send))
        assert len(waited) == waits


def _types_of(handler: Callable[[WebSocket], Any]) -> None:
    """See that the decorator keeps the endpoint's type; never run."""
    _types_of(record(echo))
