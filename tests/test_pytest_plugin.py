"""`bluejay_ws.pytest_plugin`: what an agent's own test-suite gets, in runs of pytest inside this one."""

from __future__ import annotations

import os
import textwrap
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket  # noqa: TC002 - Starlette reads the annotation
from websockets.exceptions import InvalidStatus

from bluejay_ws import client, pytest_plugin, record
from bluejay_ws.testing.audio import tone
from bluejay_ws.testing.platform import FakePlatform
from tests.testing.raw_client import post, report

if TYPE_CHECKING:
    from collections.abc import Callable

    from bluejay_ws.pytest_plugin import AgentCaller
    from bluejay_ws.testing.platform import AcceptedReport

pytest_plugins = ["pytester"]

CONFTEST = """
    import contextlib, json, os, threading, urllib.error, urllib.request
    import pytest
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.server import serve

    def post(name, **fields):
        body = json.dumps({"simulation_result_id": name, **fields}).encode()
        headers = {"X-API-Key": os.environ["BLUEJAY_API_KEY"], "Content-Type": "application/json"}
        url = os.environ["BLUEJAY_API_URL"] + "/v1/update-simulation-result"
        try:
            urllib.request.urlopen(urllib.request.Request(url, body, headers)).close()
        except urllib.error.HTTPError as refused:
            refused.close()
        except OSError:
            pass

    def agent(connection):
        with contextlib.suppress(ConnectionClosed):
            for _ in connection:
                pass
        name = connection.request.headers["X-Simulation-Result-Id"]
        event = {"title": str(connection.protocol.close_code), "start_offset_ms": 0}
        post(name, tags=[str(connection.request.headers.get("Authorization"))], events=[event])

    @pytest.fixture
    def agent_url():
        with serve(agent, "127.0.0.1", 0) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield "ws://127.0.0.1:%d" % server.socket.getsockname()[1]
            server.shutdown()
            thread.join()
"""


@pytest.fixture(autouse=True)
def _only_this_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the other plugins that happen to be installed out of the inner runs."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, source: str, *options: str) -> pytest.RunResult:
    """Run tests that have an agent at hand."""
    pytester.makeconftest(textwrap.dedent(CONFTEST))
    pytester.makepyfile(textwrap.dedent(source))
    return pytester.runpytest_inprocess("--strict-markers", "-p", "bluejay_ws.pytest_plugin", *options)


def test_a_plain_test_gets_the_report_of_its_call(pytester: pytest.Pytester) -> None:
    """No event loop, no account: dial, and look at what was reported; each call has an id of its own."""
    result = run(
        pytester,
        """
        def test_agent(bluejay_call, bluejay_platform, agent_url):
            first = bluejay_call(agent_url, utterances=[])
            second = bluejay_call(agent_url, utterances=[], close_code=None, caller={"user": "u", "password": "p"})
            named = bluejay_call(agent_url, "mine", utterances=[])
            assert first.simulation_result_id != second.simulation_result_id
            assert named.simulation_result_id == "mine"
            assert [report.events[0]["title"] for report in (first, second)] == ["1000", "1006"]
            assert (first.report["tags"], second.report["tags"]) == (["None"], ["Basic dTpw"])
            assert [log.close_code for log in bluejay_call.logs] == [1000, 1006, 1000]
            assert [one.body for one in bluejay_platform.accepted] == [first.body, second.body, named.body]
            assert first.simulation_result_id == "local-test-1"
            assert first.log is bluejay_call.logs[0]
        """,
    )
    result.assert_outcomes(passed=1)


