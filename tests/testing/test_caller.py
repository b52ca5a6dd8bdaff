"""`bluejay_ws.testing.caller`: dialling an agent as Bluejay does, and whole calls."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.version import version as websockets_version

from bluejay_ws.testing.audio import FRAME_BYTES, tone
from bluejay_ws.testing.caller import CallEvent, DigitalHuman
from bluejay_ws.testing.virtual_time import VirtualTimeLoop
from tests.testing.agents import AnsweringAgent, serving, silent_agent

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response


# The connect request


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("720488", ["720488"]),
        (None, []),
        ("", [""]),
        (["1", "1"], ["1", "1"]),
        (["1", "2"], ["1", "2"]),
        ("9" * 5_000, ["9" * 5_000]),
        ("1\t2", ["1\t2"]),
    ],
)
def test_the_id_header_is_sent_as_asked_for(given: str | list[str] | None, sent: list[str]) -> None:
    """Missing, repeated, differing, empty and long values reach the agent."""
    agent = AnsweringAgent()

    async def main() -> None:
        async with serving(agent) as url:
            await DigitalHuman(url, given, pace=0).call([])

    asyncio.run(main())
    assert agent.values("X-Simulation-Result-Id") == sent


def test_hostile_ids_leave_as_they_are() -> None:
    """Control characters, which the client library refuses to write, reach the agent's port byte for byte."""
    received = b""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        received = await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(take, "127.0.0.1", 0)
        async with server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await DigitalHuman(url, ["1\x1b[31m", "2\0"], user="bluejay").call([])

    with pytest.raises((InvalidMessage, ConnectionError)):  # the latter before websockets 15
        asyncio.run(main())
    assert b"\r\nX-Simulation-Result-Id: 1\x1b[31m\r\nX-Simulation-Result-Id: 2\0\r\n\r\n" in received
    assert received.count(b"Authorization: Basic ") == 1


def test_basic_credentials_and_further_headers_are_sent() -> None:
    """The Authorization header holds user and password, in the place of none."""
    agent = AnsweringAgent()

    async def main() -> None:
        async with serving(agent) as url:
            await DigitalHuman(url, user="bluejay", password="püß:1", headers=[("X-Other", "1")], pace=0).call([])

    asyncio.run(main())
    (authorization,) = agent.values("Authorization")
    assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == "bluejay:püß:1"
    assert agent.values("X-Other") == ["1"]


def test_wrong_credentials_are_refused_at_the_upgrade() -> None:
    """A 401 of the agent's server reaches whoever dialled."""

    def check(connection: ServerConnection, request: Request) -> Response | None:
        right = base64.b64encode(b"bluejay:right").decode()
        return None if request.headers["Authorization"] == f"Basic {right}" else connection.respond(401, "wrong")

    async def main() -> None:
        async with serving(silent_agent, process_request=check) as url:
            await DigitalHuman(url, user="bluejay", password="right", pace=0).call([])
            await DigitalHuman(url, user="bluejay", password="wrong", pace=0).call([])

    with pytest.raises(InvalidStatus) as caught:
        asyncio.run(main())
    assert caught.value.response.status_code == 401


def test_nobody_there_is_an_os_error() -> None:
    """A refused connection raises what the operating system said."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{unheard.getsockname()[1]}"
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(DigitalHuman(url).call([]))


def test_tls_works_with_a_trust_of_ones_own() -> None:
    """A wss agent is dialled with the given context, and refused without it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)

    async def main() -> None:
        async with serving(silent_agent, ssl=server) as url:
            log = await DigitalHuman(url, ssl=client, pace=0).call([])
            assert log.close_code == 1000
            await DigitalHuman(url).call([])

    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy is no way to a local agent, so it is not used for one."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    async def main() -> None:
        async with serving(silent_agent) as url:
            log = await DigitalHuman(url.replace("127.0.0.1", host), pace=0).call([])
            assert log.close_code == 1000

    asyncio.run(main())


