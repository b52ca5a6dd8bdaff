"""The observer on real Pipecat pipelines, behind both websocket transports, called by a Digital Human."""

# mypy: disable-error-code="import-not-found, misc, untyped-decorator"

from __future__ import annotations

import asyncio
import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("pipecat", reason="pipecat is not installed: pip install 'bluejay_ws[pipecat]'")
pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'bluejay_ws[fastapi]'")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Pipecat and its dependencies deprecate among themselves
    from fastapi import FastAPI, WebSocket
    from pipecat.frames.frames import BotStartedSpeakingFrame, EndFrame  # type: ignore[import-not-found, unused-ignore]

    from tests.integrations import pipecat_agent as agents
    from tests.integrations.pipecat_agent import Script, Tool
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from bluejay_ws import Bluejay, current_recorder, record
from bluejay_ws.integrations.pipecat import BluejayObserver
from bluejay_ws.integrations.pipecat_frames import INTERRUPTED
from bluejay_ws.testing.caller import DigitalHuman
from tests.servers.asgi_server import uvicorn_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from bluejay_ws.testing.oracle import AcceptedReport
    from bluejay_ws.testing.platform import FakePlatform

pytestmark = pytest.mark.filterwarnings("default")
TRANSPORTS = ["server", "fastapi", "fastapi under @record"]
every_transport = pytest.mark.parametrize("kind", TRANSPORTS)
SENTENCE = agents.TONE * 10  # 200 ms


@pytest.fixture
def client(platform: FakePlatform) -> Iterator[Bluejay]:
    """Give a client that reports to the platform."""
    with Bluejay("test-key", base_url=platform.url, spool=False) as client:
        yield client


@contextlib.asynccontextmanager
async def agent(
    kind: str,
    script: Callable[[], Script],
    client: Bluejay,
    *,
    then: Callable[[Any, BluejayObserver], None] | None = None,
    late: float = 0.0,
    **options: Any,
) -> AsyncGenerator[str]:
    """Serve an agent with an observer on one of the transports; give its URL."""
    if kind == "server":
        port = agents.free_port()
        transport = agents.server_transport(port)
        observer = BluejayObserver(transport, client=client, **options)
        worker = agents.worker(transport, script(), observer)
        if then is not None:
            then(worker, observer)
        async with agents.serving(transport, worker):
            yield f"ws://127.0.0.1:{port}"
        return

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        transport = agents.fastapi_transport(websocket)
        observer = BluejayObserver(transport, client=client, **options)
        worker = agents.worker(transport, script(), observer)

        @transport.event_handler("on_client_disconnected")
        async def on_client_disconnected(*_: object) -> None:
            await worker.cancel()

        if then is not None:
            then(worker, observer)
        await asyncio.sleep(late)
        await agents.run(worker)

    app = FastAPI()
    app.websocket("/")(record(client=client)(endpoint) if "record" in kind else endpoint)
    async with uvicorn_server(app) as url:
        yield url


def caller(url: str, identity: str | None = "720488", **habits: Any) -> DigitalHuman:
    """Return a caller whose speech events come exactly when it speaks."""
    return DigitalHuman(url, identity, **{"skew_ms": 0.0, "reaction": 0.4, "patience": 5.0, **habits})


def said(report: AcceptedReport) -> list[tuple[str, str]]:
    """Return who said what."""
    return [(one["speaker"], one["utterance"]) for one in report.transcript]


async def freeze(params: Any) -> None:
    """Freeze a card."""
    await asyncio.sleep(0.02)
    await params.result_callback({"status": "frozen", **params.arguments})


def banking() -> Script:
    """Return a conversation with a tool in it."""
    return Script(
        heard=[["I lost my card.", "Please help."], ["Thank you."]],
        answers=[Tool("freeze_card", {"last4": "4242"}), "It is frozen.", "Goodbye then."],
        tools={"freeze_card": freeze},
    )


@every_transport
def test_a_call_is_recorded_once_and_in_order(kind: str, client: Bluejay, platform: FakePlatform) -> None:
    """What was said and done stands in the report once, whichever ways the frames took, at Pipecat's times."""

    async def main() -> None:
        async with agent(kind, banking, client) as url:
            await caller(url).call([SENTENCE, SENTENCE], silence_ms=200)

    asyncio.run(main())
    (report,) = platform.wait_for(1)
    assert said(report) == [
        ("USER", "I lost my card. Please help."),
        ("AGENT", "It is frozen."),
        ("USER", "Thank you."),
        ("AGENT", "Goodbye then."),
    ]
    (tool,) = report.tool_calls
    assert (tool["name"], tool["parameters"]) == ("freeze_card", {"last4": "4242"})
    assert tool["output"] == {"status": "frozen", "last4": "4242"}
    first, answer, *_ = report.transcript
    moments = [first["start_offset_ms"], first["end_offset_ms"], tool["start_offset_ms"], answer["start_offset_ms"]]
    assert moments == sorted(moments)
    assert all(one["start_offset_ms"] < one["end_offset_ms"] for one in report.transcript)
    assert not [event for event in report.events if event["title"] == INTERRUPTED]
    assert not [name for name in client.stats() if name.startswith(("internal_error", "dropped"))]
    assert len(platform.accepted) == 1


