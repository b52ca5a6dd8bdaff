"""The client: configuration, calls, finding them, waiting, the end, and that the key is nowhere to be seen."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import pickle
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import weakref
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

import bluejay_ws
from bluejay_ws import client as client_module
from bluejay_ws.call import Call
from bluejay_ws.client import Bluejay, Seam, default_client, opening_failed
from bluejay_ws.current import INERT, current_recorder
from bluejay_ws.decorator import record
from bluejay_ws.delivery import admin
from bluejay_ws.delivery.sender import Sender
from bluejay_ws.delivery.spool import Spool
from bluejay_ws.delivery.store import APART
from bluejay_ws.exceptions import ConfigurationError, DeliveryError
from bluejay_ws.servers.websockets import tap_of
from bluejay_ws.settings import Retry, Secret
from bluejay_ws.testing.platform import Answer, FakePlatform, Hang
from tests import nursery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from bluejay_ws.delivery.livefile import LiveFile
    from bluejay_ws.delivery.store import Report, Store
    from bluejay_ws.settings import Settings
    from bluejay_ws.stats import Counters

ID = "720488"
HEADERS = {"X-Simulation-Result-Id": ID}
CANARY = "canary-0f8c2d-key"
PACKAGE = str(Path(bluejay_ws.__file__).parent)


@pytest.fixture
def hurried(platform: FakePlatform, spool: Path) -> Iterator[Bluejay]:
    """Give a client that does not wait at its end."""
    with Bluejay("test-key", base_url=platform.url, spool=spool, flush_timeout=0.05) as client:
        yield client


def make_call(client: Bluejay, name: str = ID) -> None:
    """Record one whole call."""
    with client.call({"X-Simulation-Result-Id": name}) as recorder:
        recorder.add_tool_call("freeze", parameters={"last4": "4242"}, output="ok")


def ours(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """Return what we said at this level or above."""
    return [entry.getMessage() for entry in caplog.records if entry.name == "bluejay_ws" and entry.levelno >= level]


def ids(platform: FakePlatform) -> list[str]:
    """Return the calls the platform has accepted reports of."""
    return sorted(report.simulation_result_id for report in platform.accepted)


# -- configuration ---------------------------------------------------------------------------------------------------


def test_making_a_client_starts_nothing(platform: FakePlatform, spool: Path) -> None:
    """No thread, no connection; with a key not even a word."""
    before = set(threading.enumerate())  # those of earlier tests may end meanwhile
    client = Bluejay("test-key", base_url=platform.url, spool=spool)
    assert set(threading.enumerate()) <= before
    assert platform.connections == 0
    assert repr(client) == f"Bluejay(base_url='{platform.url}', spool='{spool}')"


def test_every_argument_reaches_the_settings(tmp_path: Path) -> None:
    """What is written in code is what counts."""
    client = Bluejay(
        "k",
        base_url="https://eu.example/v1",
        timeout=3.0,
        retry=Retry(first=1.0),
        spool=tmp_path,
        redact=lambda kind, value: value,
        flush_timeout=4.0,
        redial_wait=5.0,
    )
    settings = client.settings
    assert settings.api_key == Secret("k")
    assert (settings.base_url, settings.timeout, settings.retry.first) == ("https://eu.example", 3.0, 1.0)
    assert (settings.spool, settings.flush_timeout, settings.redial_wait) == (tmp_path, 4.0, 5.0)
    assert settings.redact is not None


def test_without_a_key_reports_are_kept_apart(
    platform: FakePlatform, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once, with the command that sends them; a client with a key on the same spool leaves them where they are."""
    with Bluejay(base_url=platform.url, spool=spool) as client:
        assert [line for line in ours(caplog) if "BLUEJAY_API_KEY" in line] == [
            "BLUEJAY_API_KEY is not set: calls are recorded, and their reports kept until you send them"
        ]
        make_call(client)
        make_call(client, "720487")
        assert len([line for line in ours(caplog) if "bluejay-ws outbox deliver --kept-apart" in line]) == 1
        assert client.flush(5.0) is False
        assert client.stats()["waiting"] == 2
    (left,) = [line for line in ours(caplog) if "undelivered" in line]
    assert left.endswith("for you to send them: bluejay-ws outbox deliver --kept-apart")  # and not for the next start
    assert [entry.kept_apart for entry in admin.entries(spool)] == [True, True]
    with Bluejay("test-key", base_url=platform.url, spool=spool, redial_wait=0.0) as client:
        make_call(client, "720489")
        platform.wait_for(1)
        assert ids(platform) == ["720489"]
        for entry in admin.entries(spool, place=APART):
            admin.send_to(spool, entry.name, client.settings.destination)
    with Bluejay("test-key", base_url=platform.url, spool=spool, redial_wait=0.0) as client:
        make_call(client, "720490")
        platform.wait_for(4)
    assert ids(platform) == ["720487", ID, "720489", "720490"]


def test_a_report_goes_only_to_the_platform_it_was_recorded_for(platform: FakePlatform, spool: Path) -> None:
    """Another client on the same spool, for another platform, leaves it alone."""
    with Bluejay("test-key", base_url="http://127.0.0.1:1", spool=spool, flush_timeout=0.0) as client:
        make_call(client)
    with Bluejay("test-key", base_url=platform.url, spool=spool) as client:
        make_call(client, "720489")
    assert ids(platform) == ["720489"]
    assert [entry.place for entry in admin.entries(spool)] == ["http_127.0.0.1_1"]


