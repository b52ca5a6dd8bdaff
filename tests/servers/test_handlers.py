"""Handlers and connection objects of every shape that users write: decorated, they do what they do undecorated."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import sys
import threading
import types
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, TypeVar
from unittest import mock

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient as AiohttpClient
from aiohttp.test_utils import TestServer as AiohttpServer
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from bluejay_ws import current_recorder, record
from bluejay_ws.call import GRACE
from bluejay_ws.servers import unsupported
from tests.servers.asgi_server import HEADERS, Peer, TestClient, audio, hang_up, websocket_scope
from tests.support import report_of

if TYPE_CHECKING:
    from pathlib import Path

    from bluejay_ws import Bluejay
    from bluejay_ws.testing.platform import FakePlatform

Kind = TypeVar("Kind")
headers_or_none = pytest.mark.parametrize("headers", [dict(HEADERS), {}], ids=["recorded", "no header"])


def closing(platform: FakePlatform) -> dict[str, Any]:
    """Return what the closing event of the one report says."""
    marker: dict[str, Any] = report_of(platform).events[-1]["metadata"]["bluejay_ws"]
    return marker


# -- subclasses of connection objects --------------------------------------------------------------------------------


class TimedWebSocket(WebSocket):
    """Takes more arguments than Starlette's own."""

    async def receive(self, timeout: float | None = None) -> Any:
        async with asyncio.timeout(timeout):
            return await super().receive()

    async def send(self, message: Any, *, drain: bool = True) -> None:
        await super().send({**message, "text": f"{message['text']} {drain}"} if "text" in message else message)


@headers_or_none
def test_a_websocket_of_the_user_s_own_class_takes_its_own_arguments(
    client: Bluejay, platform: FakePlatform, headers: dict[str, str]
) -> None:
    """By position or by name, with its own defaults; what was really sent is observed."""

    @record(client=client)
    async def agent(websocket: TimedWebSocket) -> None:
        await websocket.accept()
        message = await websocket.receive(timeout=5)
        await websocket.send({"type": "websocket.send", "text": message["text"]}, drain=False)
        assert (await websocket.receive(5))["type"] == "websocket.disconnect"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await agent(TimedWebSocket(scope, receive, send))

    with TestClient(app).websocket_connect("/", headers=dict(headers)) as peer:
        peer.send_text("x")
        assert peer.receive_text() == "x False"
    if headers:
        assert closing(platform)["text_frames"] == 2


class OwnDefaults(web.WebSocketResponse):
    """Closes as it sees fit."""

    async def close(self, *, code: int = 4001, message: bytes = b"bye", drain: bool = True) -> bool:
        return await super().close(code=code, message=message, drain=drain)


class Positional(web.WebSocketResponse):
    """Takes by position what aiohttp takes by name, and the other way round."""

    async def close(self, code: int = 1000, message: bytes = b"", drain: bool = True) -> bool:
        return await super().close(code=code, message=message, drain=drain)

    async def send_str(self, data: str | None = None, compress: int | None = None, *, text: str = "") -> None:
        await super().send_str(text if data is None else data, compress)

    async def prepare(self, request: web.BaseRequest, *, wait: bool = False) -> Any:
        return await super().prepare(request)


async def own_defaults(request: web.Request) -> web.StreamResponse:
    """Close without arguments."""
    websocket = OwnDefaults()
    await websocket.prepare(request)
    await websocket.close()
    return websocket


async def positional(request: web.Request) -> web.StreamResponse:
    """Send by name and close by position."""
    websocket = Positional()
    await websocket.prepare(request, wait=True)
    await websocket.send_str(text="hi")
    await websocket.close(4000, b"done")
    return websocket


async def aiohttp_call(handler: Any, headers: dict[str, str]) -> list[Any]:
    """Call a handler of aiohttp's; return all that it sent, its close included."""
    app = web.Application()
    app.router.add_route("*", "/", handler)
    async with AiohttpClient(AiohttpServer(app)) as peer, peer.ws_connect("/", headers=headers) as websocket:
        seen: list[Any] = []
        while True:
            message = await websocket.receive()
            seen.append((message.type.name, message.data, message.extra))
            if websocket.closed:
                return seen