@every_transport
def test_what_the_agent_did_not_get_to_say_is_not_recorded(kind: str, client: Bluejay, platform: FakePlatform) -> None:
    """An interruption is an event, and the text whose audio it dropped is not in the transcript."""

    def script() -> Script:
        return Script(
            heard=[["Hello."], ["Stop."]],
            answers=["Well now. " + "This goes on and on and on " * 60 + ".", "Very well."],  # busy machines are slow
            ms_for_a_word=60,
        )

    async def main() -> None:
        async with agent(kind, script, client) as url:
            human = caller(url, reaction=1.0)  # a busy machine makes pauses in the agent's speech
            await human.call([SENTENCE, SENTENCE], barge_in_ms=900, silence_ms=200)

    asyncio.run(main())
    (report,) = platform.wait_for(1)
    assert said(report) == [("USER", "Hello."), ("AGENT", "Well now."), ("USER", "Stop."), ("AGENT", "Very well.")]
    (interruption,) = [event for event in report.events if event["title"] == INTERRUPTED]
    cut, barging_in = report.transcript[1], report.transcript[2]
    assert cut["start_offset_ms"] < interruption["start_offset_ms"]
    assert barging_in["start_offset_ms"] <= interruption["start_offset_ms"] + 100  # and its frames come late


@pytest.mark.parametrize("kind", TRANSPORTS[1:])
def test_a_pipeline_that_starts_late_hears_the_caller_where_the_caller_spoke(
    kind: str, client: Bluejay, platform: FakePlatform
) -> None:
    """All that was said meanwhile waits for it, and comes at once."""

    async def main() -> None:
        async with agent(kind, lambda: Script(heard=[["Hello."]], answers=["Hi."]), client, late=1.0) as url:
            await caller(url).call([SENTENCE], silence_ms=200)

    asyncio.run(main())
    (report,) = platform.wait_for(1)
    first, answer = report.transcript
    assert first["start_offset_ms"] < 900 < answer["start_offset_ms"]


def test_a_tool_that_the_caller_interrupts_is_kept_as_cancelled(client: Bluejay, platform: FakePlatform) -> None:
    """Pipecat cancels tools when the caller speaks again; the report says so."""
    runs = asyncio.Event()

    async def never(_: Any) -> None:
        runs.set()
        await asyncio.sleep(60)

    def script() -> Script:
        return Script(
            heard=[["Look it up."], ["Never mind."]],
            answers=[Tool("look_up", {"what": "it"}), "All right."],
            tools={"look_up": never},
        )

    async def main() -> None:
        async with agent("server", script, client) as url, caller(url).dial() as line:
            await line.say(SENTENCE)
            await runs.wait()
            await line.say(SENTENCE)
            await line.silence(200, until_heard=True)
            await line.listen()

    asyncio.run(main())
    (report,) = platform.wait_for(1)
    (tool,) = report.tool_calls
    assert (tool["name"], tool["output"]) == ("look_up", {"status": "cancelled"})


def test_a_tool_that_raises_is_kept_as_failed(client: Bluejay, platform: FakePlatform) -> None:
    """Newer releases tell what a tool raised: that is its output, not the words Pipecat hands to the model."""

    async def broken(_: Any) -> None:
        raise ValueError("no such card")

    def script() -> Script:
        return Script(heard=[["Go."]], answers=[Tool("broken", {}), "Sorry."], tools={"broken": broken})

    async def main() -> None:
        async with agent("server", script, client) as url:
            await caller(url).call([SENTENCE], silence_ms=200)

    asyncio.run(main())
    (report,) = platform.wait_for(1)
    (tool,) = report.tool_calls
    assert tool["output"]["status"] == "failed"
    assert "no such card" in tool["output"]["message"]


def test_a_refused_second_client_is_no_call_and_harms_none(client: Bluejay, platform: FakePlatform) -> None:
    """The single-client transport turns a second caller away: no report of its own, the first continues."""

    async def main() -> None:
        async with agent("server", banking, client) as url, caller(url, "1").dial() as line:
            await line.say(SENTENCE)
            headers = {"X-Simulation-Result-Id": "2"}
            async with connect(url, additional_headers=headers) as second:
                with pytest.raises(ConnectionClosed):
                    await second.recv()
                assert second.close_code == 1013
            await line.silence(200, until_heard=True)
            await line.listen()

    asyncio.run(main())
    client.flush(30.0)
    (report,) = platform.accepted
    assert report.simulation_result_id == "1"
    assert said(report) == [("USER", "I lost my card. Please help."), ("AGENT", "It is frozen.")]
    assert client.stats()["recorded"] == 1