def test_a_call_of_the_local_caller_is_not_reported_to_an_account(
    spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its id says what it is."""
    with Bluejay("test-key", base_url="https://api.example", spool=spool, flush_timeout=0.0) as client:
        make_call(client, "local-1")
        assert client.stats()["dropped.local_id"] == 1
        assert client.stats()["recorded"] == 0
    assert "comes from the local caller" in caplog.text


def test_a_number_is_an_alias_like_any_other(client: Bluejay) -> None:
    """It is found as a number and as text."""
    with client.call(HEADERS) as recorder:
        recorder.add_alias(4242)  # type: ignore[arg-type]
        assert client.find("4242") is recorder
        assert client.find(4242) is recorder  # type: ignore[arg-type]


def test_an_unusable_spool_is_told_once_and_reports_go_out_from_memory(
    platform: FakePlatform, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning says which directory, why, what to do and what it costs."""
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a directory")
    with Bluejay("test-key", base_url=platform.url, spool=in_the_way / "spool") as client:
        (line,) = ours(caplog)
        assert str(in_the_way / "spool") in line
        assert "BLUEJAY_SPOOL" in line
        assert "kept in memory only" in line
        make_call(client)
    assert ids(platform) == [ID]
    assert client.stats()["spool.unusable"] == 1
    assert ours(caplog) == [line]


def test_without_a_spool_reports_go_out_from_memory(platform: FakePlatform, caplog: pytest.LogCaptureFixture) -> None:
    """``spool=False`` is a choice, and needs no warning."""
    with Bluejay("test-key", base_url=platform.url, spool=False) as client:
        make_call(client)
    assert ids(platform) == [ID]
    assert ours(caplog) == []


def test_the_process_s_own_client_is_made_once_from_the_environment(bluejay_platform: FakePlatform) -> None:
    """However many threads need it first."""
    made: list[Bluejay] = []
    begin = threading.Barrier(4)

    def need() -> None:
        begin.wait()
        made.append(default_client())

    threads = [threading.Thread(target=need) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(made) == {default_client()}
    assert default_client().settings.base_url == bluejay_platform.url


def test_where_no_client_can_be_made_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent continues; whoever reads its log learns what to set."""
    monkeypatch.setattr(client_module, "_default", None)
    monkeypatch.setenv("BLUEJAY_API_URL", "http://api.getbluejay.ai")
    opening_failed(default_client, ValueError("secret"))
    (line,) = ours(caplog)
    assert "calls are not recorded (ConfigurationError): BLUEJAY_API_URL is plain http" in line
    assert "secret" not in line


# -- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        HEADERS,
        {"x-simulation-result-id": ID},
        [(b"x-simulation-result-id", b"720488")],
        [("X-Simulation-Result-Id", ID), ("x-simulation-result-id", ID)],
        "Host: localhost\r\nX-Simulation-Result-Id: 720488\r\n\r\n",
        b"x-simulation-result-id:720488\n",
        SimpleNamespace(get=dict(HEADERS).get),
        SimpleNamespace(request=SimpleNamespace(headers=HEADERS)),
        SimpleNamespace(request_headers=HEADERS),
        SimpleNamespace(scope={"headers": [(b"x-simulation-result-id", b"720488")]}),
    ],
)
def test_a_call_is_named_by_its_headers(headers: object, client: Bluejay, platform: FakePlatform) -> None:
    """Whatever a server calls its headers."""
    with client.call(headers) as recorder:
        assert recorder.simulation_result_id == ID
    platform.wait_for(1)


@pytest.mark.parametrize("headers", [None, {}, [], {"Authorization": "Basic c2VjcmV0"}])
def test_without_the_header_there_is_no_call_and_no_word(
    headers: object, client: Bluejay, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Production traffic starts nothing, keeps nothing and counts nothing."""
    before = set(threading.enumerate())
    with client.call(headers) as recorder:
        assert recorder is INERT
    assert set(threading.enumerate()) <= before
    assert list(spool.iterdir()) == []
    assert ours(caplog) == []
    assert set(client.stats().values()) == {0}


@pytest.mark.parametrize("headers", [5, object(), [1, 2], ["x"], "720488"])
def test_headers_that_cannot_be_read_are_counted_and_the_call_goes_on(
    headers: object, client: Bluejay, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake in the agent's code costs the report, never the call."""
    with client.call(headers) as recorder:
        assert recorder is INERT
    assert client.stats()["internal_error.headers"] == 1
    assert "internal error at headers" in ours(caplog)[0]


@pytest.mark.parametrize("hostile", ["", " ", "a b", "\x1b[2J", "x" * 65, "720488\r\nX-Evil: 1", "\u0661"])
def test_an_unusable_id_is_told_without_being_quoted(
    hostile: str, client: Bluejay, caplog: pytest.LogCaptureFixture
) -> None:
    """The call continues unrecorded, and the log line cannot be forged."""
    with client.call({"X-Simulation-Result-Id": hostile}) as recorder:
        assert recorder is INERT
    assert client.stats()["dropped.no_usable_id"] == 1
    (line,) = ours(caplog)
    assert line.startswith("a connect request has 1 X-Simulation-Result-Id value(s) but no usable id among them")
    assert line.endswith("the call continues unrecorded")


def test_unusable_ids_are_told_at_most_once_a_minute(client: Bluejay, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever floods an agent with bad headers does not flood its log; all of them are counted."""
    for _ in range(50):
        client.open_call(["1", "2"], server="test")
    assert client.stats()["dropped.no_usable_id"] == 50
    assert len(ours(caplog)) == 1


def test_redaction_covers_everything_that_leaves(platform: FakePlatform, spool: Path) -> None:
    """What the hook removes is neither in the report nor in the spool."""

    def redact(kind: str, value: Any) -> Any:
        return ["[redacted]"] if kind == "tags" else "[redacted]"

    platform.otherwise(Answer(status=503))
    with Bluejay("test-key", base_url=platform.url, spool=spool, redact=redact) as client:
        with client.call(HEADERS) as recorder:
            recorder.user_said("4242 secret")
            recorder.add_tool_call("freeze", parameters={"card": "secret"}, output="secret", description="secret")
            recorder.add_event("Lookup", description="secret", tags=["secret"], metadata={"a": "secret"})
            recorder.add_tags("secret")
            recorder.add_metadata(a="secret")
            (path,) = spool.rglob("*.live")
            assert b"secret" not in path.read_bytes()
        platform.otherwise()
    (report,) = platform.wait_for(1)
    assert b"secret" not in report.body
    assert report.transcript[0]["utterance"] == "[redacted]"
    assert report.tool_calls[0]["name"] == "freeze"


# -- finding a call --------------------------------------------------------------------------------------------------


def test_a_call_is_found_by_its_id_and_aliases_while_it_lasts(client: Bluejay) -> None:
    """From any thread; afterwards the inert recorder answers."""
    with client.call(HEADERS) as recorder:
        recorder.add_alias("CA123")
        found: list[object] = []
        thread = threading.Thread(target=lambda: found.extend([client.find(ID), client.find("CA123")]))
        thread.start()
        thread.join()
        assert found == [recorder, recorder]
        assert client.find(720488) is recorder  # type: ignore[arg-type]
    assert client.find(ID) is client.find("CA123") is INERT


def test_an_unknown_id_is_inert_and_counted_never_the_latest_call(client: Bluejay) -> None:
    """With one call live, another id does not lead to it."""
    with client.call(HEADERS):
        unknown: list[Any] = ["720489", "", None, {}]
        assert [client.find(name) for name in unknown] == [INERT] * 4
    assert client.stats()["dropped.unknown_call"] == 4


def test_a_late_id_leads_to_its_call(client: Bluejay, platform: FakePlatform) -> None:
    """`bind` makes it known; offsets still count from connect."""
    with client.call({}, late_id=True) as recorder:
        recorder.add_event("before")
        assert client.find(ID) is INERT
        recorder.bind(ID)
        assert client.find(ID) is recorder
    (report,) = platform.wait_for(1)
    assert report.simulation_result_id == ID
    assert report.events[0]["title"] == "before"


def test_a_call_may_be_opened_for_an_id_that_is_looked_for(client: Bluejay) -> None:
    """Where the header names the call already, nothing is looked for."""
    call = client.open_call([], server="test", look=True)
    named = client.open_call(["720489"], server="test", look=True)
    for one in (call, named):
        assert one is not None
        one.user_text(f'{{"simulation_result_id": "{ID}"}}', 0.0)
    assert call is not None
    assert named is not None
    assert (call.recorder.simulation_result_id, named.recorder.simulation_result_id) == (ID, "720489")


def test_when_the_platform_dials_again_the_newer_call_is_found(client: Bluejay) -> None:
    """The end of the older one does not make the newer one unknown."""
    older, newer = (client.open_call([ID], server="test") for _ in range(2))
    assert older is not None
    assert newer is not None
    assert client.find(ID) is newer.recorder
    older.end()
    assert client.find(ID) is newer.recorder
    newer.end()
    assert client.find(ID) is INERT


def test_the_end_of_a_newer_call_leaves_the_older_ones_to_be_found(client: Bluejay) -> None:
    """Whichever of several connections with one id ends, the newest that lives is found; none is kept at the end."""
    first, second, third = (client.open_call([ID], server="test") for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    third.recorder.add_alias(ID)  # again: that makes no call older than itself
    second.end()
    assert client.find(ID) is third.recorder
    third.end()
    assert client.find(ID) is first.recorder
    first.end()
    assert client.find(ID) is INERT
    client.sender._finisher.drain(10.0)
    assert not client._names
    assert not client._older


def test_an_older_call_is_found_as_soon_as_the_newer_one_is_over(client: Bluejay) -> None:
    """Delivery takes a call off the books a moment after its end, on a thread of its own: nobody waits for that."""
    older, newer = (client.open_call([ID], server="test") for _ in range(2))
    assert older is not None
    assert newer is not None
    with client.sender._finisher._working:  # the thread gets no further meanwhile
        newer.end()
        assert client.find(ID) is older.recorder
        assert client.stats()["live"] == 1


def test_a_name_that_is_given_again_and_again_takes_no_more_room(client: Bluejay) -> None:
    """Two calls that share an alias, and say so with every message, are remembered once each under it."""
    first, second = (client.open_call([identity], server="test") for identity in ("1", "2"))
    assert first is not None
    assert second is not None
    for _ in range(5):
        first.recorder.add_alias("room")
        second.recorder.add_alias("room")
    assert first.names() == ("1", "room")
    assert second.names() == ("2", "room")
    assert client._older["room"] == [first]
    assert client.find("room") is second.recorder
    second.end()
    assert client.find("room") is first.recorder
    first.end()
    client.sender._finisher.drain(10.0)
    assert not client._names
    assert not client._older


def test_a_call_that_has_ended_is_not_found_although_it_is_still_on_the_books(client: Bluejay) -> None:
    """Between its end and its being forgotten nothing can be recorded any more."""
    call = client.open_call([ID], server="test")
    assert call is not None
    call.end()
    client.remember("CA123", call)
    assert client.find("CA123") is INERT


def test_a_client_that_is_dropped_delivers_and_ends_its_threads(platform: FakePlatform, spool: Path) -> None:
    """Nobody closed it: what it had is delivered all the same, then nothing of it is left."""
    client = Bluejay("test-key", base_url=platform.url, spool=spool)
    make_call(client, ID)
    sender = weakref.ref(client.sender)
    dropped = weakref.ref(client)
    del client
    assert platform.wait_for(1)
    until = time.monotonic() + 10.0
    while (sender() is not None or dropped() is not None) and time.monotonic() < until:
        time.sleep(0.02)
        gc.collect()
    assert dropped() is None
    assert sender() is None


def test_many_threads_may_open_and_end_calls_at_once(client: Bluejay, platform: FakePlatform) -> None:
    """The books stay right, and each call is reported once."""

    def work(thread: int) -> None:
        for number in range(8):
            make_call(client, f"{thread}-{number}")

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(platform.wait_for(64)) == 64
    assert platform.duplicates == {}
    assert client.stats()["live"] == 0
    assert client._names == {}
    assert not [name for name in client.stats() if name.startswith("internal_error")]


# -- waiting ---------------------------------------------------------------------------------------------------------


def test_flush_waits_for_delivery(client: Bluejay, platform: FakePlatform) -> None:
    """When it answers True, the platform has the report."""
    make_call(client)
    assert client.flush(10.0, strict=True) is True
    assert ids(platform) == [ID]
    assert client.stats()["waiting"] == 0


def test_flush_gives_up_after_its_budget(hurried: Bluejay, platform: FakePlatform) -> None:
    """False, or an error where the caller is strict, which says how many wait."""
    platform.otherwise(Hang())
    make_call(hurried)
    assert hurried.flush() is False
    assert hurried.flush(0.01) is False
    with pytest.raises(DeliveryError, match="1 waiting") as caught:
        hurried.flush(strict=True)
    assert caught.value.undelivered == {"waiting": 1, "held": 0, "parked": 0, "lost": 0}


@pytest.mark.parametrize("kept", [True, False], ids=["in a spool", "in memory"])
def test_a_strict_flush_tells_of_what_the_platform_refused(kept: bool, platform: FakePlatform, spool: Path) -> None:
    """A parked report is settled, but not delivered."""
    platform.otherwise(Answer(status=422))
    with Bluejay("test-key", base_url=platform.url, spool=spool if kept else False) as client:
        make_call(client)
        assert client.flush() is True
        with pytest.raises(DeliveryError, match="1 parked" if kept else "1 lost"):
            client.flush(strict=True)


@pytest.mark.anyio
async def test_aflush_waits_without_blocking_the_loop(spool: Path) -> None:
    """On asyncio and on trio: others run meanwhile, and afterwards the platform has the report."""
    ticked = threading.Event()

    async def tick() -> None:
        for _ in range(3):
            await anyio.sleep(0.005)
        ticked.set()

    def take_in(_: object) -> None:
        assert ticked.wait(20)

    with FakePlatform(on_report=take_in) as platform:
        with Bluejay("test-key", base_url=platform.url, spool=spool) as client:
            make_call(client)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(tick)
                assert await client.aflush(strict=True) is True
        assert platform.errors == []
        assert ids(platform) == [ID]


@pytest.mark.anyio
async def test_aflush_gives_up_after_its_budget_and_can_be_cancelled(hurried: Bluejay, platform: FakePlatform) -> None:
    """Neither loses anything."""
    platform.otherwise(Hang())
    make_call(hurried)
    assert await hurried.aflush() is False
    with pytest.raises(DeliveryError, match="1 waiting"):
        await hurried.aflush(0.01, strict=True)
    with anyio.move_on_after(0.05) as scope:
        await hurried.aflush(30.0)
    assert scope.cancelled_caught
    assert hurried.stats()["waiting"] == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_where_no_thread_can_be_started_the_end_is_neither_an_error_nor_late(
    error: Exception, backend: str, hurried: Bluejay, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent's shutdown goes on within its budget; what was recorded waits, and leaves once threads can start."""

    def refuse(_: threading.Thread) -> None:
        raise error

    async def end() -> None:
        with monkeypatch.context() as limited:
            limited.setattr(threading.Thread, "start", refuse)
            make_call(hurried)
            assert await hurried.flush_at_end() is False
            assert await hurried.aclose() is False
            assert hurried.sender.left(hurried.settings.flush_timeout) == 0.0  # one budget for both
        assert await hurried.aflush(30.0) is True
        with monkeypatch.context() as limited:
            limited.setattr(threading.Thread, "start", refuse)
            assert await hurried.aflush(30.0) is True  # there is nothing to wait for

    anyio.run(end, backend=backend)
    assert ids(platform) == [ID]


@pytest.mark.anyio
async def test_without_a_key_waiting_is_of_no_use(platform: FakePlatform, spool: Path) -> None:
    """The end of an agent without a key is not held up: the budget of a minute is not used."""
    client = Bluejay(base_url=platform.url, spool=spool, flush_timeout=59.0)
    make_call(client)
    assert await client.aflush() is False
    assert client.flush() is False
    assert await client.aclose() is False


# -- the end ---------------------------------------------------------------------------------------------------------


def test_closing_twice_and_recording_after_it_is_allowed(client: Bluejay, platform: FakePlatform) -> None:
    """A later call starts delivery again."""
    assert client.close() is True
    assert client.close() is True
    make_call(client)
    assert client.close() is True
    assert client.close() is True
    make_call(client, "720489")
    assert client.flush() is True
    assert ids(platform) == [ID, "720489"]


def test_closing_ends_the_calls_that_are_live(client: Bluejay, platform: FakePlatform) -> None:
    """Their reports leave; what they record afterwards is dropped and counted."""
    with client.call(HEADERS) as recorder:
        recorder.add_event("before")
        assert client.close() is True
        recorder.add_event("after")
    (report,) = platform.accepted
    assert [event["title"] for event in report.events] == ["before", "Connection closed"]
    assert client.stats()["dropped.after_close"] == 1


def test_the_end_of_a_with_block_is_the_close(platform: FakePlatform, spool: Path) -> None:
    """The client itself is given."""
    with Bluejay("test-key", base_url=platform.url, spool=spool) as client:
        assert isinstance(client, Bluejay)
        make_call(client)
    assert ids(platform) == [ID]


@pytest.mark.anyio
async def test_the_end_of_an_async_with_block_is_the_close(platform: FakePlatform, spool: Path) -> None:
    """On asyncio and on trio, live calls included."""
    async with Bluejay("test-key", base_url=platform.url, spool=spool) as client:
        make_call(client)
        live = client.open_call(["720489"], server="test")
    assert live is not None
    assert live.ended
    assert ids(platform) == [ID, "720489"]


def test_a_client_that_nobody_holds_is_freed(spool: Path) -> None:
    """Tests and reloads that make many clients keep none of them."""
    client = Bluejay("k", spool=spool)
    before = len(client_module._clients)
    del client
    gc.collect()
    assert len(client_module._clients) < before


AGENT = """
    import os, sys, threading
    from bluejay_ws.client import Bluejay
    client = Bluejay("test-key", base_url=sys.argv[1], spool=sys.argv[2])
    call = client.open_call([sys.argv[3]], server="test")
    call.recorder.add_event("recorded")
"""


def run_agent(platform: FakePlatform, spool: Path, ending: str = "") -> subprocess.CompletedProcess[str]:
    """Run an agent with a live call in a process of its own, to its end."""
    code = textwrap.dedent(AGENT) + textwrap.dedent(ending)
    # Python warns of forks beside threads, which is what is tested here.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, platform.url, str(spool), ID]
    return nursery.run(command)


def test_a_live_call_is_delivered_at_the_end_of_the_process(platform: FakePlatform, spool: Path) -> None:
    """Nobody closed anything: the interpreter's end does."""
    done = run_agent(platform, spool)
    assert done.stderr == ""
    (report,) = platform.accepted
    assert [event["title"] for event in report.events] == ["recorded", "Connection closed"]
    assert report.events[-1]["metadata"]["bluejay_ws"]["closed_by"] == "process_exit"
    assert report.events[-1]["metadata"]["bluejay_ws"].get("incomplete") is None


def test_a_call_that_is_recorded_inside_of_itself_says_so(
    platform: FakePlatform, client: Bluejay, caplog: pytest.LogCaptureFixture
) -> None:
    """`bluejay.call` below `@record`: nothing is lost, and the log says what to take instead."""
    with client.call({"X-Simulation-Result-Id": ID}) as outer:
        make_call(client, "720489")  # a call of another id is another call
        make_call(client)
        outer.add_tool_call("outer")
    assert client.flush()
    (line,) = (line for line in ours(caplog) if "is recorded a second time" in line)
    assert f"call {ID} is" in line
    assert "take current_recorder() there" in line
    assert ids(platform) == [ID, "720489"]


def test_after_a_discard_the_call_may_be_recorded_anew(
    platform: FakePlatform, client: Bluejay, caplog: pytest.LogCaptureFixture
) -> None:
    """The outer recorder sends nothing: its call has no second part."""
    with client.call({"X-Simulation-Result-Id": ID}) as outer:
        outer.discard()
        make_call(client)
    assert client.flush()
    assert not [line for line in ours(caplog) if "is recorded a second time" in line]
    assert ids(platform) == [ID]


def test_a_call_whose_process_was_killed_is_delivered_by_the_next_one(platform: FakePlatform, spool: Path) -> None:
    """What `record` methods had returned for is there, and the report says that its process was lost."""
    code = textwrap.dedent(AGENT) + "os.kill(os.getpid(), 9)"
    command = [sys.executable, "-c", code, platform.url, str(spool), ID]
    assert nursery.run(command, check=False).returncode == -9
    with Bluejay("test-key", base_url=platform.url, spool=spool, redial_wait=0.0) as client:
        make_call(client, "720489")
        platform.wait_for(2)
    (report,) = platform.reports_for(ID)
    assert [event["title"] for event in report.events] == ["recorded", "Connection closed"]
    assert report.events[-1]["metadata"]["bluejay_ws"]["incomplete"] == "process_lost"


FORK = """
    child = os.fork()
    if child == 0:
        assert client.stats()["recorded"] == client.stats()["live"] == 0
        call.recorder.add_event("by the child")
        call.connection_closed({})
        call.end()
        client.close()
        sys.exit()  # with everything that an interpreter does at its end
    assert os.waitpid(child, 0)[1] == 0
    call.recorder.add_event("by the parent")
    call.connection_closed({"close_code": 1000})
    assert client.flush()
"""


def test_a_forked_child_owns_nothing(platform: FakePlatform, spool: Path) -> None:
    """It sends nothing and touches nothing; the parent's live call continues and is reported once, by the parent."""
    done = run_agent(platform, spool, FORK)
    assert done.stderr == ""
    (report,) = platform.accepted
    assert [event["title"] for event in report.events] == ["recorded", "by the parent", "Connection closed"]


FORKED_CALL = """
    call.connection_closed({})
    assert client.flush()  # delivery is at work when the fork comes
    child = os.fork()
    if child == 0:
        other = client.open_call(["720489"], server="test")
        other.connection_closed({})
        assert client.flush()
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_may_record_calls_of_its_own(platform: FakePlatform, spool: Path) -> None:
    """Servers fork their workers after the client was made."""
    run_agent(platform, spool, FORKED_CALL)
    assert ids(platform) == [ID, "720489"]
    assert platform.duplicates == {}


# -- health ----------------------------------------------------------------------------------------------------------


def test_stats_always_have_the_counts_that_matter(client: Bluejay, platform: FakePlatform) -> None:
    """Dashboards find their keys before the first call; gauges say what is going on now."""
    assert client.stats() == dict.fromkeys(("live", "waiting", "recorded", "delivered", "retried", "held", "parked"), 0)
    with client.call(HEADERS):
        assert client.stats()["live"] == client.stats()["recorded"] == 1
    client.flush()
    stats = client.stats()
    assert (stats["live"], stats["waiting"], stats["recorded"], stats["delivered"]) == (0, 0, 1, 1)


# -- when a part of ours breaks --------------------------------------------------------------------------------------


class BrokenSender(Sender):
    """A sender of which one method raises."""

    broken = ""

    def start(self) -> None:
        self._maybe("start")
        super().start()

    def submit(self, parcel: Report) -> None:
        self._maybe("submit")
        super().submit(parcel)

    def _maybe(self, name: str) -> None:
        if self.broken == name:
            self.broken = ""
            raise RuntimeError("quotes the caller")


class BrokenSpool(Spool):
    """A spool that raises where it should answer None."""

    def open_call(self, **_: Any) -> LiveFile | None:
        raise RuntimeError("quotes the caller")


class BrokenObserver:
    """An observer of which every method raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("quotes the caller")


class Clock:
    """A clock that raises after so many looks at it."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def __call__(self) -> int:
        self.looks -= 1
        if self.looks < 0:
            raise RuntimeError("quotes the caller")
        return time.monotonic_ns()


def broken_sender(name: str) -> Callable[[Settings, Store | None, Counters], Sender]:
    """Return what makes a sender of which one method raises."""

    def make(settings: Settings, spool: Store | None, counters: Counters) -> Sender:
        sender = BrokenSender(settings, store=spool, counters=counters)
        sender.broken = name
        return sender

    return make


def break_the_spool(client: Bluejay) -> None:
    """Let the spool of a client raise."""
    assert client.spool is not None
    client.spool = BrokenSpool(
        Path(client.spool.place), counters=client.counters, destination=client.settings.destination
    )


def nothing(_: Bluejay) -> None:
    """Break nothing more."""


async def agent(websocket: ServerConnection) -> None:
    """Do a bit of everything a handler does with its recorder."""
    recorder = current_recorder()
    if websocket.request is not None and websocket.request.path == "/observer":
        recorder.hear_with(BrokenObserver())
        tap = tap_of(websocket.protocol)
        assert tap is not None
        tap.observer = BrokenObserver()  # type: ignore[assignment]
    async for message in websocket:
        recorder.user_said(str(message))
        with recorder.tool_call("freeze", {"last4": "4242"}) as tool:
            tool.output = "frozen"
        with recorder.event("Lookup"), recorder.utterance("agent") as said:
            said.text = "one moment"
        recorder.add_metadata(offset=recorder.offset_ms())
        await websocket.send(message)


async def converse(handler: Callable[..., Any], path: str) -> list[Any]:
    """Return everything a caller sees of a handler."""
    seen: list[Any] = []
    async with serve(handler, "127.0.0.1", 0) as server:
        uri = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}"
        async with connect(uri, additional_headers=HEADERS) as websocket:
            for message in ("one", b"two", "three"):
                await websocket.send(message)
                seen.append(await websocket.recv())
            await websocket.close(4001, "bye")
            seen.append((websocket.protocol.close_code, websocket.protocol.close_reason))
    return seen


@pytest.mark.parametrize(
    ("options", "break_more", "path", "counted", "reported"),
    [
        ({"clock": Clock(0)}, nothing, "/", "internal_error.open", False),
        ({"clock": Clock(1)}, nothing, "/", "dropped.failed_offset", True),
        ({"clock": Clock(5)}, nothing, "/", "dropped.failed_offset", True),
        ({"sender": broken_sender("start")}, nothing, "/", "internal_error.start", True),
        # The report is sealed by then: the keeper may find it in the spool, as it finds what a dead process left.
        ({"sender": broken_sender("submit")}, nothing, "/", "internal_error.end", None),
        ({}, break_the_spool, "/", "internal_error.spool", True),
        ({}, nothing, "/observer", "internal_error.frame", True),
    ],
    ids=["clock", "clock later", "clock even later", "start", "submit", "spool", "observer"],
)
def test_whatever_breaks_the_call_goes_on_and_it_is_counted(
    options: dict[str, Any],
    break_more: Callable[[Bluejay], None],
    path: str,
    counted: str,
    reported: bool | None,
    platform: FakePlatform,
    spool: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The caller sees the same as without us; the failure is counted, and told by its type only."""
    bare = asyncio.run(converse(agent_without_tap, path))
    seam = Seam(**options)
    with Bluejay._with("test-key", base_url=platform.url, spool=spool, seam=seam) as client:
        break_more(client)
        assert asyncio.run(converse(record(agent, client=client), path)) == bare
    assert client.stats()[counted] >= 1
    assert reported is None or ids(platform) == [ID] * reported
    assert "quotes" not in caplog.text


async def agent_without_tap(websocket: ServerConnection) -> None:
    """Do what the agent does where nothing is recorded."""
    async for message in websocket:
        await websocket.send(message)


# -- the key ---------------------------------------------------------------------------------------------------------


def printed(error: BaseException) -> str:
    """Return the traceback with the locals of each of our frames, as error reporters send it."""
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    mine = [frame for frame in whole.stack if frame.filename.startswith(PACKAGE)]
    assert mine
    whole.stack = traceback.StackSummary.from_list(mine)
    return "".join(whole.format(chain=True))


def test_the_key_is_nowhere_but_in_its_header(
    spool: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in any logger's lines at DEBUG, not in the spool, the URL, the body, a repr, or an attribute."""
    caplog.set_level(logging.DEBUG)
    for name in ("bluejay_ws", "asyncio", "websockets"):
        caplog.set_level(logging.DEBUG, logger=name)
    with FakePlatform(api_key=CANARY) as platform:
        platform.plan(Answer(status=429, headers={"Retry-After": "0"}))
        with Bluejay(CANARY, base_url=platform.url, spool=spool, retry=Retry(first=0.01)) as client:
            make_call(client)
            client.flush(0.5)
            kept = b"".join(path.read_bytes() + path.name.encode() for path in spool.rglob("*") if path.is_file())
            shown = [
                repr(thing) for thing in (client, client.settings, vars(client), client.sender, vars(client.sender))
            ]
            shown += [str(client), str(client.settings), str(client.stats()), str(vars(client.settings))]
        kept += b"".join(path.read_bytes() + path.name.encode() for path in spool.rglob("*") if path.is_file())
        requests = platform.requests
    assert any(
        dict(request.headers).get("X-API-Key", dict(request.headers).get("x-api-key")) == CANARY for request in requests
    )
    assert CANARY.encode() not in kept
    assert all(CANARY not in text for text in shown)
    assert all(CANARY.encode() not in request.body and CANARY not in request.path for request in requests)
    written = capfd.readouterr()
    assert CANARY not in caplog.text + written.out + written.err
    assert "bluejay_ws" in {entry.name for entry in caplog.records}
    assert all(CANARY not in f"{entry.args!r}{entry.__dict__!r}" for entry in caplog.records)


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": -1},
        {"flush_timeout": -1},
        {"redial_wait": -1},
        {"redact": "no"},
        {"base_url": "nonsense"},
        {"base_url": "http://api.example"},
        {"spool": ""},
    ],
)
def test_a_refused_configuration_does_not_show_the_key(wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the message, and not among the locals of any frame of ours, wherever the key came from."""
    monkeypatch.setenv("BLUEJAY_API_KEY", CANARY)
    for arguments in ({"api_key": CANARY, **wrong}, wrong):
        with pytest.raises(ConfigurationError) as caught:
            Bluejay(**arguments)
        assert CANARY not in printed(caught.value)


def test_a_client_does_not_pickle_its_key(spool: Path) -> None:
    """Neither the client nor its settings cross to another process."""
    client = Bluejay(CANARY, spool=spool)
    for thing in (client, client.settings):
        with pytest.raises(TypeError) as caught:
            pickle.dumps(thing)
        assert CANARY not in str(caught.value)


def test_after_a_fork_the_books_are_empty(hurried: Bluejay) -> None:
    """What the child's interpreter runs right after a fork."""
    call = hurried.open_call([ID], server="test")
    assert isinstance(call, Call)
    client_module._after_fork()
    assert hurried.stats()["live"] == hurried.stats()["recorded"] == 0
    assert hurried.find(ID) is INERT
    assert call.ended


def test_at_the_end_of_the_process_every_client_is_closed(client: Bluejay, platform: FakePlatform) -> None:
    """What the interpreter runs at its end."""
    call = client.open_call([ID], server="test")
    assert call is not None
    client_module._at_exit()
    assert call.ended
    assert ids(platform) == [ID]


def test_at_the_end_of_the_process_all_clients_share_one_budget(spool: Path) -> None:
    """Ten clients that wait in vain hold up the end of the process no longer than one."""
    budgets: list[float] = []

    class Slow(Sender):
        def close(self, timeout: float) -> bool:
            budgets.append(timeout)
            time.sleep(0.05)
            return True

    def make(settings: Settings, spool: Store | None, counters: Counters) -> Sender:
        return Slow(settings, store=spool, counters=counters)

    clients = [Bluejay._with("test-key", spool=spool, flush_timeout=50.0, seam=Seam(sender=make)) for _ in range(2)]
    client_module._at_exit()
    assert len(budgets) == len(clients)
    assert budgets[1] <= budgets[0] - 0.05


def test_the_default_client_can_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A bare ``@record`` reports through it; it is one object for the whole process."""
    monkeypatch.setenv("BLUEJAY_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("BLUEJAY_API_KEY", "test-key")
    monkeypatch.setattr("bluejay_ws.client._default", None)
    assert Bluejay.default() is Bluejay.default() is client_module.default_client()
    assert Bluejay.default().stats()["recorded"] == 0
    Bluejay.default().close()


EXCHANGE = """
import sys
from bluejay_ws import Bluejay
bluejay = Bluejay("test-key", base_url=sys.argv[1], spool=False)
before = set(sys.modules)
with bluejay.call({"X-Simulation-Result-Id": "7"}):
    pass
print(bluejay.close(), *(set(sys.modules) - before))
"""


def test_a_delivery_imports_nothing_that_a_fork_could_cut_in_two(platform: FakePlatform) -> None:
    """Names are encoded with a module of their own: a child that was forked meanwhile waited for it for ever."""
    command = [sys.executable, "-c", EXCHANGE, platform.url.replace("127.0.0.1", "localhost")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


@pytest.mark.parametrize("linked", [True, False])
def test_the_trace_that_is_current_at_connect_is_linked_if_asked_for(linked: bool, platform: FakePlatform) -> None:
    """Off by default: the platform may count a tool both in the trace and in the report."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    client = Bluejay("test-key", base_url=platform.url, spool=False, link_traces=linked)
    tracer = sdk.TracerProvider().get_tracer("agent")
    with (
        tracer.start_as_current_span("connect") as span,
        client.call({"X-Simulation-Result-Id": "720488"}) as recorder,
    ):
        recorder.add_event("Something")
    (report,) = platform.wait_for(1)
    client.close()
    trace_id = f"{span.get_span_context().trace_id:032x}"
    assert json.loads(report.body).get("trace_ids", []) == ([trace_id] if linked else [])


@pytest.mark.parametrize("sampled", [False, None])
def test_a_trace_that_nobody_exports_is_not_linked_and_that_is_counted(
    sampled: bool | None, platform: FakePlatform
) -> None:
    """A span that was not sampled never reaches the platform; where no span is current (None) there is no trace."""
    sdk, sampling = (
        pytest.importorskip("opentelemetry.sdk.trace"),
        pytest.importorskip("opentelemetry.sdk.trace.sampling"),
    )
    tracer = sdk.TracerProvider(sampler=sampling.ALWAYS_OFF).get_tracer("agent")
    client = Bluejay("test-key", base_url=platform.url, spool=False, link_traces=True)
    with (
        nullcontext() if sampled is None else tracer.start_as_current_span("connect"),
        client.call({"X-Simulation-Result-Id": "720488"}) as recorder,
    ):
        recorder.add_tool_call("freeze_card")
    (report,) = platform.wait_for(1)
    client.close()
    assert "trace_ids" not in json.loads(report.body)
    assert client.stats()["trace.not_linked"] == 1


@pytest.mark.parametrize("broken", [{}, {"get_current_span": lambda: 1 / 0}, {"get_current_span": object}])
def test_a_broken_tracing_set_up_costs_the_link_and_not_the_report(
    broken: dict[str, Any], platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that is half imported, or a provider that fails: the call is recorded, and the fault is counted."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", cast("ModuleType", SimpleNamespace(**broken)))
    client = Bluejay("test-key", base_url=platform.url, spool=False, link_traces=True)
    with client.call({"X-Simulation-Result-Id": "720488"}) as recorder:
        recorder.add_event("Something")
    (report,) = platform.wait_for(1)
    client.close()
    assert "trace_ids" not in json.loads(report.body)
    assert client.stats()["dropped.failed_trace_id"] == 1


LATE = """
import atexit, sys

from bluejay_ws import Bluejay

client = Bluejay("test-key", base_url=sys.argv[1], spool=False, flush_timeout=20.0)


def call(name):
    with client.call({"X-Simulation-Result-Id": name}) as recorder:
        recorder.add_tool_call("freeze_card")


if sys.argv[2] == "closed":
    call("before")
    client.close()
atexit.register(call, "late")
"""


@pytest.mark.parametrize("before", ["closed", "nothing"])
def test_a_call_that_begins_while_the_process_ends_is_delivered(before: str, platform: FakePlatform) -> None:
    """Since Python 3.12 no thread can be started there; without a spool its report would be lost."""
    done = nursery.run([sys.executable, "-c", LATE, platform.url, before])
    assert done.stderr == ""
    assert ids(platform)[-1] == "late"