@headers_or_none
@pytest.mark.parametrize(("handler", "code", "reason"), [(own_defaults, 4001, "bye"), (positional, 4000, "done")])
def test_a_response_of_the_user_s_own_class_takes_its_own_arguments(
    client: Bluejay, platform: FakePlatform, headers: dict[str, str], handler: Any, code: int, reason: str
) -> None:
    """The caller sees the same close code, and the report has it too."""
    seen = asyncio.run(aiohttp_call(record(handler, client=client), headers))
    assert seen == asyncio.run(aiohttp_call(handler, {}))
    assert seen[-1] == ("CLOSE", code, reason)
    if headers:
        facts = closing(platform)
        assert (facts["close_code"], facts["close_reason"], facts["closed_by"]) == (code, reason, "agent")


# -- classes ---------------------------------------------------------------------------------------------------------


class Echo(WebSocketEndpoint):
    """An endpoint that is a class."""

    encoding = "text"

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        """Say it again."""
        current_recorder().add_event("heard")
        await websocket.send_text(data)


class View(web.View):
    """A view of aiohttp's."""

    async def get(self) -> web.StreamResponse:
        """Greet."""
        websocket = web.WebSocketResponse()
        await websocket.prepare(self.request)
        current_recorder().add_event("heard")
        await websocket.send_str("hi")
        return websocket


@headers_or_none
def test_an_endpoint_class_is_recorded(client: Bluejay, platform: FakePlatform, headers: dict[str, str]) -> None:
    """It stays a class of its kind, under its own name, and the bare one is not touched."""
    recorded = record(Echo, client=client)
    assert issubclass(recorded, Echo)
    assert (recorded.__name__, recorded.__module__, recorded.__doc__) == ("Echo", __name__, Echo.__doc__)
    app = Starlette(routes=[WebSocketRoute("/", recorded), WebSocketRoute("/bare", Echo)])
    for path in ("/bare", "/"):
        with TestClient(app).websocket_connect(path, headers=dict(headers)) as peer:
            peer.send_text("x")
            assert peer.receive_text() == "x"
    if headers:
        report = report_of(platform)
        assert [event["title"] for event in report.events] == ["heard", "Connection closed"]
        assert (closing(platform)["text_frames"], closing(platform)["outcome"]) == (2, "completed")
    assert client.stats()["recorded"] == len(headers)


@headers_or_none
def test_a_view_is_recorded(client: Bluejay, platform: FakePlatform, headers: dict[str, str]) -> None:
    """Decorated as a class, in production and in a simulation."""
    seen = asyncio.run(aiohttp_call(record(View, client=client), headers))
    assert seen == asyncio.run(aiohttp_call(View, {}))
    if headers:
        assert closing(platform)["text_frames"] == 1
    assert client.stats()["recorded"] == len(headers)