def test_a_test_on_an_event_loop_gets_it_too(pytester: pytest.Pytester) -> None:
    """On asyncio, with the agent on the test's own loop, and on trio."""
    result = run(
        pytester,
        """
        import asyncio
        import pytest, trio
        from conftest import post
        from websockets.asyncio.server import serve

        async def agent(connection):
            async for _ in connection:
                pass
            await asyncio.to_thread(post, connection.request.headers["X-Simulation-Result-Id"], tags=["async"])

        def test_asyncio(bluejay_call):
            async def main():
                async with serve(agent, "127.0.0.1", 0) as server:
                    url = "ws://127.0.0.1:%d" % next(iter(server.sockets)).getsockname()[1]
                    return await bluejay_call.acall(url, utterances=[])
            assert asyncio.run(main()).report["tags"] == ["async"]

        def test_trio(bluejay_call, agent_url):
            async def main():
                return await bluejay_call.acall(agent_url, "7", utterances=[])
            assert trio.run(main).simulation_result_id == "7"

        def test_blocking_call(bluejay_call):
            async def main():
                with pytest.raises(RuntimeError, match="await bluejay_call.acall"):
                    bluejay_call("ws://127.0.0.1:9")
            asyncio.run(main())
            trio.run(main)
        """,
    )
    result.assert_outcomes(passed=3)


def test_a_call_without_a_report_fails(pytester: pytest.Pytester) -> None:
    """With what the platform saw instead; an agent that cannot be reached fails at once."""
    result = run(
        pytester,
        """
        import pytest
        from conftest import post
        from bluejay_ws.pytest_plugin import NoReportError
        from bluejay_ws.testing.platform import Answer

        @pytest.mark.bluejay(verify=False)
        def test_agent(bluejay_call, bluejay_platform, bluejay_serve, agent_url):
            async def nobody_records(websocket):
                async for _ in websocket:
                    pass
            async def crashes(websocket):
                raise RuntimeError
            with pytest.raises(NoReportError, match="Nothing was sent. Is the handler under @record"):
                bluejay_call(bluejay_serve(nobody_records), utterances=[], timeout=0.05)
            with pytest.raises(NoReportError, match="hung up with 1011: its handler raised"):
                bluejay_call(bluejay_serve(crashes), utterances=[], timeout=0.05)
            bluejay_platform.otherwise(Answer(status=503))
            with pytest.raises(TimeoutError, match="no report was accepted within 2 s.*last answers were.*503"):
                bluejay_call(agent_url, utterances=[], timeout=2)
            bluejay_platform.otherwise()
            post("x", tags=[5])
            bluejay_platform.otherwise(Answer(status=503))
            with pytest.raises(NoReportError, match="rejected a report"):
                bluejay_call(agent_url, utterances=[], timeout=0.05)
            with pytest.raises(OSError):
                bluejay_call("ws://127.0.0.1:9")
        """,
    )
    result.assert_outcomes(passed=1)


def test_what_the_real_platform_would_punish_fails_the_test(pytester: pytest.Pytester) -> None:
    """On the way out, with every reason; the marker switches it off."""
    result = run(
        pytester,
        """
        import pytest
        from conftest import post

        def wrong():
            post("1")
            post("1")
            post("2", tags=[5])

        def test_verified(bluejay_platform):
            wrong()

        @pytest.mark.bluejay(verify=True)
        def test_verified_too(bluejay_platform):
            wrong()

        @pytest.mark.bluejay(verify=False)
        def test_unverified(bluejay_platform):
            wrong()
        """,
    )
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(
        ["*call 1: 2 reports were accepted*", "*rejected: body.tags.0 Input should be a valid string*"]
    )