@pytest.mark.skipif(int(websockets_version.split(".")[0]) < 15, reason="this websockets knows no proxies")
def test_a_foreign_host_may_be_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """For other machines the environment's proxy is asked."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unheard.getsockname()[1]}")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{unheard.getsockname()[1]}")
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(DigitalHuman("ws://agent.invalid").call([]))


# Whole calls


def test_a_call_says_everything_and_hears_every_answer() -> None:
    """The default caller says two sentences, each answered; the log counts what the agent saw."""
    agent = AnsweringAgent()
    live: list[CallEvent] = []

    async def main() -> None:
        async with serving(agent) as url:
            log = await DigitalHuman(url, pace=0, on_event=live.append).call(close_code=4001, close_reason="enough")
        audio = [message for message in agent.received if isinstance(message, bytes)]
        assert (log.frames_sent, log.bytes_sent) == (len(audio), sum(map(len, audio)))
        assert log.texts_sent == len(agent.received) - len(audio) == 6
        assert (log.frames_received, log.bytes_received, log.texts_received) == (10, 6_400, 6)
        assert log.heard_ms == 200
        assert len(log.of("user.speech.completed")) == len(log.of("agent.speech.completed")) == 2
        assert len(log.of("mark.echoed")) == 2
        assert (log.close_code, log.close_reason, log.closed_by) == (4001, "enough", "caller")
        assert sorted(live, key=lambda event: event.at_ms) == log.events
        assert log.events[0].kind == "connected"
        assert log.events[-1].kind == "closed"
        assert log.events[-1].at_ms == pytest.approx(log.duration_ms)

    asyncio.run(main())
    assert {len(message) for message in agent.received if isinstance(message, bytes)} == {FRAME_BYTES}
    assert agent.close_code == 4001


def test_a_greeting_is_heard_out_first() -> None:
    """An agent that speaks first is not spoken over."""

    async def main() -> None:
        async with serving(AnsweringAgent(greets=True)) as url:
            log = await DigitalHuman(url, pace=0).call([tone(100)], greeting=10)
        kinds = [event.kind for event in log.events]
        assert kinds.index("agent.speech.completed") < kinds.index("user.audio")
        assert not log.of("interrupted")
        assert len(log.of("agent.speech.completed")) == 2

    asyncio.run(main())


def test_a_call_can_barge_in_on_each_answer_but_the_last() -> None:
    """The next utterance begins in the middle of the answer, and what was queued is heard all the same."""

    async def main() -> None:
        async with serving(AnsweringAgent(answer_ms=4_000)) as url:
            log = await DigitalHuman(url).call([tone(100), tone(100)], barge_in_ms=1_000)
        (barge_in,) = log.of("barge_in")
        assert 0 < barge_in.detail["queued_ms"] <= 3_000
        assert log.dropped_ms == 0
        assert log.heard_ms == pytest.approx(8_000)
        assert not log.of("mark.dropped")
        assert len(log.of("mark.echoed")) == 2

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


def test_a_call_ends_when_its_time_is_up() -> None:
    """An agent that never stops talking is hung up on, in order."""

    async def babbling(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send(tone(20))
                await asyncio.sleep(0.001)

    async def main() -> None:
        async with serving(babbling) as url:
            log = await DigitalHuman(url, pace=0.1).call([tone(20)], seconds=0.2)
        assert (log.close_code, log.closed_by) == (1000, "caller")

    asyncio.run(main())


def test_a_call_can_drop_the_line() -> None:
    """Without a close code the TCP connection ends, and the agent sees 1006."""
    agent = AnsweringAgent()

    async def main() -> None:
        async with serving(agent) as url:
            log = await DigitalHuman(url, pace=0).call([], close_code=None)
        assert (log.close_code, log.closed_by) == (1006, "nobody")

    asyncio.run(main())
    assert agent.close_code == 1006


@pytest.mark.parametrize(("code", "reason", "closed_by"), [(1000, "bye", "agent"), (None, "", "nobody")])
def test_an_agent_that_ends_the_call_is_no_error(code: int | None, reason: str, closed_by: str) -> None:
    """The rest of the conversation is left out quietly, and the log says who ended it."""

    async def leaving(connection: ServerConnection) -> None:
        await connection.recv()
        if code is None:
            connection.transport.abort()
        else:
            await connection.close(code, reason)

    async def main() -> None:
        async with serving(leaving) as url:
            log = await DigitalHuman(url, pace=0).call()
        assert (log.close_code, log.close_reason, log.closed_by) == (code or 1006, reason, closed_by)

    asyncio.run(main())


# The line by hand


def test_leaving_the_block_hangs_up() -> None:
    """A call by hand that nobody ended is closed with 1000."""

    async def main() -> None:
        async with serving(silent_agent) as url, DigitalHuman(url, pace=0).dial() as line:
            await line.say(tone(20))
        assert (line.log.close_code, line.log.closed_by) == (1000, "caller")

    asyncio.run(main())


def test_an_error_in_the_block_arrives_as_it_is() -> None:
    """Whatever the block raises is neither wrapped nor lost, and the call is closed."""

    async def main() -> None:
        async with serving(silent_agent) as url, DigitalHuman(url, pace=0).dial():
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(main())


@pytest.mark.parametrize("kind", ["connected", "user.audio", "agent.heard", "mark.echoed", "closed"])
def test_an_error_of_the_event_callback_arrives(kind: str) -> None:
    """A callback that raises, wherever in the call that is, ends the call and is raised, instead of hanging it."""

    def refuse(event: CallEvent) -> None:
        if event.kind == kind:
            raise KeyError(event.kind)

    async def main() -> None:
        async with serving(AnsweringAgent()) as url:
            await DigitalHuman(url, pace=0, on_event=refuse).call([tone(20)])

    with pytest.raises(KeyError, match=kind):
        asyncio.run(main())


def test_an_event_callback_that_always_raises_ends_the_call() -> None:
    """Not even the news that the call has ended can be told, and still it ends."""
    seen: list[CallEvent] = []

    def refuse(event: CallEvent) -> None:
        seen.append(event)
        if len(seen) > 1:
            raise KeyError(event.kind)

    async def main() -> None:
        async with serving(AnsweringAgent()) as url:
            await DigitalHuman(url, pace=0, on_event=refuse).call([tone(20)])

    with pytest.raises(KeyError):
        asyncio.run(main())


def test_a_cancelled_call_leaves_no_task_behind() -> None:
    """Cancelling, even while the agent refuses to close, cuts the line and ends every task."""

    async def deaf(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await asyncio.sleep(0.5)
        connection.transport.abort()

    async def main() -> None:
        async with serving(deaf) as url:
            call = asyncio.create_task(DigitalHuman(url, pace=1, close_timeout=0.1).call())
            await asyncio.sleep(0.1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert not [task for task in asyncio.all_tasks() if "Line" in repr(task)]

    asyncio.run(main())