def test_a_consumer_class_is_recorded(client: Bluejay, platform: FakePlatform) -> None:
    """As Channels calls it: with the ASGI scope and its two functions."""

    async def serve(self: object, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    base = type("AsyncConsumer", (), {"__module__": "channels.consumer", "__call__": serve})
    recorded: Any = record(type("Agent", (base,), {}), client=client)
    assert (issubclass(recorded, base), recorded.__name__) == (True, "Agent")
    peer = Peer(audio(), hang_up(4001))
    asyncio.run(recorded()(websocket_scope("720488"), peer.receive, peer.send))
    assert (closing(platform)["user_frames"], closing(platform)["close_code"]) == (1, 4001)


class Unknown:
    """Of no kind that serves connections."""

    def __init__(self, websocket: object) -> None: ...


def yields(websocket: object) -> Any:
    """Return before it serves."""
    yield websocket


async def yields_asynchronously(websocket: object) -> Any:
    """Return before it serves."""
    yield websocket


@types.coroutine
def old_style(websocket: object) -> Any:
    """Be awaited, as a coroutine of old."""
    yield
    return websocket


def test_a_coroutine_of_old_is_no_generator() -> None:
    """It serves while it is awaited."""

    async def main() -> object:
        return await record(old_style)("ws")

    assert asyncio.run(main()) == "ws"


def of_module(name: str, module: str) -> type[Any]:
    """Return a class as a framework that is not installed would define it."""
    return type(name, (), {"__module__": module})


@pytest.mark.parametrize(
    ("handler", "way"),
    [
        (Unknown, "decorate its method"),
        (of_module("WebSocketHandler", "tornado.websocket"), r"bluejay\.call\(self\.request\.headers\)"),
        (of_module("WebsocketListener", "litestar.handlers.websocket_handlers.listener"), "BluejayMiddleware"),
        (functools.partialmethod(print), "got partialmethod"),
        (property(print), "got property"),
        (yields, "generator function yields"),
        (yields_asynchronously, "generator function yields_async"),
        (functools.partial(yields_asynchronously, 1), "generator function yields_async"),
    ],
)
def test_what_cannot_be_recorded_is_refused_where_it_is_decorated(handler: Any, way: str) -> None:
    """With what to do instead."""
    with pytest.raises(TypeError, match=way):
        record(handler)


def test_a_litestar_route_is_refused_with_the_right_order() -> None:
    """Its decorator returns an object that keeps the bare function."""
    route = type("WebsocketRouteHandler", (), {"__module__": "litestar.handlers", "__call__": print})()
    with pytest.raises(TypeError, match="put it below"):
        record(route)


# -- functions of every kind -----------------------------------------------------------------------------------------


class Agent:
    """Handlers in a class."""

    @record
    @staticmethod
    async def above_static(websocket: object) -> object:
        return websocket

    @staticmethod
    @record
    async def below_static(websocket: object) -> object:
        return websocket

    @record
    @classmethod
    async def above_class(cls, websocket: object) -> object:
        return cls, websocket

    @classmethod
    @record
    async def below_class(cls, websocket: object) -> object:
        return cls, websocket

    @record(id_from=("header", "query"))
    async def method(self, websocket: object) -> object:
        return type(self), websocket


@pytest.mark.parametrize("name", ["above_static", "below_static", "above_class", "below_class"])
def test_static_and_class_methods_work_either_way_round(name: str) -> None:
    """Through the class and through an instance."""
    expected = "ws" if "static" in name else (Agent, "ws")
    for owner in (Agent, Agent()):
        assert asyncio.run(getattr(owner, name)("ws")) == expected
    assert asyncio.run(Agent().method("ws")) == (Agent, "ws")


class Voice:
    """A callable object."""

    async def __call__(self, websocket: WebSocket) -> None: ...


async def with_voice(voice: str, websocket: WebSocket) -> None:
    """For a partial."""


def test_objects_and_partials_keep_the_name_of_their_route() -> None:
    """``url_path_for`` finds them as it finds the bare ones."""
    names = []
    for wrap in (lambda handler: handler, record):
        app = FastAPI()
        app.add_api_websocket_route("/voice", wrap(Voice()))
        app.router.routes.append(WebSocketRoute("/partial", wrap(functools.partial(with_voice, "v"))))
        names.append([getattr(route, "name", None) for route in app.router.routes])
        assert app.url_path_for("Voice") == "/voice"
    assert names[0] == names[1]


def who() -> str:
    """Be depended on."""
    return "me"


def test_postponed_annotations_are_found_where_the_handler_is_defined(client: Bluejay) -> None:
    """This module has them; FastAPI before 0.124 looks for them in the wrapper's globals."""
    app = FastAPI()

    @app.websocket("/{number}")
    @record(client=client)
    async def agent(websocket: WebSocket, number: int, name: Annotated[str, Depends(who)]) -> None:
        await websocket.accept()
        await websocket.send_json([number, name])

    assert agent.__globals__ is who.__globals__
    with TestClient(app).websocket_connect("/3") as peer:
        assert peer.receive_json() == [3, "me"]


# -- a route's decorator in the wrong order --------------------------------------------------------------------------

ROUTE = """
from bluejay_ws import record
from {module} import {kind}
app = {kind}()

{first}
{second}
async def agent(websocket): ...
"""


@pytest.mark.parametrize(
    ("module", "kind", "route"),
    [("fastapi", "FastAPI", '@app.websocket("/")'), ("aiohttp.web", "RouteTableDef", '@app.get("/")')],
)
@pytest.mark.parametrize("decorator", ["@record", '@record(id_from=("header", "query"))'])
def test_a_route_below_record_is_refused(tmp_path: Path, module: str, kind: str, route: str, decorator: str) -> None:
    """The route has the bare function then, and every call would go unrecorded, in silence."""
    for first, second in ((route, decorator), (decorator, route)):
        path = tmp_path / f"agent_{first[1:4]}.py"
        path.write_text(ROUTE.format(module=module, kind=kind, first=first, second=second))
        code = compile(path.read_text(), str(path), "exec")
        if first == route:
            exec(code, {})
        else:
            with pytest.raises(TypeError, match=r"@record stands above @app\.\w+, .* put @record below it"):
                exec(code, {"__name__": "agent"})


def test_a_function_that_is_called_for_each_message_is_refused(tmp_path: Path) -> None:
    """Litestar's listeners never see the connection."""
    path = tmp_path / "agent.py"
    first = "app.websocket_listener = lambda path: print\n@app.websocket_listener('/')"
    source = ROUTE.format(module="fastapi", kind="FastAPI", first=first, second="@record")
    path.write_text(source)
    with pytest.raises(TypeError, match=r"a function of @app\.websocket_listener.* BluejayMiddleware"):
        exec(compile(source, str(path), "exec"), {"__name__": "agent"})


def test_where_the_source_is_not_to_be_had_nothing_is_refused() -> None:
    """As in a REPL."""
    code = compile(
        ROUTE.format(module="fastapi", kind="FastAPI", first="@record", second="@app.websocket('/')"), "<none>", "exec"
    )
    exec(code, {"__name__": "agent"})


# -- calls that cannot be recorded -----------------------------------------------------------------------------------


@pytest.fixture
def _unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsupported, "_SAID", set())