@pytest.mark.skipif(not entry_points(group="pytest11", name="bluejay_ws"), reason="bluejay_ws is not installed here")
def test_pytest_finds_the_plugin_by_itself(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is installed, its fixtures and its marker are there."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    pytester.runpytest_inprocess("--markers").stdout.fnmatch_lines(["@pytest.mark.bluejay(verify=True): *"])
    pytester.runpytest_inprocess("--fixtures").stdout.fnmatch_lines_random(
        ["bluejay_platform *", "bluejay_call *", "bluejay_serve *"]
    )


def failure(platform: FakePlatform) -> str:
    """Return why a test would fail on the way out."""
    with pytest.raises(pytest.fail.Exception) as caught:
        pytest_plugin.verify(platform)
    return str(caught.value)


def test_verifying_finds_everything() -> None:
    """Duplicates, rejected bodies, fields that would be forgotten, and errors of the platform itself."""

    def on_report(accepted: AcceptedReport) -> None:
        if accepted.simulation_result_id == "bad":
            raise ValueError("a bug")

    with FakePlatform(on_report=on_report) as platform:
        post(platform.url, report("good"))
        pytest_plugin.verify(platform)
        for body in (report("twice"), report("twice"), report("odd", outputs=1), report("bad"), b"\xff", b"{}"):
            post(platform.url, body)
    assert failure(platform).splitlines() == [
        "bluejay_platform:",
        "call twice: 2 reports were accepted",
        "a report was rejected: body There was an error parsing the body",
        "a report was rejected: body.simulation_result_id Field required",
        "call odd: unknown fields outputs",
        "the platform failed: ValueError('a bug')",
    ]


def test_a_bare_record_reports_to_the_platform_of_the_test(pytester: pytest.Pytester) -> None:
    """By the environment, test after test, though each has a platform of its own; afterwards all is as before."""
    before = client._default
    result = run(
        pytester,
        """
        import asyncio
        import pytest
        from bluejay_ws import current_recorder, record
        from websockets.asyncio.server import serve

        @record
        async def agent(connection):
            current_recorder().add_tool_call("freeze_card", parameters={"last4": "4242"})
            async for _ in connection:
                pass

        @pytest.mark.parametrize("number", ["1", "2"])
        def test_agent(bluejay_call, number):
            async def main():
                async with serve(agent, "127.0.0.1", 0) as server:
                    url = "ws://127.0.0.1:%d" % next(iter(server.sockets)).getsockname()[1]
                    return await bluejay_call.acall(url, number, utterances=[])
            report = asyncio.run(main())
            assert [call["name"] for call in report.tool_calls] == ["freeze_card"]
            assert report.simulation_result_id == number
        """,
    )
    result.assert_outcomes(passed=2)
    assert client._default is before


AGENT = """
    import asyncio, json
    from pathlib import Path
    import pytest
    from bluejay_ws import Bluejay, current_recorder, record
    from bluejay_ws.testing.audio import tone

    def say(websocket, text):
        current_recorder().agent_said(text)
        return websocket.send(tone(600))

    @record
    async def agent(websocket):
        recorder = current_recorder()
        async for message in websocket:
            if isinstance(message, str) and json.loads(message)["type"] == "speech.completed":
                await asyncio.sleep(0.7)
                recorder.user_said("freeze my card")
                recorder.add_tool_call("freeze_card", parameters={"last4": "4242"}, output="frozen")
                await say(websocket, "Your card is frozen.")
"""


def run_agent(pytester: pytest.Pytester, source: str) -> pytest.RunResult:
    """Run tests of an agent that speaks."""
    return run(pytester, textwrap.dedent(AGENT) + textwrap.dedent(source))


def test_a_call_in_virtual_time_has_the_latencies_of_real_time(pytester: pytest.Pytester) -> None:
    """Two sentences and their answers take a moment, and the report says what a real call would have said."""
    result = run_agent(
        pytester,
        """
        def test_agent(bluejay_call):
            report = bluejay_call.simulate(agent)
            report.expect_called("freeze_card", times=2, last4="4242").expect_latency_below(1200)
            assert all(200 < latency for latency in report.latencies)
            assert report.latencies
            assert report.log.duration_ms > 5_000

        def test_a_greeting_is_heard_out(bluejay_call):
            @record
            async def greets(websocket):
                await say(websocket, "Hello.")
                async for _ in websocket:
                    pass
            bluejay_call.simulate(greets, utterances=[tone(300)]).expect_not_interrupted()

        def test_inside_a_loop(bluejay_call):
            async def main():
                with pytest.raises(RuntimeError, match="event loop of its own"):
                    bluejay_call.simulate(agent)
            asyncio.run(main())

        def test_what_nobody_records_is_known_soon(bluejay_call):
            async def silent(websocket):
                async for _ in websocket:
                    pass
            with pytest.raises(TimeoutError, match="within 1 s. Nothing was sent. Is the handler under @record"):
                bluejay_call.simulate(silent, utterances=[], timeout=60)
        """,
    )
    result.assert_outcomes(passed=4)


@record
async def on_starlette(websocket: WebSocket) -> None:
    """Speak once."""
    await websocket.accept()
    await websocket.send_bytes(tone(300))
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


@record
async def on_aiohttp(request: web.Request) -> web.WebSocketResponse:
    """Speak once."""
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    await websocket.send_bytes(tone(300))
    async for _ in websocket:
        pass
    return websocket


def starlette_app() -> Starlette:
    """Return an application that takes calls at ``/agent``."""
    return Starlette(routes=[WebSocketRoute("/agent", on_starlette)])


def aiohttp_app() -> web.Application:
    """Return an application that takes calls at ``/agent``."""
    app = web.Application()
    app.router.add_get("/agent", on_aiohttp)
    return app


@pytest.mark.parametrize("make", [starlette_app, aiohttp_app])
def test_an_application_is_served_too(
    bluejay_call: AgentCaller, bluejay_serve: Callable[[Any], str], make: Callable[[], Any]
) -> None:
    """In virtual and in real time, at its path."""
    bluejay_call.simulate(make(), path="/agent", utterances=[tone(300)]).expect_no_errors()
    url = bluejay_serve(make()) + "/agent"
    bluejay_call(url, utterances=[tone(300)], caller={"patience": 0.2}).expect_no_errors()


def test_what_cannot_be_called_or_served_is_refused_with_the_way_out(
    bluejay_call: AgentCaller, bluejay_serve: Callable[[Any], str]
) -> None:
    """A handler in place of a URL, a URL of another kind, an application that was served before, something else."""
    with pytest.raises(TypeError, match=r"not a function; write bluejay_call\(bluejay_serve\(agent"):
        bluejay_call(on_aiohttp)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="write it like ws://localhost"):
        bluejay_call("127.0.0.1:9")
    with pytest.raises(InvalidStatus, match="404") as refused:
        bluejay_call.simulate(aiohttp_app())
    assert refused.value.__notes__ == ["does the application take calls at another path? simulate(app, path='/agent')"]
    served = aiohttp_app()
    bluejay_serve(served)
    with pytest.raises(TypeError, match=r"served before.*make a new one for each call"):
        bluejay_serve(served)
    for serve in (bluejay_call.simulate, bluejay_serve):
        with pytest.raises(TypeError, match="the agent cannot be served; give a handler of websockets"):
            serve(7)


