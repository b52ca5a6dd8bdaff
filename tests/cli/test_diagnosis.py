"""`bluejay_ws.cli.diagnosis`: why no report came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.cli.diagnosis import Evidence, explain, is_local, spool_of
from bluejay_ws.testing.caller import CallLog
from bluejay_ws.testing.platform import Answer, FakePlatform
from tests.delivery.kit import finished_call, open_call, spool_at
from tests.testing.raw_client import post, report

if TYPE_CHECKING:
    from pathlib import Path


def reason(platform: FakePlatform, **known: Any) -> str:
    """Return what is said of a call whose report did not come, with the remedy."""
    problem = explain(Evidence(call="local-7", platform=platform, **{"log": CallLog(), **known}))
    return f"{problem.message}; {problem.remedy}"


def test_what_the_platform_refused(platform: FakePlatform) -> None:
    """A wrong key, a body that the schema refuses, and a failure of the platform are three things."""
    post(platform.url, report("local-7"), X_API_Key="another")
    assert "another API key" in reason(platform)
    platform.plan(Answer(status=503))
    post(platform.url, report("local-7"))
    assert "the last request was answered with" in reason(platform)
    post(platform.url, report("local-7", tags=[5]))
    assert "rejected the report: body.tags.0: Input should be" in reason(platform)


def test_a_report_that_waits_in_the_agents_spool(platform: FakePlatform, tmp_path: Path) -> None:
    """The agent recorded the call; where its report is, and how it would have come here."""
    finished_call(spool_at(tmp_path), "local-7")
    said = reason(platform, environ={"BLUEJAY_SPOOL": str(tmp_path)})
    assert f"its report is in the spool {tmp_path}" in said
    assert f"BLUEJAY_API_URL={platform.url}" in said


def test_a_call_that_the_agent_thinks_goes_on(platform: FakePlatform, tmp_path: Path) -> None:
    """Its handler has not returned."""
    file = open_call(spool_at(tmp_path), "local-7")
    assert "has not ended it yet" in reason(platform, spool=tmp_path)
    file.discard()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "was started without BLUEJAY_API_URL"),
        ({"BLUEJAY_API_URL": "https://elsewhere"}, "was started with BLUEJAY_API_URL=https://elsewhere, not"),
    ],
)
def test_an_agent_without_the_variables(
    platform: FakePlatform, environ: dict[str, str], words: str, tmp_path: Path
) -> None:
    """What it was started with is said, and one way to start it rightly."""
    assert words in reason(platform, environ={**environ, "BLUEJAY_SPOOL": str(tmp_path)})


def test_a_handler_that_crashed(platform: FakePlatform) -> None:
    """By its close code, or by the traceback in its log."""
    for known in ({"log": CallLog(close_code=1011)}, {"crashed": lambda: True}):
        assert "handler crashed" in reason(platform, **known)


def test_a_handler_that_nobody_records(platform: FakePlatform, tmp_path: Path) -> None:
    """Certain where the agent's process can be seen; else the other possibility is said too."""
    environ = {"BLUEJAY_API_URL": f"{platform.url}/v1", "BLUEJAY_SPOOL": str(tmp_path)}
    assert "is not under @record;" in reason(platform, environ=environ)
    assert "or it was started without the two variables" in reason(platform)


def test_the_spool_of_a_process_follows_its_variables(tmp_path: Path) -> None:
    """As its client would choose it; a process without a home has none."""
    assert spool_of({"HOME": str(tmp_path)}) == tmp_path / ".local" / "state" / "bluejay_ws" / "spool"
    assert spool_of(None) is None


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:1", True),
        ("http://localhost", True),
        ("http://[::1]:5", True),
        ("https://a.b", False),
        ("", False),
        ("http://[", False),
    ],
)
def test_a_platform_on_this_machine_can_be_told(url: str, *, here: bool) -> None:
    """By its host alone."""
    assert is_local(url) is here
