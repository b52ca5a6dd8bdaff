"""The live page: calls as they happen, on this machine only."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from bluejay_ws.timeline.live import CALLS_KEPT, LiveCall, LivePage
from tests.timeline.samples import good, slow_tool

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Happening:
    """What a caller says."""

    at_ms: float
    kind: str
    detail: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def live() -> Iterator[LivePage]:
    """Give a page that is served."""
    with LivePage() as live:
        yield live


def get(url: str, host: str | None = None) -> bytes:
    """Return what the server answers."""
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        body: bytes = answer.read()
        return body


def test_the_page_and_its_calls_are_served(live: LivePage) -> None:
    """The page asks for a call by its key, and gets what is known of it."""
    live.show("720488", slow_tool(), live=True)
    live.show("720487", good())
    page = get(live.url).decode()
    assert f'"live":"{live.path}"' in page
    assert "connect-src &#x27;self&#x27;" in page
    call = json.loads(get(f"{live.url}calls/720488"))
    assert call["live"] is True
    assert call["headline"].startswith("The call continues.")
    assert json.loads(get(f"{live.url}calls/720487"))["headline"] == "Nothing looks wrong in this call."
    live.show("a ?/#é", good())
    assert json.loads(get(f"{live.url}calls/{quote('a ?/#é', safe='')}"))["key"] == "a ?/#é"


@pytest.mark.parametrize(("path", "host"), [("calls/none", None), ("../", None), ("", "evil.example:80")])
def test_only_this_machine_with_the_secret_word_is_answered(live: LivePage, path: str, host: str | None) -> None:
    """A path without the word, an unknown call, and a foreign name that leads here are not found."""
    url = live.url + path if path != "../" else live.url.rsplit("/", 2)[0] + "/"
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(url, host)
    refused.value.close()
    assert refused.value.code == 404


def test_every_change_reaches_a_reader_at_once(live: LivePage) -> None:
    """Server-sent events: the calls at first, then at each change, and the end when the page closes."""
    live.show("1", good(), live=True)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{live.url}events", timeout=10) as stream:

        def next_listing() -> Any:
            assert stream.readline() == b"event: calls\n"
            listing = json.loads(stream.readline().removeprefix(b"data: "))
            stream.readline()
            return listing

        assert [call["live"] for call in next_listing()["calls"]] == [True]
        live.show("2", slow_tool())
        listing = next_listing()
        assert (listing["changed"], [call["level"] for call in listing["calls"]]) == ("2", ["good", "bad"])
        threading.Thread(target=live.close).start()
        assert stream.read() == b""


def test_a_reader_is_told_that_the_page_is_still_there(live: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing changes, so that nothing in between takes the connection for dead."""
    monkeypatch.setattr("bluejay_ws.timeline.live.BEAT_SECONDS", 0.01)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{live.url}events", timeout=10) as stream:
        assert stream.readline() == b"event: calls\n"
        assert [stream.readline() for _ in range(4)][2:] == [b": still here\n", b"\n"]


def test_only_the_latest_calls_are_kept() -> None:
    """A platform that runs for days does not fill the memory; a page may be closed twice."""
    live = LivePage(port=0)
    for number in range(CALLS_KEPT + 5):
        live.show(str(number), {})
    assert len(live.listing()["calls"]) == CALLS_KEPT
    assert live.call("0") is None
    assert not live.wait(CALLS_KEPT + 5, 0.0)
    live.close()


def test_what_a_caller_notices_is_a_report_without_words() -> None:
    """Voices, interruptions, errors and the end, until the agent's own report comes."""
    call = LiveCall("local-1")
    for happening in (
        Happening(0.1, "connected"),
        Happening(100.4, "agent.heard"),
        Happening(900, "barge_in", {"queued_ms": 1_500}),
        Happening(900, "user.audio"),
        Happening(1_000, "agent.quiet"),
        Happening(1_100, "interrupted"),
        Happening(1_200, "error.received", {"code": "X"}),
        Happening(1_250, "error.sent", {"code": "Y"}),
    ):
        call.add(happening)
    assert [(one["speaker"], one["end_offset_ms"]) for one in call.report()["recorded_transcript"]] == [
        ("AGENT", 1_000),
        ("USER", 1_250),
    ]
    call.add(Happening(2_000, "user.speech.completed"))
    call.add(Happening(3_000, "closed", {"by": "nobody", "code": 1006}))
    report = call.report()
    assert report["recorded_transcript"][1]["end_offset_ms"] == 2_000
    assert [one["title"] for one in report["events"]] == [
        "Caller interrupted the agent",
        "Agent interrupted the caller",
        "Session error from the agent",
        "Session error from the platform",
        "Connection closed",
    ]
    LiveCall("2").add(Happening(5, "agent.quiet"))