def test_several_calls_at_once_each_have_their_report(pytester: pytest.Pytester) -> None:
    """In a plain test and on a loop: the reports come in the order of the calls."""
    result = run_agent(
        pytester,
        """
        def test_plain(bluejay_call, bluejay_serve):
            reports = bluejay_call.many(bluejay_serve(agent), 3, utterances=[tone(300)])
            assert [report.simulation_result_id for report in reports] == [f"local-test-{n}" for n in (1, 2, 3)]
            for report in reports:
                report.expect_called("freeze_card", times=1)

        def test_on_a_loop(bluejay_call, bluejay_serve):
            url = bluejay_serve(agent)
            assert len(asyncio.run(bluejay_call.amany(url, 2, utterances=[]))) == 2

        def test_a_handler_of_threads(bluejay_call, bluejay_serve):
            @record
            def threaded(websocket):
                current_recorder().add_event("Threaded")
                for _ in websocket:
                    pass
            report = bluejay_call(bluejay_serve(threaded), utterances=[])
            assert report.happened[0].title == "Threaded"
        """,
    )
    result.assert_outcomes(passed=3)


def test_an_expectation_that_fails_shows_the_call_and_no_frame_of_the_library(pytester: pytest.Pytester) -> None:
    """The sentence, what was found, the timeline; the traceback ends in the test."""
    result = run_agent(
        pytester,
        """
        def test_agent(bluejay_call):
            report = bluejay_call.simulate(agent, utterances=[tone(300)])
            report.expect_called("freeze_card", last4="1881")

        def test_nobody_listens(bluejay_call):
            bluejay_call("ws://127.0.0.1:9")

        def test_nobody_records(bluejay_call, bluejay_serve):
            async def silent(websocket):
                async for _ in websocket:
                    pass
            bluejay_call(bluejay_serve(silent), utterances=[], timeout=0.05)
        """,
    )
    result.assert_outcomes(failed=3)
    shown = result.stdout.str()
    assert 'expected freeze_card(last4="1881") to be called, found 0 of 1: freeze_card(last4="4242")' in shown
    assert 'tool    freeze_card(last4="4242") -> "frozen"' in shown
    assert "agent   Your card is frozen." in shown
    assert "reports.py:" not in shown
    assert "pytest_plugin.py:" not in shown


