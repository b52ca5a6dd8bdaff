"""Fixtures for testing an agent: start it, call it, and look at its report.

::

    def test_the_agent_freezes_the_card(bluejay_call, bluejay_serve):
        report = bluejay_call(bluejay_serve(agent))              # a handler under @record
        report.expect_called("freeze_card", last4="4242")
        report.expect_said("is frozen")

Loaded by pytest itself where bluejay_ws is installed. It costs nothing until a fixture is asked for, except that the
default spool of a test run is a directory of its own: tests never touch the reports of a real agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bluejay_ws.testing.caller import CallLog
    from bluejay_ws.testing.platform import FakePlatform
    from bluejay_ws.testing.reports import CallReport
    from bluejay_ws.testing.speech import Utterance

MARKER = "bluejay(verify=True): options of bluejay_platform; verify=False lets it accept twice and reject bodies"
PACE = 0.1  # ten times faster than real time, unless the caller's options say otherwise
GREETING = 2.0  # seconds of virtual time that an agent may take to speak first, as with `bluejay-ws call`
UNRECORDED = 1.0  # seconds that a report may take of a call which the default client knows nothing of
PAGES = 20  # of one failed test, at most
SPOOL = "BLUEJAY_SPOOL"
__tracebackhide__ = True  # a failed test shows its own lines
_spools: dict[int, tuple[str, str | None]] = {}  # by run: its directory, and the variable as it was


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the directory for the pages of failed tests."""
    help_text = "write the calls' pages of failed tests below this directory (default: pytest's temporary directory)"
    parser.getgroup("bluejay_ws").addoption("--bluejay-pages", metavar="DIR", default=None, help=help_text)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known to ``--strict-markers``, and give the run a spool of its own."""
    config.addinivalue_line("markers", MARKER)
    directory = tempfile.mkdtemp(prefix="bluejay-ws-pytest-")
    _spools[id(config)] = (directory, os.environ.get(SPOOL))
    os.environ[SPOOL] = os.path.join(directory, "spool")  # noqa: PTH118 - pathlib is not worth its import here


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the spool of the run, and give the variable back."""
    directory, before = _spools.pop(id(config), ("", None))
    if not directory:
        return
    os.environ.pop(SPOOL, None)
    if before is not None:
        os.environ[SPOOL] = before
    shutil.rmtree(directory, ignore_errors=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Give a failed test the pages of its calls: files to open in a browser, named below the failure."""
    outcome: Any = yield
    report = outcome.get_result()
    platform = getattr(item, "funcargs", {}).get("bluejay_platform")
    if not report.failed or platform is None or report.when == "setup":
        return
    try:
        lines = [f"call {name}: {path}" for name, path in _write_pages(item, platform)]
    except OSError as error:
        lines = [f"the pages could not be written: {error}"]
    if lines:
        report.sections.append(("bluejay_ws: open these pages to see what happened", "\n".join(lines)))


def _write_pages(item: pytest.Item, platform: FakePlatform) -> Iterator[tuple[str, Path]]:
    """Write a page for each report that the test's platform has accepted."""
    accepted = platform.accepted[:PAGES]
    if not accepted:
        return
    from bluejay_ws.timeline.page import write_page  # noqa: PLC0415 - plugins are imported in every test session

    directory = _pages_directory(item)
    for number, one in enumerate(accepted, start=1):
        path = directory / f"{_file_name(item.location[2])}-{number}-{_file_name(one.simulation_result_id)}.html"
        yield one.simulation_result_id, write_page(one.report, path, delivery={"state": "accepted"})


def _pages_directory(item: pytest.Item) -> Path:
    from pathlib import Path  # noqa: PLC0415 - plugins are imported in every test session

    chosen = item.config.getoption("--bluejay-pages", default=None)
    if chosen:
        directory = Path(chosen).absolute() / _file_name(item.location[0])
    else:
        directory = Path(item.funcargs["tmp_path"]) / "bluejay-pages"  # type: ignore[attr-defined] # the platform's own
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _file_name(text: str) -> str:
    """Return what of a name every file system takes."""
    return "".join(one if one.isalnum() or one in "-._" else "-" for one in text).strip(".")[:80] or "test"


@pytest.fixture
def bluejay_platform(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FakePlatform]:
    """Give a local platform that the agent under test reports to, by its environment or by its arguments.

    ``BLUEJAY_API_URL``, ``BLUEJAY_API_KEY`` and ``BLUEJAY_SPOOL`` point to it for the length of the test, and a bare
    ``@record`` uses them. At the end it fails the test if a call's report was accepted twice, or a body was not
    what the published schema describes; ``@pytest.mark.bluejay(verify=False)`` switches that off.
    """
    from bluejay_ws import client  # noqa: PLC0415 - plugins are imported in every test session
    from bluejay_ws.testing.platform import FakePlatform  # noqa: PLC0415

    with FakePlatform() as platform:
        monkeypatch.setenv("BLUEJAY_API_URL", platform.url)
        monkeypatch.setenv("BLUEJAY_API_KEY", platform.api_key)
        monkeypatch.setenv(SPOOL, str(tmp_path / "bluejay-spool"))
        monkeypatch.setattr(client, "_default", None)  # made again, from this environment, when it is first needed
        yield platform
        if client._default is not None:  # noqa: SLF001 - what is still on its way has to be seen before it is judged
            client._default.close()  # noqa: SLF001
    marker = request.node.get_closest_marker("bluejay")
    if marker is None or marker.kwargs.get("verify", True):
        verify(platform)


def verify(platform: FakePlatform) -> None:
    """Fail the test if ``platform`` saw what the real one would punish or forget.

    Raises:
        pytest.fail.Exception: with everything that was found, one line for each.
    """
    found = [f"call {name}: {count} reports were accepted" for name, count in platform.duplicates.items()]
    for request in platform.rejected:
        problems = [f"{_path(problem)} {problem['msg']}" for problem in request.problems]
        found.append(f"a report was rejected: {'; '.join(problems)}")
    found += [
        f"call {accepted.simulation_result_id}: unknown fields {', '.join(accepted.unknown_fields)}"
        for accepted in platform.accepted
        if accepted.unknown_fields
    ]
    found += [f"the platform failed: {error!r}" for error in platform.errors]
    if found:
        pytest.fail("\n".join(["bluejay_platform:", *found]), pytrace=False)


def _path(problem: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in problem["loc"])


class NoReportError(TimeoutError):
    """Say that a call ended and no report of it came, with the likely reason."""


class AgentCaller:
    """Call agents and return what they reported. Works in plain tests and on any event loop.

    Args:
        platform: where the agents report to.

    Attributes:
        logs: what the caller saw of each call, newest last.
    """

    def __init__(self, platform: FakePlatform) -> None:
        self.logs: list[CallLog] = []
        self._platform = platform
        self._ids = itertools.count(1)

    def __call__(
        self,
        url: str,
        simulation_result_id: str | None = None,
        *,
        utterances: Sequence[Utterance] | None = None,
        voice: str = "en-us",
        timeout: float = 10.0,
        caller: Mapping[str, Any] | None = None,
        **call: Any,
    ) -> CallReport:
        """Make one call and return its report; for tests that run no event loop.

        Args:
            url: of the agent, ``ws://`` or ``wss://``.
            simulation_result_id: default a fresh one for each call, such as ``local-test-1``.
            utterances: what the caller says: PCM, texts that espeak reads aloud, or paths of WAV files. Default: the
                shipped caller, who has lost a card.
            voice: of espeak, for texts.
            timeout: seconds that the report may take once the call is over.
            caller: options of `bluejay_ws.testing.caller.DigitalHuman`; the default pace is 0.1.
            call: options of its ``call``, such as ``greeting``, ``barge_in_ms`` and ``close_code``.

        Raises:
            RuntimeError: an event loop runs here; the call would block it, and perhaps the agent.
            OSError: the agent cannot be reached.
            NoReportError: no report was accepted in time.
        """
        return self.many(
            url,
            1,
            simulation_result_id,
            utterances=utterances,
            voice=voice,
            timeout=timeout,
            caller=caller,
            **call,
        )[0]

    def many(self, url: str, calls: int, simulation_result_id: str | None = None, **options: Any) -> list[CallReport]:
        """Make several calls at once and return their reports, in the order in which the calls began.

        Args:
            url: of the agent.
            calls: how many.
            simulation_result_id: of a single call.
            options: as for one call.

        Raises:
            RuntimeError: an event loop runs here.
            OSError: the agent cannot be reached.
            NoReportError: a report did not come in time.
        """
        if _in_event_loop():
            raise RuntimeError("bluejay_call() would block the event loop; write: await bluejay_call.acall(...)")
        return self._many(url, calls, simulation_result_id, options)

    async def acall(self, url: str, simulation_result_id: str | None = None, **options: Any) -> CallReport:
        """Do what calling the object does without blocking the event loop, on asyncio and trio.

        Cancelling it takes effect when the call is over: it cannot be hung up from outside.
        """
        return (await self._amany(url, 1, simulation_result_id, options))[0]

    async def amany(self, url: str, calls: int, **options: Any) -> list[CallReport]:
        """Do what `many` does without blocking the event loop, on asyncio and trio."""
        return await self._amany(url, calls, None, options)

    async def _amany(self, url: str, calls: int, name: str | None, options: Mapping[str, Any]) -> list[CallReport]:
        import anyio.to_thread  # noqa: PLC0415 - plugins are imported in every test session

        return await anyio.to_thread.run_sync(self._many, url, calls, name, options)

    def simulate(
        self,
        agent: Any,
        simulation_result_id: str | None = None,
        *,
        path: str = "",
        utterances: Sequence[Utterance] | None = None,
        voice: str = "en-us",
        timeout: float = 10.0,
        caller: Mapping[str, Any] | None = None,
        **call: Any,
    ) -> CallReport:
        """Serve an agent and call it in virtual time: a call of a minute takes about a second.

        Nobody waits, and all times in the report are as they would have been in real time, latencies too. What the
        agent does in threads, and with other machines, takes the time that it takes.

        Args:
            agent: a handler of `websockets.asyncio`, an ASGI application (with uvicorn) or an aiohttp ``Application``;
                its handlers are under a bare ``@record``.
            simulation_result_id: default a fresh one.
            path: at which an application takes the call, such as ``/agent``.
            utterances: as for a call.
            voice: as for a call.
            timeout: as for a call.
            caller: as for a call; the pace is 1.
            call: as for a call; the agent has two seconds to speak first, in place of none (``greeting``).

        Raises:
            RuntimeError: an event loop runs here.
            TypeError: this cannot be served.
            NoReportError: no report was accepted in time.
        """
        from websockets.exceptions import InvalidStatus  # noqa: PLC0415 - plugins are imported in every test session

        from bluejay_ws import client  # noqa: PLC0415
        from bluejay_ws.testing.hosting import serving  # noqa: PLC0415
        from bluejay_ws.testing.virtual_time import VirtualTimeLoop  # noqa: PLC0415

        name = simulation_result_id or self._next_id()
        options, call = {"pace": 1.0, **(caller or {})}, {"greeting": GREETING, **call}
        spoken = _spoken(utterances, voice)

        async def simulated() -> CallLog:
            loop: Any = asyncio.get_running_loop()
            seam = client.Seam(clock=loop.clock_ns)
            client._default = client.Bluejay._with(seam=seam)  # noqa: SLF001 - the client of a bare @record
            async with serving(agent) as url:
                try:
                    return await _call(f"{url}{path}", name, spoken, options, call)
                except InvalidStatus as refused:
                    refused.add_note("does the application take calls at another path? simulate(app, path='/agent')")
                    raise

        if _in_event_loop():
            raise RuntimeError("simulate() runs an event loop of its own; call it from a test without one")
        before = client._default  # noqa: SLF001
        try:
            with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                log = runner.run(simulated())
            self.logs.append(log)
            recorded = client._default is not None and client._default.stats()["recorded"]  # noqa: SLF001
            return self._report(name, log, timeout if recorded else min(timeout, UNRECORDED))
        finally:
            if client._default is not before and client._default is not None:  # noqa: SLF001
                client._default.close()  # noqa: SLF001
            client._default = before  # noqa: SLF001

    def _next_id(self) -> str:
        return f"local-test-{next(self._ids)}"

    def _many(self, url: str, calls: int, name: str | None, options: Mapping[str, Any]) -> list[CallReport]:
        _check_url(url)
        rest = dict(options)
        spoken = _spoken(rest.pop("utterances", None), rest.pop("voice", "en-us"))
        timeout: float = rest.pop("timeout", 10.0)
        caller = {"pace": PACE, **(rest.pop("caller", None) or {})}
        names = [name or self._next_id() for _ in range(calls)]

        async def make_all() -> list[CallLog]:
            return await asyncio.gather(*(_call(url, one, spoken, caller, rest) for one in names))

        try:
            logs = asyncio.run(make_all())
        except OSError as error:
            raise error.with_traceback(None) from None  # where it was raised in the caller helps nobody
        self.logs += logs
        reports = []
        for one, log in zip(names, logs, strict=True):  # a comprehension would be a frame that tracebacks show
            reports.append(self._report(one, log, timeout))
        return reports

    def _report(self, name: str, log: CallLog, timeout: float) -> CallReport:
        from bluejay_ws.testing.reports import CallReport  # noqa: PLC0415 - plugins are imported in every session

        try:
            return CallReport.of(self._platform.wait_for(1, timeout, simulation_result_id=name)[-1], log)
        except TimeoutError:
            raise NoReportError(
                f"call {name}: no report was accepted within {timeout:g} s. {self._hint(log)}"
            ) from None

    def _hint(self, log: CallLog) -> str:
        """Return why the report probably did not come."""
        if self._platform.rejected:
            return "The platform rejected a report: look at bluejay_platform.rejected."
        if self._platform.requests:
            answers = ", ".join(str(request.answer) for request in self._platform.requests[-3:])
            return f"The agent sent something, and the platform did not accept it: its last answers were {answers}."
        crash = f"The agent hung up with {log.close_code}: its handler raised. " if log.close_code == 1011 else ""
        return (
            f"{crash}Nothing was sent. Is the handler under @record? An agent that was started before the test, or in "
            "another process, or with a client of its own, must report to bluejay_platform.url with its api_key."
        )


async def _call(
    url: str, name: str, spoken: list[bytes] | None, caller: Mapping[str, Any], call: Mapping[str, Any]
) -> CallLog:
    from bluejay_ws.testing.caller import DigitalHuman  # noqa: PLC0415 - plugins are imported in every test session

    return await DigitalHuman(url, name, **caller).call(spoken, **call)


def _spoken(utterances: Sequence[Utterance] | None, voice: str) -> list[bytes] | None:
    from bluejay_ws.testing.speech import utterance_pcm  # noqa: PLC0415 - plugins are imported in every test session

    return None if utterances is None else [utterance_pcm(one, voice=voice) for one in utterances]


def _check_url(url: Any) -> None:
    if not isinstance(url, str):
        remedy = "write bluejay_call(bluejay_serve(agent)), or bluejay_call.simulate(agent)"
        raise TypeError(f"bluejay_call takes a URL, not a {type(url).__name__}; {remedy}")
    if not url.startswith(("ws://", "wss://")):
        raise ValueError(f"{url!r} is not a websocket URL; write it like ws://localhost:8765")


@pytest.fixture
def bluejay_call(bluejay_platform: FakePlatform) -> AgentCaller:
    """Give a helper that calls an agent as Bluejay does and returns the report that was accepted for the call."""
    return AgentCaller(bluejay_platform)


@pytest.fixture
def bluejay_serve() -> Iterator[Callable[[Any], str]]:
    """Give a function that serves an agent and returns its URL.

    It takes a `websockets` handler, ``async`` or not, an ASGI application (with uvicorn) or an aiohttp ``Application``.
    They run on threads of their own, until the end of the test.
    """
    from bluejay_ws.testing.hosting import is_plain  # noqa: PLC0415 - plugins are imported in every test session

    with contextlib.ExitStack() as servers:

        def serve_agent(agent: Any) -> str:
            return servers.enter_context(_sync_server(agent) if is_plain(agent) else _async_server(agent))

        yield serve_agent


@contextlib.contextmanager
def _async_server(agent: Any) -> Iterator[str]:
    from bluejay_ws.testing.hosting import serving  # noqa: PLC0415 - plugins are imported in every test session

    listening: Future[str] = Future()
    loop, over = asyncio.new_event_loop(), asyncio.Event()

    async def main() -> None:
        async with serving(agent) as url:
            listening.set_result(url)
            await over.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(main())
        except BaseException as error:
            if listening.done():
                raise
            listening.set_exception(error)

    thread = threading.Thread(target=run, name="bluejay_serve")
    thread.start()
    try:
        yield listening.result()
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(over.set)
        thread.join()


@contextlib.contextmanager
def _sync_server(handler: Callable[[Any], Any]) -> Iterator[str]:
    from websockets.sync.server import serve  # noqa: PLC0415 - plugins are imported in every test session

    with serve(handler, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, name="bluejay_serve")
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def _in_event_loop() -> bool:
    import anyio  # noqa: PLC0415 - plugins are imported in every test session

    try:
        anyio.get_cancelled_exc_class()
    except RuntimeError:
        return False
    return True