def connection(module: str, **attributes: Any) -> Any:
    """Return a connection object of a framework that need not be installed."""
    return type("Connection", (), {"__module__": module, **attributes})()


ID = dict(HEADERS)
ASGI = [(b"x-simulation-result-id", b"720488")]
SIMULATED = [
    (connection("websockets.legacy.server", request_headers=ID), "websockets.asyncio.server.serve"),
    (connection("tornado.websocket", request=types.SimpleNamespace(headers=ID)), "self.request.headers"),
    (connection("simple_websocket.ws", environ={"HTTP_X_SIMULATION_RESULT_ID": "1"}), "bluejay.call(request.headers)"),
    (connection("_granian", headers=ID), "bluejay.call(scope.headers)"),
    (connection("quart.wrappers", headers=ID), "app.asgi_app = BluejayMiddleware"),
    (connection("channels.generic", scope={"headers": ASGI}), "BluejayMiddleware"),
    (connection("own", websocket=types.SimpleNamespace(headers=ID)), "bluejay.call(headers)"),
    (connection("own", scope=types.SimpleNamespace(headers=ID)), "bluejay.call(headers)"),
    ({"type": "websocket", "headers": ASGI}, "BluejayMiddleware"),
    ({"REQUEST_METHOD": "GET", "HTTP_X_SIMULATION_RESULT_ID": "1"}, "bluejay.call(headers)"),
]


@pytest.mark.usefixtures("_unsaid")
@pytest.mark.parametrize(("given", "way"), SIMULATED, ids=lambda value: None if isinstance(value, str) else "given")
def test_a_simulated_call_that_cannot_be_recorded_is_said_once(
    client: Bluejay, caplog: pytest.LogCaptureFixture, given: Any, way: str
) -> None:
    """Loudly, with what to do instead; each one is counted, and the handler runs as ever."""
    handler = record(lambda one: one, client=client)
    with caplog.at_level(logging.ERROR, "bluejay_ws"):
        assert handler(given) is given
        assert handler(given) is given
    (line,) = [entry.getMessage() for entry in caplog.records]
    assert line.startswith("@record cannot record this call")
    assert way in line
    assert client.stats()["dropped.unknown_server"] == 2