def test_a_run_of_tests_leaves_the_users_spool_alone(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without any fixture too; the user's variable is given back, and the run's directory is removed."""
    monkeypatch.setenv("BLUEJAY_SPOOL", str(tmp_path / "mine"))
    result = run(
        pytester,
        """
        import os
        from pathlib import Path
        from bluejay_ws import Bluejay

        def test_spool():
            with Bluejay(flush_timeout=0.0) as bluejay, bluejay.call({"X-Simulation-Result-Id": "1"}) as recorder:
                recorder.add_event("x")
            assert "bluejay-ws-pytest-" in os.environ["BLUEJAY_SPOOL"]
            Path("where").write_text(os.environ["BLUEJAY_SPOOL"])
        """,
    )
    result.assert_outcomes(passed=1)
    assert not (tmp_path / "mine").exists()
    assert os.environ["BLUEJAY_SPOOL"] == str(tmp_path / "mine")
    assert not Path((pytester.path / "where").read_text()).parent.exists()


FAILS = """
    import pytest

    @pytest.mark.parametrize("what", ["a/b"])
    def test_agent(bluejay_call, agent_url, what):
        bluejay_call(agent_url, "local/1", utterances=[])
        assert what is None

    def test_without_a_call(bluejay_platform):
        assert bluejay_platform is None

    def test_fine(bluejay_call, agent_url):
        bluejay_call(agent_url, utterances=[])
"""


def _pages(result: pytest.RunResult) -> list[Path]:
    """Return the pages that the failures name."""
    return [Path(line.partition(": ")[2]) for line in result.stdout.lines if line.startswith("call local/1: ")]


def test_a_failed_test_names_the_page_of_its_call(pytester: pytest.Pytester) -> None:
    """In pytest's temporary directory; tests that pass, or made no call, leave none."""
    result = run(pytester, FAILS, f"--basetemp={pytester.path / 'base'}")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*bluejay_ws: open these pages to see what happened*"])
    (page,) = _pages(result)
    assert page.is_relative_to(pytester.path / "base")
    assert "local/1" in page.read_text("utf-8")
    assert list((pytester.path / "base").rglob("*.html")) == [page]


def test_pages_go_where_the_user_wants_them(pytester: pytest.Pytester) -> None:
    """For artifacts of a CI: ``--bluejay-pages DIR``."""
    result = run(pytester, FAILS, "--bluejay-pages", "pages")
    (page,) = _pages(result)
    assert page.is_relative_to(pytester.path / "pages")
    assert page.read_text("utf-8").startswith("<!")


def test_pages_that_cannot_be_written_fail_nothing_else(pytester: pytest.Pytester) -> None:
    """The reason stands where the page would."""
    (pytester.path / "pages").write_text("a file")
    result = run(pytester, FAILS, "--bluejay-pages", "pages")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["the pages could not be written: *"])