def test_one_client_after_the_other_gets_a_report_of_its_own(client: Bluejay, platform: FakePlatform) -> None:
    """The server transport keeps its pipeline for the next client; nothing of one call is in the other's report."""

    async def main() -> None:
        async with agent("server", banking, client) as url:
            await caller(url, "1").call([SENTENCE], silence_ms=200)
            await asyncio.to_thread(platform.wait_for, 1)  # until the transport has let go of the first client
            await caller(url, "2").call([SENTENCE], silence_ms=200)

    asyncio.run(main())
    first, second = sorted(platform.wait_for(2), key=lambda report: report.simulation_result_id)
    assert said(first) == [("USER", "I lost my card. Please help."), ("AGENT", "It is frozen.")]
    assert said(second) == [("USER", "Thank you."), ("AGENT", "Goodbye then.")]
    assert [tool["name"] for tool in [*first.tool_calls, *second.tool_calls]] == ["freeze_card"]


@pytest.mark.parametrize("kind", TRANSPORTS[1:])
def test_calls_at_once_do_not_mix(kind: str, client: Bluejay, platform: FakePlatform) -> None:
    """Each call of a FastAPI endpoint has its own observer, and its own report."""
    scripts = iter([Script(heard=[[f"I am {one}."]], answers=[f"Hello {one}."]) for one in ("first", "second")])

    async def main() -> None:
        async with agent(kind, lambda: next(scripts), client) as url:
            calls = [caller(url, identity).call([SENTENCE], silence_ms=200) for identity in ("1", "2")]
            await asyncio.gather(*calls)

    asyncio.run(main())
    found = {tuple(said(report)) for report in platform.wait_for(2)}
    assert found == {(("USER", f"I am {one}."), ("AGENT", f"Hello {one}.")) for one in ("first", "second")}


@every_transport
def test_the_last_words_of_an_agent_that_hangs_up_are_recorded(
    kind: str, client: Bluejay, platform: FakePlatform
) -> None:
    """A pipeline that ends by itself says what is queued, and that stands in the report."""

    def script() -> Script:
        return Script(heard=[["Bye."]], answers=["So long."])

    def hang_up(worker: Any, _: BluejayObserver) -> None:
        worker.set_reached_downstream_filter((BotStartedSpeakingFrame,))

        @worker.event_handler("on_frame_reached_downstream")
        async def on_frame_reached_downstream(*_: object) -> None:
            await worker.queue_frame(EndFrame())

    async def main() -> None:
        async with agent(kind, script, client, then=hang_up) as url:
            log = await caller(url).call([SENTENCE], silence_ms=200)
            assert log.closed_by == "agent"

    asyncio.run(main())
    (report,) = platform.wait_for(1)
    assert said(report) == [("USER", "Bye."), ("AGENT", "So long.")]


@every_transport
def test_without_the_header_nothing_is_recorded(kind: str, client: Bluejay, platform: FakePlatform) -> None:
    """Production traffic passes: no call, no report, the observer's recorder is inert."""
    active: list[bool] = []

    def note(_: Any, observer: BluejayObserver) -> None:
        active.append(observer.recorder.active)

    async def main() -> None:
        async with agent(kind, banking, client, then=note) as url:
            await caller(url, None).call([SENTENCE], silence_ms=200)

    asyncio.run(main())
    assert active == [False]
    assert client.stats() == {**dict.fromkeys(client.stats(), 0)}
    assert platform.accepted == []


def test_a_carriers_parameters_name_the_call(client: Bluejay, platform: FakePlatform) -> None:
    """Behind a telephony carrier the id stands in the parameters of its first message, read before the pipeline."""

    async def main() -> None:
        parameters = {"caller": "+1555", "X-Simulation-Result-Id": "720490"}
        async with agent("fastapi", banking, client, parameters=parameters) as url:
            await caller(url, None).call([SENTENCE], silence_ms=200)

    asyncio.run(main())
    (report,) = platform.wait_for(1)
    assert report.simulation_result_id == "720490"
    assert said(report)[0] == ("USER", "I lost my card. Please help.")


def test_tools_and_handlers_reach_the_calls_recorder(client: Bluejay, platform: FakePlatform) -> None:
    """In an endpoint the call's recorder is the current one; everywhere it is the observer's."""
    seen: list[Any] = []

    async def look(params: Any) -> None:
        seen.append(current_recorder())
        current_recorder().add_tags("vip")
        await params.result_callback("ok")

    def script() -> Script:
        return Script(heard=[["Go."]], answers=[Tool("look", {}), "Done."], tools={"look": look})

    async def main() -> None:
        async with agent("fastapi", script, client, then=lambda _, observer: seen.append(observer.recorder)) as url:
            await caller(url).call([SENTENCE], silence_ms=200)

    asyncio.run(main())
    (report,) = platform.wait_for(1)
    assert seen[0] is seen[1]
    assert report.report["tags"] == ["vip"]
