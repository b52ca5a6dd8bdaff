"""Answers that anybody may have written: none is taken for more than it says, and nothing of it gets into a log."""

from __future__ import annotations

import contextlib
import email.utils
import json
import re
import socket
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.delivery.http import HttpExchange, retry_after, tls_context
from bluejay_ws.delivery.outcomes import Answer, Phase, Sight, State
from bluejay_ws.wire import journal
from tests.delivery.kit import bodies, decided, settings
from tests.delivery.kit import seen as looked
from tests.wire.journals import JSON

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS, OTHER = "a" * 32, "b" * 32
CANARY = "4242 is my card"
CEILING = 900.0
SENT = {
    tools: journal.assemble([bodies(OURS, "720488", *["freeze_card"] * tools)], simulation_result_id="720488")
    for tools in (0, 1, 2)
}

LEAVES = st.one_of(
    JSON,
    st.sampled_from(["success", "failure", CANARY, "freeze_card", "Connection closed", OURS, OTHER, 5, 5.0, True, 9]),
)
KEYS = st.sampled_from(
    [
        *("status", "detail", "loc", "type", "msg", "input", "simulation_result", "events", "tool_calls", "actual"),
        *("name", "title", "metadata", "bluejay_ws", "report_id", "start_offset_ms", CANARY),
    ]
)
SHAPES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def _group(name: object, offsets: object) -> dict[str, object]:
    actual = [{"start_offset_ms": at} for at in offsets] if isinstance(offsets, list) else offsets
    return {"name": name, "actual": actual}


GROUPS = st.builds(
    _group, st.sampled_from(["freeze_card", "x", 1]), st.lists(st.sampled_from([5, 6, 5.0, True, None, "5"])) | SHAPES
)
EVENTS = st.builds(
    lambda title, at, metadata: {"title": title, "start_offset_ms": at, "metadata": metadata},
    st.sampled_from(["Connection closed", "x", 1, None]),
    st.sampled_from([9, 8, None, 9.0]),
    st.sampled_from([{"bluejay_ws": {"report_id": OURS}}, {"bluejay_ws": {"report_id": OTHER}}]) | SHAPES,
)
RESULTS = st.builds(
    lambda events, groups: {"simulation_result": {"events": events, "tool_calls": groups}},
    st.lists(EVENTS | SHAPES, max_size=3) | SHAPES,
    st.lists(GROUPS | SHAPES, max_size=3) | SHAPES,
)
DETAILS = st.builds(lambda detail: {"detail": detail}, st.lists(SHAPES, max_size=3))
SPECIAL = [
    *(b"", b"\xff\xfe", b"null", b"{", b"[" * 100_000, b'{"status":' * 10_000, b'{"status":"success"', b"9" * 10_000),
    *(b'\xef\xbb\xbf{"status":"success"}', b'{"status":"Success"}', b'{"status":"success"}', b'["success"]'),
    *('{"status":"success"}'.encode("utf-16"), b'{"status":"success","status":"failure"}', b'{"status":NaN}'),
    *(b"<html>status: success</html>", b'"success"', b'{"a":"\\ud800","status":"success"}'),
]
BODIES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(SPECIAL),
    st.builds(lambda value: json.dumps(value).encode(), SHAPES | RESULTS | DETAILS),
)
STATUSES = st.sampled_from([200, 201, 204, 301, 401, 404, 409, 413, 422, 429, 500, 501, 502, 503]) | st.integers(0, 999)
WAITS = st.floats(0.0, CEILING)