class NotHashable(type):
    """The class of a class that cannot be asked for in a dictionary."""

    __hash__ = None  # type: ignore[assignment]


class OddClass(metaclass=NotHashable):
    """What a user's own test hands over."""


@pytest.mark.parametrize("given", [OddClass(), type("NoModule", (), {"__module__": None})()])
def test_an_argument_of_an_odd_class_reaches_the_handler(client: Bluejay, given: Any) -> None:
    """A call never fails because its arguments cannot be looked at."""
    assert record(lambda one: one, client=client)(given) is given


@pytest.mark.usefixtures("_unsaid")
@pytest.mark.parametrize("kind", [mock.MagicMock, mock.AsyncMock])
def test_the_mocks_of_a_user_s_own_test_are_not_touched(
    client: Bluejay, caplog: pytest.LogCaptureFixture, kind: Any
) -> None:
    """They would note each question, and a coroutine of theirs would never be awaited."""
    given = kind()
    for one in (given, types.SimpleNamespace(headers=given)):
        assert record(lambda one: one, client=client)(one) is one
    assert (given.mock_calls, caplog.records) == ([], [])


@pytest.mark.usefixtures("_unsaid")
def test_a_connection_without_headers_is_said_at_its_first_call(
    client: Bluejay, caplog: pytest.LogCaptureFixture
) -> None:
    """Of Robyn's nobody can know which is simulated, so any call is said, once."""
    handler, given = record(lambda one: one, client=client), connection("robyn.ws")
    for _ in range(2):
        assert handler(given) is given
    (line,) = caplog.records
    assert "cannot record any call" in line.getMessage()
    assert "query_params" in line.getMessage()


def test_a_call_does_not_end_with_a_method_of_its_endpoint(client: Bluejay, platform: FakePlatform) -> None:
    """Its report leaves when the connection ends, however long the caller is silent in between."""

    class Agent(WebSocketEndpoint):
        encoding = "text"

        @record(client=client)
        async def on_connect(self, websocket: WebSocket) -> None:
            await websocket.accept()

        @record(client=client)
        async def on_receive(self, websocket: WebSocket, data: Any) -> None:
            current_recorder().add_tool_call("answer")
            await websocket.send_text(data)

    with TestClient(Starlette(routes=[WebSocketRoute("/", Agent)])).websocket_connect(
        "/", headers=dict(HEADERS)
    ) as peer:
        threading.Event().wait(3 * GRACE)
        assert client.stats()["live"] == 1
        peer.send_text("x")
        assert peer.receive_text() == "x"
    report = report_of(platform)
    assert [tool["name"] for tool in report.tool_calls] == ["answer"]
    assert closing(platform)["text_frames"] == 2


class Raises:
    """What cannot be asked for anything."""

    @property
    def headers(self) -> Any:
        raise RuntimeError("quotes the caller")


@pytest.mark.usefixtures("_unsaid")
@pytest.mark.parametrize("given", ["stand-in", None, Raises(), {"type": "websocket"}, connection("own", headers={})])
def test_without_the_header_nothing_is_said(client: Bluejay, caplog: pytest.LogCaptureFixture, given: Any) -> None:
    """Production traffic, and the stand-ins of a user's own tests."""
    with caplog.at_level(logging.INFO, "bluejay_ws"):
        assert record(lambda one: one, client=client)(given) is given
    assert caplog.records == []
    assert "dropped.unknown_server" not in client.stats()


