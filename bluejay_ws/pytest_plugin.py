"""Fixtures for testing an agent: `bluejay_platform` takes its reports, `bluejay_call` dials it.

::

    async def test_the_agent_freezes_the_card(bluejay_call):
        async with serve(record(agent), "127.0.0.1", 8765):
            report = await bluejay_call.acall("ws://127.0.0.1:8765")
        assert [call["name"] for call in report.tool_calls] == ["freeze_card"]

Loaded by pytest itself where bluejay_ws is installed; costs nothing until a fixture is asked for.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bluejay_ws.testing.caller import CallLog
    from bluejay_ws.testing.platform import AcceptedReport, FakePlatform

__all__ = ["AgentCaller", "bluejay_call", "bluejay_platform", "pytest_configure", "verify"]

MARKER = "bluejay(verify=True): options of bluejay_platform; verify=False lets it accept twice and reject bodies"
FIRST_ID = 720488
PACE = 0.1  # ten times faster than real time, unless the caller's options say otherwise


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known to ``--strict-markers``."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def bluejay_platform(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FakePlatform]:
    """Give a fake Bluejay that the agent under test reports to, by its environment or by its arguments.

    ``BLUEJAY_API_URL``, ``BLUEJAY_API_KEY`` and ``BLUEJAY_SPOOL`` point to it for the length of the test, and a bare
    ``@record`` uses them. On the way out it fails the test if a call's report was accepted twice, or a body was not
    what the published schema describes; ``@pytest.mark.bluejay(verify=False)`` switches that off.
    """
    from bluejay_ws import client  # noqa: PLC0415 - plugins are imported in every test session
    from bluejay_ws.testing.platform import FakePlatform  # noqa: PLC0415

    with FakePlatform() as platform:
        monkeypatch.setenv("BLUEJAY_API_URL", platform.url)
        monkeypatch.setenv("BLUEJAY_API_KEY", platform.api_key)
        monkeypatch.setenv("BLUEJAY_SPOOL", str(tmp_path / "bluejay-spool"))
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


class AgentCaller:
    """Dial agents and return what they reported. Works in plain tests and on any event loop.

    Args:
        platform: where the agents report to.

    Attributes:
        logs: what the caller saw of each call, newest last.
    """

    def __init__(self, platform: FakePlatform) -> None:
        self.logs: list[CallLog] = []
        self._platform = platform
        self._ids = itertools.count(FIRST_ID)

    def __call__(
        self,
        url: str,
        simulation_result_id: str | None = None,
        *,
        timeout: float = 10.0,
        caller: Mapping[str, Any] | None = None,
        **call: Any,
    ) -> AcceptedReport:
        """Make one call and return its report; for tests that run no event loop.

        Args:
            url: of the agent, ``ws://`` or ``wss://``.
            simulation_result_id: default a fresh one for each call.
            timeout: seconds that the report may take once the call is over.
            caller: options of `bluejay_ws.testing.caller.DigitalHuman`; the default pace is 0.1.
            call: options of its ``call``, such as ``utterances`` and ``close_code``.

        Raises:
            RuntimeError: an event loop runs here; the call would block it, and perhaps the agent.
            OSError: the agent cannot be reached.
            TimeoutError: no report was accepted in time.
        """
        if _in_event_loop():
            raise RuntimeError("bluejay_call() would block the event loop; write: await bluejay_call.acall(...)")
        return self._call(url, simulation_result_id, timeout, caller or {}, call)

    async def acall(
        self,
        url: str,
        simulation_result_id: str | None = None,
        *,
        timeout: float = 10.0,  # noqa: ASYNC109 - not of the whole call
        caller: Mapping[str, Any] | None = None,
        **call: Any,
    ) -> AcceptedReport:
        """Do what calling the object does without blocking the event loop, on asyncio and trio.

        Cancelling it takes effect when the call is over: it cannot be hung up from outside.
        """
        import anyio.to_thread  # noqa: PLC0415 - plugins are imported in every test session

        return await anyio.to_thread.run_sync(self._call, url, simulation_result_id, timeout, caller or {}, call)

    def _call(
        self,
        url: str,
        simulation_result_id: str | None,
        timeout: float,
        caller: Mapping[str, Any],
        call: Mapping[str, Any],
    ) -> AcceptedReport:
        from bluejay_ws.testing.caller import DigitalHuman  # noqa: PLC0415 - plugins are imported in every test session

        name = simulation_result_id or str(next(self._ids))
        options: dict[str, Any] = {"pace": PACE, **caller}
        human = DigitalHuman(url, name, **options)
        self.logs.append(asyncio.run(human.call(**call)))
        return self._platform.wait_for(1, timeout, simulation_result_id=name)[-1]


@pytest.fixture
def bluejay_call(bluejay_platform: FakePlatform) -> AgentCaller:
    """Give a helper that dials an agent as Bluejay does and returns the report that was accepted for the call."""
    return AgentCaller(bluejay_platform)


def _in_event_loop() -> bool:
    import anyio  # noqa: PLC0415 - plugins are imported in every test session

    try:
        anyio.get_cancelled_exc_class()
    except RuntimeError:
        return False
    return True