def means(body: bytes) -> Any:
    """Return the JSON that a body is; None if it is none."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(body)
    return None


# -- the decision -------------------------------------------------------------------------------------------------


@given(st.builds(Answer, STATUSES, BODIES, st.none() | WAITS, st.booleans(), st.booleans()), st.integers(1, 5))
def test_nothing_but_success_is_taken_for_delivered(answer: Answer, attempts: int) -> None:
    """Delivered is a 2xx that says ``success`` to a whole request; what is uncertain is never sent again unasked."""
    decision = decided(answer, attempts)
    said = means(answer.body)
    success = isinstance(said, dict) and said.get("status") == "success"
    delivered = answer.status in range(200, 300) and success and answer.request_complete
    assert (decision.state is State.DELIVERED) == delivered
    if decision.state is State.WAITING and answer.request_complete:
        assert answer.status in range(300, 500) or answer.status in {501, 505}
    if decision.state is State.PARKED or decision.cut:
        assert answer.status in range(400, 500) or answer.status in {501, 505}


@given(STATUSES, BODIES)
def test_no_words_of_an_answer_get_into_a_log(status: int, body: bytes) -> None:
    """What a decision says of an answer is made of short identifiers: no line can be forged, no caller quoted."""
    decision = decided(Answer(status, body))
    assert re.fullmatch(r"[a-z0-9_.]+", decision.reason)
    assert re.fullmatch(r"[A-Za-z0-9_.,:;?' ]*", decision.detail)
    assert len(decision.detail) < 2_000
    assert CANARY not in decision.detail


# -- the second look ---------------------------------------------------------------------------------------------


@given(STATUSES | st.just(200), BODIES, st.booleans(), st.sampled_from(sorted(SENT)))
def test_a_report_is_found_only_where_it_is(status: int, body: bytes, complete: bool, tools: int) -> None:
    """Found means: the marker stands there, or each tool call, or (where there is none) each event, with its time."""
    sight = looked(Answer(status, body, complete=complete), OURS, SENT[tools])
    if sight is Sight.FOUND:
        assert status == 200
        assert complete
        assert _marker(body) or (_calls(body) >= tools if tools else _closed(body))
    if sight is Sight.ABSENT and status != 404:
        assert isinstance(means(body)["simulation_result"], dict)
        assert not _marker(body)


def _lists(body: bytes, key: str) -> list[Any]:
    found = means(body)["simulation_result"].get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _marker(body: bytes) -> bool:
    wanted = {"report_id": OURS}.items()
    metadata = [event.get("metadata") for event in _lists(body, "events")]
    ours = [one.get("bluejay_ws") for one in metadata if isinstance(one, dict)]
    return any(isinstance(one, dict) and one.get("report_id") == OURS and bool(wanted) for one in ours)


def _calls(body: bytes) -> int:
    actual = [group.get("actual") for group in _lists(body, "tool_calls") if group.get("name") == "freeze_card"]
    calls = [call for one in actual if isinstance(one, list) for call in one if isinstance(call, dict)]
    return sum(type(call.get("start_offset_ms")) is int and call["start_offset_ms"] == 5 for call in calls)


def _closed(body: bytes) -> bool:
    return any(
        event.get("title") == "Connection closed" and event.get("start_offset_ms") == 9
        for event in _lists(body, "events")
    )


# -- Retry-After -------------------------------------------------------------------------------------------------

MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2068, 12, 31)).map(  # noqa: DTZ001 - UTC is put on
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
FORMATS = st.sampled_from(["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"])
GARBAGE = st.one_of(
    st.text(),
    st.text('0123456789+-.:, GMTaJnouSe\t\xa0\u0661\u0967/()"\\'),
    st.from_regex(r"[+-]?[0-9]{1,400}(\.[0-9]*)?"),
    st.builds(lambda moment, form, place, more: (one := moment.strftime(form))[:place] + more + one[place + 1 :],
              MOMENTS, FORMATS, st.integers(0, 30), st.text(max_size=3)),
    st.sampled_from(["10000000000", "1e400", "inf", "nan", "-0", "9" * 5000, "Thu, 31 Dec 9999 23:59:59 GMT", "\0"]),
    st.sampled_from(["(" * 5000, "Mon, 1 Jan 0001 00:00:00 +2359", "Mon, 99 Jan 99999 99:99:99 +99999", '"' * 99]),
)  # fmt: skip


@given(GARBAGE, st.floats(0, 4e9), st.floats(0, 1e6))
def test_any_retry_after_is_a_wait_within_bounds(value: str, now: float, ceiling: float) -> None:
    """Whatever a server writes there: a wait between nothing and the ceiling, or nothing at all."""
    seconds = retry_after(value, email.utils.formatdate(now, usegmt=True), ceiling=ceiling)
    assert seconds is None or 0.0 <= seconds <= ceiling


@given(MOMENTS, FORMATS, st.integers(-(10**6), 10**6))
def test_a_date_in_each_of_the_three_formats_is_understood(moment: datetime, form: str, ahead: int) -> None:
    """The one format of today and the two of old, all of them UTC, say the same moment."""
    now = moment.timestamp() - ahead
    seconds = retry_after(moment.strftime(form), email.utils.formatdate(now, usegmt=True), ceiling=1e7)
    assert seconds == pytest.approx(max(0.0, ahead), abs=1e-3)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["", " ", "\t"]))
def test_seconds_are_believed_up_to_the_ceiling(number: int, blank: str) -> None:
    """Blanks around a number do not count; what is below nothing is nothing."""
    assert retry_after(f"{blank}{number}{blank}", None, ceiling=CEILING) == min(max(number, 0.0), CEILING)


def test_a_date_as_the_standard_library_writes_it_is_understood() -> None:
    """Other servers are written in Python too."""
    later, asked = email.utils.formatdate(1e9 + 60, usegmt=True), email.utils.formatdate(1e9)
    assert retry_after(later, asked, ceiling=CEILING) == 60.0


# -- on the wire -------------------------------------------------------------------------------------------------


class Parrot:
    """A listener that reads each request to its end, and answers with the bytes it was told, whatever they are."""

    def __init__(self) -> None:
        self.says = b""
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=8)
        self.url = f"http://127.0.0.1:{self._sock.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._sock.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        head, _, rest = self._until(connection, b"\r\n\r\n").partition(b"\r\n\r\n")
        found = re.search(rb"(?i)content-length: (\d+)", head)
        wanted = int(found[1]) if found else 0
        while len(rest) < wanted and (chunk := connection.recv(65536)):
            rest += chunk
        connection.sendall(self.says)
        connection.shutdown(socket.SHUT_WR)

    @staticmethod
    def _until(connection: socket.socket, end: bytes) -> bytes:
        data = b""
        while end not in data and (chunk := connection.recv(65536)):
            data += chunk
        return data

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._thread.join()


@pytest.fixture(scope="module")
def parrot() -> Iterator[Parrot]:
    """Give a listener that answers with any bytes."""
    parrot = Parrot()
    yield parrot
    parrot.close()


@contextlib.contextmanager
def exchange_with(parrot: Parrot) -> Iterator[HttpExchange]:
    """Give an exchange without an earlier connection, which the parrot would have closed: that is another story."""
    chosen = settings(parrot.url, timeout=20.0)
    exchange = HttpExchange(chosen, tls_context(chosen))
    try:
        yield exchange
    finally:
        exchange.close()


LINES = st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 200", b"HTTP/1.1 100 Continue", b"HTTP/2 200", b"ICY 200 OK"])
STATUS_LINES = LINES | st.builds(lambda status: b"HTTP/1.1 %d x" % status, STATUSES) | st.binary(max_size=20)
HEADERS = st.sampled_from(
    [
        *(b"Content-Length: 20", b"Content-Length: 21", b"Content-Length: 0", b"Content-Length: -1", b"Connection: x"),
        *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Content-Encoding: gzip", b"Location: http://x/"),
        *(
            b"Retry-After: \xff",
            b"Retry-After: 1\r\nRetry-After: 2",
            b": x",
            b"x",
            b" folded",
            b"Set-Cookie: \0\x1b[2J",
        ),
        *(b"Content-Length: 20, 20", b"Content-Length: 9999999999999999999999", b"Upgrade: websocket"),
    ]
)
SUCCESS = b'{"status":"success"}'
CHUNKS = [b"14\r\n" + SUCCESS + b"\r\n0\r\n\r\n", b"14\r\n" + SUCCESS, b"ffffffffffff\r\n" + SUCCESS, b"0\r\n\r\n"]
ON_THE_WIRE = st.builds(
    lambda line, headers, end, body: line + b"\r\n" + b"".join(one + b"\r\n" for one in headers) + end + body,
    STATUS_LINES,
    st.lists(HEADERS, max_size=3),
    st.sampled_from([b"\r\n", b"\n", b""]),
    BODIES | st.just(SUCCESS) | st.sampled_from(CHUNKS),
)


@given(st.lists(ON_THE_WIRE | st.binary(max_size=40), max_size=2).map(b"".join))
def test_any_bytes_are_an_answer_or_none(parrot: Parrot, says: bytes) -> None:
    """Of a whole request: delivered only if the platform says so, sent again only if it says that it refused."""
    parrot.says = says
    with exchange_with(parrot) as exchange:
        outcome = exchange.post(SENT[1])
    with exchange_with(parrot) as exchange:
        seen = exchange.look("720488")
    decision = decided(outcome)
    if not isinstance(outcome, Answer):
        assert outcome.phase is Phase.UNKNOWN
        assert decision.state is State.UNKNOWN
        assert re.fullmatch(r"[a-z_]+", outcome.reason)
    elif decision.state is State.DELIVERED:
        assert re.search(rb"HTTP/\d\.\d 2\d\d", says)
        assert b'"success"' in says or '"success"'.encode("utf-16")[2:] in says
    elif decision.state is State.WAITING:
        assert re.search(rb"HTTP/\d\.\d ([34]\d\d|501|505)", says)
    assert looked(seen, "c" * 32, SENT[1]) is not Sight.FOUND or b"freeze_card" in says