@pytest.mark.usefixtures("_unsaid")
def test_a_context_of_the_framework_is_asked_too(
    client: Bluejay, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Flask handler's request is in its context."""
    current = connection("werkzeug.wrappers.request", headers=ID)
    proxy = types.SimpleNamespace(_get_current_object=lambda: current)
    monkeypatch.setitem(sys.modules, "flask", types.SimpleNamespace(request=proxy))

    async def agent() -> str:
        return "served"

    served: Any = record(agent, client=client)
    with caplog.at_level(logging.ERROR, "bluejay_ws"):
        assert asyncio.run(served()) == "served"
    assert "with bluejay.call(headers) as recorder" in caplog.text


# -- classes that are decorated where they are written ---------------------------------------------------------------


class Registered(WebSocketEndpoint):
    """A base that keeps a list of its classes, and wants an argument of each."""

    encoding = "text"
    classes: ClassVar[list[str]] = []

    def __init_subclass__(cls, *, title: str, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.classes.append(title)


@headers_or_none
def test_a_decorated_class_is_the_class_that_its_methods_name(
    client: Bluejay, platform: FakePlatform, headers: dict[str, str]
) -> None:
    """``super(Agent, self)`` finds the base, a registry has it once, and arguments of the class are not asked twice."""
    Registered.classes.clear()

    @record(client=client)
    class Agent(Registered, title="agent"):
        async def on_connect(self, websocket: WebSocket) -> None:
            await super(Agent, self).on_connect(websocket)  # noqa: UP008 - as older code says it

        async def on_receive(self, websocket: WebSocket, data: Any) -> None:
            await websocket.send_text(data)

    with TestClient(Starlette(routes=[WebSocketRoute("/", Agent)])).websocket_connect(
        "/", headers=dict(headers)
    ) as peer:
        peer.send_text("x")
        assert peer.receive_text() == "x"
    assert Registered.classes == ["agent"]
    if headers:
        assert closing(platform)["text_frames"] == 2
    assert client.stats()["recorded"] == len(headers)


def test_a_decorated_view_is_recorded(client: Bluejay, platform: FakePlatform) -> None:
    """The same for aiohttp."""

    @record(client=client)
    class Agent(View):
        async def get(self) -> web.StreamResponse:
            return await super(Agent, self).get()  # noqa: UP008 - as older code says it

    assert asyncio.run(aiohttp_call(Agent, HEADERS)) == asyncio.run(aiohttp_call(View, {}))
    assert closing(platform)["text_frames"] == 1


def test_a_class_with_its_types_filled_in_is_recorded(client: Bluejay, platform: FakePlatform) -> None:
    """``Agent[int]`` can be called as the class can; it is no function that is given a connection."""

    class Agent(Echo, Generic[Kind]):
        pass

    recorded: Any = record(Agent[int], client=client)
    with TestClient(Starlette(routes=[WebSocketRoute("/", recorded)])).websocket_connect(
        "/", headers=dict(HEADERS)
    ) as peer:
        peer.send_text("x")
        assert peer.receive_text() == "x"
    assert closing(platform)["text_frames"] == 2


# -- ASGI applications -----------------------------------------------------------------------------------------------


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Echo one text."""
    websocket = WebSocket(scope, receive, send)
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


class Application:
    """An application that is an object."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve."""
        await application(scope, receive, send)


@headers_or_none
@pytest.mark.parametrize("app", [application, Application(), Application().__call__, Starlette()])
def test_an_asgi_application_is_recorded(
    client: Bluejay, platform: FakePlatform, headers: dict[str, str], app: Any
) -> None:
    """Alone, or an object in a route, where Starlette takes what is no function for an application."""
    if isinstance(app, Starlette):
        app.router.routes.append(WebSocketRoute("/", Application()))
    recorded: Any = record(client=client)(app)
    apps = [recorded] if inspect.isroutine(app) else [recorded, Starlette(routes=[WebSocketRoute("/", recorded)])]
    for number, served in enumerate(apps):
        sent = {"X-Simulation-Result-Id": f"{number}"} if headers else {}
        with TestClient(served).websocket_connect("/", headers=sent) as peer:
            peer.send_text("x")
            assert peer.receive_text() == "x"
    if headers:
        platform.wait_for(len(apps))
    assert client.stats()["recorded"] == len(apps) * len(headers)
