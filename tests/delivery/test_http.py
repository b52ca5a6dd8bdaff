"""HTTP against a platform that misbehaves: what each failure is taken for, on real sockets."""

from __future__ import annotations

import contextlib
import gc
import gzip
import os
import random
import socket
import sys
import threading
import time
import types
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from bluejay_ws.delivery import http
from bluejay_ws.delivery.http import Connection, HttpExchange, tls_context
from bluejay_ws.delivery.outcomes import Answer, Failure, Phase, Platform, State
from bluejay_ws.delivery.sender import Sender
from bluejay_ws.settings import Secret
from bluejay_ws.stats import Counters
from bluejay_ws.testing.platform import Answer as Says
from bluejay_ws.testing.platform import Close, FakePlatform, Hang, Raw, Refuse
from bluejay_ws.wire import journal
from tests.delivery.kit import bodies, decided, new_id, settings
from tests.proxy import Cut, Proxy, Stall
from tests.support import eventually

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from http.client import HTTPResponse

    from bluejay_ws.testing.platform import Step
    from tests.proxy import Passage

REFUSES = Failure(Phase.CONFIGURATION, "proxy_refuses", "check HTTPS_PROXY")
NO_WAY = "check BLUEJAY_API_URL, the network, and the proxy of the environment"
CHECK = "point SSL_CERT_FILE to the certificate of the authority that issued it"


def report(identity: str = "720488", *tools: str) -> bytes:
    """Return a body to post."""
    report_id = new_id()
    return journal.assemble([bodies(report_id, identity, *tools)], simulation_result_id=identity)


def exchange(url: str, fault: object = None) -> HttpExchange:
    """Return an exchange that gives up soon on what never comes, and else waits for any machine."""
    chosen = settings(url, timeout=2.0 if isinstance(fault, (Hang, Stall)) else 30.0)
    return HttpExchange(chosen, tls_context(chosen))


def answer_to(platform: FakePlatform, step: Step) -> Answer:
    """Return what becomes of a report whose answer is planned."""
    platform.plan(step)
    client = exchange(platform.url)
    outcome = client.post(report())
    client.close()
    assert isinstance(outcome, Answer)
    return outcome


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return a certificate authority that nobody trusts."""
    return trustme.CA()


@pytest.fixture
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    """Return the server's side of TLS."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> Iterator[None]:
    """Let the authority be trusted, the way a user does it."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    os.environ["SSL_CERT_FILE"] = str(path)
    yield
    del os.environ["SSL_CERT_FILE"]


def test_a_report_arrives_as_it_is(platform: FakePlatform) -> None:
    """Byte for byte, with the key, as JSON, and with a name to find us by."""
    body = report("720488", "freeze_card")
    client = exchange(platform.url)
    assert decided(client.post(body)).state is State.DELIVERED
    client.close()
    assert platform.accepted[0].body == body
    request = platform.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/update-simulation-result")
    assert request.header("X-API-Key") == "test-key"
    assert request.header("Content-Type") == "application/json"
    assert (request.header("User-Agent") or "").startswith("bluejay_ws/")


def test_each_exchange_is_judged_on_its_own(platform: FakePlatform) -> None:
    """That the last report was sent whole says nothing about this one, which met nobody."""
    client = exchange(platform.url)
    assert decided(client.post(report())).state is State.DELIVERED
    platform.refuse()
    client.post(report("720489"))  # it may meet the connection that ends at this moment
    outcome = client.post(report("720490"))
    client.close()
    assert isinstance(outcome, Failure)
    assert decided(outcome).state is State.WAITING


def test_a_result_is_read_back(platform: FakePlatform) -> None:
    """The id is one step of the path, whatever is in it."""
    client = exchange(platform.url)
    answer = client.look("720/488?x")
    assert isinstance(answer, Answer)
    assert platform.requests[0].path == "/v1/retrieve-simulation-result/720%2F488%3Fx"
    client.close()


def test_without_a_key_none_is_sent(platform: FakePlatform) -> None:
    """No header is better than an empty one."""
    import dataclasses

    chosen = dataclasses.replace(settings(platform.url), api_key=None)
    client = HttpExchange(chosen, tls_context(chosen))
    assert decided(client.post(report())).reason == "http.401"
    assert platform.requests[0].header("X-API-Key") is None
    client.close()


LOST = (Phase.UNKNOWN, State.UNKNOWN)
RETRY = (Phase.BODY_INCOMPLETE, State.WAITING)


@pytest.mark.parametrize(
    ("step", "phases", "state"),
    [
        (Refuse(60.0), {Phase.NOT_SENT}, State.WAITING),
        (Close(at="connect"), {Phase.NOT_SENT, Phase.BODY_INCOMPLETE, Phase.UNKNOWN}, None),
        (Close(at="answer"), {Phase.UNKNOWN}, State.UNKNOWN),
        (Close(at="answer", reset=False), {Phase.UNKNOWN}, State.UNKNOWN),
        (Close(at="answer", accept=True), {Phase.UNKNOWN}, State.UNKNOWN),
        (Close(at="status_line"), {Phase.UNKNOWN}, State.UNKNOWN),
        (Hang(at="answer"), {Phase.UNKNOWN}, State.UNKNOWN),
        (Hang(at="connect"), {Phase.UNKNOWN}, State.UNKNOWN),
        (Raw(b"HTTP/1.1 2"), {Phase.UNKNOWN}, State.UNKNOWN),
        (Raw(b"\x00\xff garbage\r\n\r\n"), {Phase.UNKNOWN}, State.UNKNOWN),
    ],
)
def test_without_an_answer_it_counts_how_far_the_report_came(
    platform: FakePlatform, step: Step, phases: set[Phase], state: State | None
) -> None:
    """What the platform may have read as a whole is asked about; the rest goes out again."""
    platform.plan(step)
    client = exchange(platform.url, step)
    outcome = client.post(report())
    client.close()
    assert isinstance(outcome, Failure)
    assert outcome.phase in phases
    assert state is None or decided(outcome).state is state


@pytest.mark.parametrize("passage", [Stall(up=5000), Cut(up=5000), Cut(up=5000, reset=False)])
def test_a_report_that_the_network_stopped_half_way_was_not_processed(platform: FakePlatform, passage: Passage) -> None:
    """The rest of it is still here: it cannot have been taken in."""
    with Proxy.before(platform.url) as proxy:
        proxy.plan(passage)
        client = exchange(proxy.url, Stall())
        outcome = client.post(report() + b" " * 15_000_000)
        client.close()
    assert isinstance(outcome, Failure)
    assert outcome.phase is Phase.BODY_INCOMPLETE


@pytest.mark.parametrize("step", [Close(at="body"), Close(at="headers")])
def test_a_report_that_was_not_sent_whole_was_not_processed(platform: FakePlatform, step: Step) -> None:
    """A long body meets a connection that ends or stops: there is nothing to ask about."""
    platform.plan(step)
    client = exchange(platform.url)
    outcome = client.post(report("1", "x" * 1000) + b" " * 15_000_000)
    client.close()
    assert isinstance(outcome, Failure)
    assert outcome.phase is Phase.BODY_INCOMPLETE
    assert decided(outcome).state is State.WAITING


@pytest.mark.parametrize(
    ("step", "status", "complete"),
    [
        (Close(at="answer_body"), 200, False),
        (Says(body=b"<html>sign in</html>"), 200, True),
        (Says(status=204, body=b""), 204, True),
        (Says(status=307, headers={"Location": "http://127.0.0.1:1/elsewhere"}), 307, True),
        (Says(status=503, headers={"Retry-After": "7"}), 503, True),
        (Says(status=422), 422, True),
        (Says(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b"x" * 1000)), 200, True),
        (Says(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b"x" * 10**6)), 200, False),
        (Says(body=b"x" * 200_000), 200, False),
    ],
)
def test_an_answer_is_read_as_far_as_it_goes(platform: FakePlatform, step: Step, status: int, complete: bool) -> None:
    """The status counts even if the body breaks off, lies, is packed or does not end."""
    outcome = answer_to(platform, step)
    assert (outcome.status, outcome.complete) == (status, complete)
    assert len(outcome.body) <= http.ANSWER_LIMIT
    assert decided(outcome).state is not State.DELIVERED
    assert len(platform.requests) == 1  # no redirect was followed


SUCCESS = b'{"status": "success", "message": null}'


def raw_deflate(data: bytes) -> bytes:
    """Pack without the header that the standard asks for, as some servers do."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("GZIP", gzip.compress(SUCCESS)),
        ("x-gzip", gzip.compress(SUCCESS[:9]) + gzip.compress(SUCCESS[9:])),
        ("gzip", gzip.compress(SUCCESS) + b"\0\0"),
        ("gzip", SUCCESS),  # unpacked by a proxy that left the header
        ("br", SUCCESS),
        ("deflate", zlib.compress(SUCCESS)),
        ("deflate", raw_deflate(SUCCESS)),
        ("identity, deflate, gzip", gzip.compress(zlib.compress(SUCCESS))),
    ],
    # gzip writes down when it packed: each process would make other names, and none of them could share the tests
    ids=["upper", "two members", "padded", "not packed", "not br", "deflate", "raw deflate", "several"],
)
def test_an_answer_is_understood_however_it_is_packed(platform: FakePlatform, encoding: str, body: bytes) -> None:
    """A proxy that packs what nobody asked it to pack must not leave a delivered report unsettled for ever."""
    outcome = answer_to(platform, Says(headers={"Content-Encoding": encoding}, body=body))
    assert (outcome.body, outcome.complete) == (SUCCESS, True)
    assert decided(outcome).state is State.DELIVERED


class Brotli:
    """Stand in for the brotli library, which Python does not bring: unpacks bit by bit, and knows no limit."""

    def __init__(self) -> None:
        self._inside = zlib.decompressobj()

    def process(self, data: bytes) -> bytes:
        return self._inside.decompress(data)

    def is_finished(self) -> bool:
        return self._inside.eof


@pytest.mark.parametrize(
    ("content", "complete"), [(SUCCESS, True), (random.Random(1).randbytes(100) * 6_000, False)], ids=["short", "long"]
)
def test_brotli_is_understood_where_the_agent_has_it(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch, content: bytes, complete: bool
) -> None:
    """And what it unpacks has a bound as well."""
    monkeypatch.setitem(sys.modules, "brotli", types.SimpleNamespace(Decompressor=Brotli))
    outcome = answer_to(platform, Says(headers={"Content-Encoding": "br"}, body=zlib.compress(content)))
    assert (outcome.body, outcome.complete) == (content[: http.ANSWER_LIMIT], complete)


def test_what_nothing_can_unpack_is_no_answer_to_rely_on(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome of the report stays unknown; a result is not taken for an empty one."""
    for module in ("brotli", "brotlicffi"):
        monkeypatch.setitem(sys.modules, module, None)
    packed = Says(headers={"Content-Encoding": "br"}, body=b"\x0b\x11\x80")
    platform.plan(packed)
    platform.plan_reads(packed)
    client = exchange(platform.url)
    posted, looked = client.post(report()), client.look("720488")
    client.close()
    assert decided(posted).state is State.UNKNOWN
    assert isinstance(looked, Answer)
    assert not looked.complete


def test_what_comes_behind_an_answer_is_not_the_answer_to_the_next_report(platform: FakePlatform) -> None:
    """Both in one packet, on a connection that stays open: the second report would be taken for delivered."""
    body = b'{"status": "success"}'
    again = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    platform.plan(Says(body=body + again, headers={"Content-Length": str(len(body))}, accept=True), Says(status=503))
    client = exchange(platform.url)
    decisions = [decided(client.post(report(identity))) for identity in ("1", "2", "3")]
    client.close()
    assert [decision.state for decision in decisions] == [State.DELIVERED, State.UNKNOWN, State.DELIVERED]
    assert [accepted.simulation_result_id for accepted in platform.accepted] == ["1", "3"]


SAYS_SUCCESS = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(SUCCESS), SUCCESS)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + SAYS_SUCCESS,
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + SAYS_SUCCESS,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x;name=x\r\n%b\r\n0\r\nX-Trailer: y\r\n\r\n"
        % (len(SUCCESS), SUCCESS),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked \r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(SUCCESS), SUCCESS),
        b"HTTP/1.1 200 OK\r\nContent-Length: %d, %d\r\n\r\n%b" % (len(SUCCESS), len(SUCCESS), SUCCESS + b"x"),
        b"HTTP/1.0 200 OK\r\n\r\n" + SUCCESS,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + SUCCESS,
        SAYS_SUCCESS,
    ],
    ids=["continue", "hints", "chunked", "chunked and a blank", "two lengths", "old", "until the end", "plain"],
)
def test_an_answer_is_understood_in_every_form_that_http_has(platform: FakePlatform, answer: bytes) -> None:
    """What only announces it is passed over."""
    outcome = answer_to(platform, Raw(answer))
    assert (outcome.status, outcome.body, outcome.complete) == (200, SUCCESS, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(SUCCESS), SUCCESS),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + SUCCESS,
    ],
)
def test_an_answer_that_breaks_off_is_incomplete_in_every_form(platform: FakePlatform, answer: bytes) -> None:
    """What it held by then may be a part of something else."""
    outcome = answer_to(platform, Raw(answer))
    assert (outcome.status, outcome.complete) == (200, False)


@pytest.mark.parametrize("first", [Raw(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), Says(status=204, body=b"")])
def test_after_an_odd_answer_the_next_report_is_judged_by_its_own(platform: FakePlatform, first: Step) -> None:
    """Neither says that the first was delivered."""
    platform.plan(first)
    client = exchange(platform.url)
    states = [decided(client.post(report(identity))).state for identity in ("1", "2")]
    client.close()
    assert states == [State.UNKNOWN, State.DELIVERED]


def test_an_answer_that_comes_before_the_report_is_read_counts() -> None:
    """A gateway refuses what is too long, and reads no more of it: the report was not taken in."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = exchange(f"http://127.0.0.1:{listener.getsockname()[1]}", Hang())
        asked = threading.Event()

        def refuse() -> None:
            with listener.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
                asked.wait(60)

        server = threading.Thread(target=refuse)
        server.start()
        outcome = client.post(report() + b" " * 15_000_000)
        client.close()
        asked.set()
        server.join()
    assert isinstance(outcome, Answer)
    assert (outcome.status, outcome.request_complete) == (413, False)


def test_a_connection_that_the_platform_has_closed_meanwhile_is_not_used_again(platform: FakePlatform) -> None:
    """A report that is sent on it would have an unknown outcome."""
    platform.plan(Says(headers={"Content-Length": str(len(SUCCESS))}, body=SUCCESS, accept=True))
    client = exchange(platform.url)
    assert decided(client.post(report("1"))).state is State.DELIVERED
    connection = client._connection
    assert connection is not None
    connection.cut_off()
    assert decided(client.post(report("2"))).state is State.DELIVERED
    assert client._connection is not connection
    client.close()
    assert platform.connections == 2


def test_a_connection_is_not_used_again_after_a_while(platform: FakePlatform) -> None:
    """The platform may be about to end it."""
    now = [0.0]
    chosen = settings(platform.url)
    client = HttpExchange(chosen, tls_context(chosen), clock=lambda: now[0])
    for wait in (0.0, http.KEEPALIVE / 2, http.KEEPALIVE):
        now[0] += wait
        assert decided(client.post(report(str(wait)))).state is State.DELIVERED
    client.close()
    assert platform.connections == 2


def test_a_header_that_a_proxy_repeats_counts_once(platform: FakePlatform) -> None:
    """Joined by a comma, two numbers are none, and two dates are none."""
    outcome = answer_to(
        platform, Raw(b"HTTP/1.1 429 x\r\nRetry-After: 7\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
    )
    assert outcome.retry_after == 7.0


def test_retry_after_comes_with_the_answer(platform: FakePlatform) -> None:
    """In seconds, as long as is believed at the most."""
    outcome = answer_to(platform, Says(status=429, headers={"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}))
    assert outcome.retry_after == 900.0


def test_a_long_result_is_read_whole(platform: FakePlatform) -> None:
    """The platform's own transcript and scores come before what is looked for."""
    platform.plan_reads(Says(body=b"x" * 500_000))
    client = exchange(platform.url)
    outcome = client.look("720488")
    client.close()
    assert isinstance(outcome, Answer)
    assert (len(outcome.body), outcome.complete) == (500_000, True)


@pytest.mark.parametrize("passage", [Cut(down=0), Stall(down=0), Cut(down=20)])
def test_an_answer_that_the_network_swallowed_is_an_unknown_outcome(platform: FakePlatform, passage: Passage) -> None:
    """The platform took the report in; only a look can tell."""
    with Proxy.before(platform.url) as proxy:
        proxy.plan(passage)
        client = exchange(proxy.url, passage)
        outcome = client.post(report())
        client.close()
    assert isinstance(outcome, Failure)
    assert outcome.phase is Phase.UNKNOWN
    platform.wait_for(1)


def test_an_answer_that_drips_is_ended(platform: FakePlatform) -> None:
    """Each byte comes in time, the answer never: no other thread is needed to end it, for there may be none."""
    platform.plan(Says(drip=0.02))
    chosen = settings(platform.url, timeout=0.1)
    client = HttpExchange(chosen, tls_context(chosen))
    outcome = client.post(report())
    client.close()
    assert isinstance(outcome, Failure)
    assert outcome.phase is Phase.UNKNOWN


def test_a_body_that_drips_is_ended_and_its_status_counts(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came in time is kept, as incomplete."""
    platform.plan_reads(Says(body=b"x" * 1_000_000))
    now = [0.0]
    chosen = settings(platform.url, timeout=5.0)
    client = HttpExchange(chosen, tls_context(chosen), clock=lambda: now[0])
    read = http._read

    def late(response: HTTPResponse, limit: int) -> tuple[bytes, bool]:
        now[0] = http.STEPS * 5.0 + 1.0
        return read(response, limit)

    monkeypatch.setattr(http, "_read", late)
    outcome = client.look("720488")
    client.close()
    assert isinstance(outcome, Answer)
    assert (outcome.status, outcome.complete) == (200, False)
    assert len(outcome.body) < 1_000_000


def test_ending_nothing_is_harmless(platform: FakePlatform) -> None:
    """Between two exchanges, before the first, and when the connection is gone already."""
    client = exchange(platform.url)
    client.abort_if_late(time.monotonic() + 1e9)
    client.post(report())
    client.abort_if_late(time.monotonic() + 1e9)
    client.close()
    client.abort_if_late(time.monotonic() + 1e9)
    client.close()


def test_a_name_that_does_not_resolve_was_not_sent() -> None:
    """DNS is the most usual outage of all."""
    import dataclasses

    chosen = dataclasses.replace(settings(), base_url="http://name.invalid")
    client = HttpExchange(chosen, tls_context(chosen))
    outcome = client.post(report())
    assert isinstance(outcome, Failure)
    assert (outcome.phase, outcome.reason) == (Phase.NOT_SENT, "dns")
    assert "cannot be resolved" in outcome.detail
    client.close()


def test_a_connect_that_times_out_was_not_sent() -> None:
    """The listener's queue is full: the handshake never ends."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fill = [socket.socket() for _ in range(3)]
        for one in fill:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        client = exchange(f"http://127.0.0.1:{listener.getsockname()[1]}", Hang())
        assert client.post(report()) == Failure(Phase.NOT_SENT, "connect_timeout", NO_WAY)
        client.close()
        for one in fill:
            one.close()


def test_an_address_that_swallows_everything_leaves_the_next_one_its_turn(platform: FakePlatform) -> None:
    """A host has several, such as those of IPv6 in a network without it; one that this machine cannot have is none."""
    good = (socket.AF_INET, ("127.0.0.1", int(platform.url.rpartition(":")[2])))
    with socket.socket() as listener, contextlib.ExitStack() as fill:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            one = fill.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        silent = (socket.AF_INET, listener.getsockname())
        with http.first_to_answer([(9999, None), silent, silent, good], 1.0) as sock:
            assert sock.getpeername() == good[1]
            assert sock.gettimeout() == 1.0
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            http.first_to_answer([silent] * 50, 0.4)
        assert time.monotonic() - began < 15.0  # fifty times as long is more
    with pytest.raises(OSError, match="no address"):
        http.first_to_answer([], 1.0)


def test_a_key_that_no_header_can_hold_is_a_matter_of_configuration(platform: FakePlatform) -> None:
    """Trying again would not change it."""
    import dataclasses

    chosen = dataclasses.replace(settings(platform.url), api_key=Secret("ключ"))
    client = HttpExchange(chosen, tls_context(chosen))
    outcome = client.post(report())
    client.close()
    assert isinstance(outcome, Failure)
    assert decided(outcome).platform is Platform.MISCONFIGURED


# -- TLS --------------------------------------------------------------------------------------------------------


def test_a_trusted_certificate_is_trusted(server_context: ssl.SSLContext, trusted: None) -> None:
    """Who has an authority of their own says so in SSL_CERT_FILE, as everywhere."""
    with FakePlatform(ssl_context=server_context) as platform:
        client = exchange(platform.url)
        assert decided(client.post(report())).state is State.DELIVERED
        assert decided(client.post(report())).state is State.DELIVERED
        client.close()
        assert platform.connections == 1


def test_a_certificate_that_is_not_trusted_is_a_matter_of_configuration(server_context: ssl.SSLContext) -> None:
    """The key is not sent to somebody who cannot prove who they are."""
    with FakePlatform(ssl_context=server_context) as platform:
        client = exchange(platform.url)
        assert client.post(report()) == Failure(Phase.CERTIFICATE, "certificate_not_trusted", CHECK)
        client.close()
        assert platform.requests == []


def test_a_certificate_file_that_is_mended_is_read_again(
    authority: trustme.CA, server_context: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mounted one changes under a process that runs: neither this client nor another needs a new start."""
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with FakePlatform(ssl_context=server_context) as platform:
        chosen = settings(platform.url)
        context = tls_context(chosen)
        one, other = HttpExchange(chosen, context), HttpExchange(chosen, context)
        assert one.post(report()) == Failure(Phase.CERTIFICATE, "certificate_not_trusted", CHECK)
        authority.cert_pem.write_to_path(str(file))
        one.post(report())  # it is read after a failure
        assert [decided(client.post(report())).state for client in (one, other)] == [State.DELIVERED] * 2
        one.close()
        other.close()


# Python 3.11 leaves a TLS socket that was reset before its handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.parametrize("step", [Close(at="tls"), Close(at="connect"), Hang(at="tls"), Close(at="tls", reset=False)])
def test_tls_that_breaks_off_was_not_sent(server_context: ssl.SSLContext, trusted: None, step: Step) -> None:
    """Nothing of the report travels before the handshake is complete."""
    with FakePlatform(ssl_context=server_context) as platform:
        platform.plan(step)
        client = exchange(platform.url, step)
        outcome = client.post(report())
        client.close()
    gc.collect()  # of such a socket, while nobody minds
    assert isinstance(outcome, Failure)
    assert outcome.phase is Phase.NOT_SENT


def test_tls_that_drips_is_ended(server_context: ssl.SSLContext, trusted: None) -> None:
    """The socket under TLS can be shut down by another thread as well."""
    with FakePlatform(ssl_context=server_context) as platform:
        platform.plan(Hang(at="answer"))
        client = exchange(platform.url)

        def end() -> None:
            eventually(lambda: platform.requests)
            client.abort_if_late(time.monotonic() + 1_000.0)

        ending = threading.Thread(target=end)
        ending.start()
        outcome = client.post(report())
        client.close()
        ending.join()
    assert isinstance(outcome, Failure)
    assert outcome.phase is Phase.UNKNOWN


# -- proxies ----------------------------------------------------------------------------------------------------


class TunnelProxy:
    """A proxy that answers CONNECT in one way, then closes; or carries what follows to a port, until both end."""

    def __init__(self, answer: bytes, *, to: int = 0) -> None:
        self._to = to
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(5.0)
        self._answer = answer
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.asked = b""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        self.asked = connection.recv(65536)
        connection.sendall(self._answer)
        if self._to:
            with socket.create_connection(("127.0.0.1", self._to)) as other:
                back = threading.Thread(target=self._carry, args=(other, connection))
                back.start()
                self._carry(connection, other)
                back.join()
        connection.close()

    @staticmethod
    def _carry(one: socket.socket, other: socket.socket) -> None:
        while data := one.recv(65536):
            other.sendall(data)
        with contextlib.suppress(OSError):  # it has ended on both sides
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._thread.join()
        self._socket.close()


def test_a_proxy_of_the_environment_does_not_see_plain_http(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is for this machine, and a proxy elsewhere would be handed the key in clear."""
    with FakePlatform() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        client = exchange(platform.url)
        try:
            assert isinstance(client.post(report()), Answer)
        finally:
            client.close()
        assert not proxy.accepted
    assert len(platform.accepted) == 1


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            REFUSES,
        ),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Failure(Phase.NOT_SENT, "proxy_error")),
        (b"", Failure(Phase.NOT_SENT, "remote_protocol_error")),
        (b"HTTP/1.1 200 OK\r\n\r\n", Failure(Phase.NOT_SENT, "connect_error", NO_WAY)),
    ],
)
def test_a_proxy_of_the_environment_is_used_and_its_failures_are_not_the_reports(
    trusted: None, answer: bytes, failure: Failure
) -> None:
    """A tunnel that was asked for in full is still no report that was sent."""
    import dataclasses

    proxy = TunnelProxy(answer)
    before = os.environ.pop("no_proxy", "")
    os.environ["HTTPS_PROXY"] = proxy.url
    try:
        chosen = dataclasses.replace(settings(timeout=3.0), base_url="https://platform.invalid")
        client = HttpExchange(chosen, tls_context(chosen))
        assert client.post(report()) == failure
        client.close()
    finally:
        del os.environ["HTTPS_PROXY"]
        os.environ["no_proxy"] = before
        proxy.close()
    assert proxy.asked.startswith(b"CONNECT platform.invalid:443")
    assert b"test-key" not in proxy.asked


def test_a_report_leaves_in_one_packet(platform: FakePlatform) -> None:
    """Headers and body apart would be a wake-up more on both sides. This kind of socket keeps packets apart."""
    client = exchange(platform.url)
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client._connection, client._used_at = Connection(one, client._left), time.monotonic()
    body = report()
    answer = threading.Thread(target=client.post, args=(body,))
    answer.start()
    packet = other.recv(65536)
    other.sendall(SAYS_SUCCESS)
    answer.join()
    client.close()
    other.close()
    assert packet.startswith(b"POST /v1/update-simulation-result HTTP/1.1\r\n")
    assert packet.endswith(b"\r\n\r\n" + body)


def test_a_wait_that_is_interrupted_leaves_no_connection_behind(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the answer is on its way: the next exchange would take it for its own."""
    client = exchange(platform.url)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(http, "_read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.look("1")
    assert isinstance(client.look("2"), Answer)
    client.close()
    assert platform.connections == 2


def test_a_host_of_any_script_is_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy is asked for the name as the network writes it."""
    import dataclasses

    proxy = TunnelProxy(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    chosen = dataclasses.replace(settings(), base_url="https://bücher.invalid")
    client = HttpExchange(chosen, tls_context(chosen))
    assert client.post(report()) == Failure(Phase.NOT_SENT, "proxy_error")
    client.close()
    proxy.close()
    assert proxy.asked.startswith(b"CONNECT xn--bcher-kva.invalid:443 HTTP/1.1")


def test_a_report_goes_through_the_tunnel_that_a_proxy_makes(
    server_context: ssl.SSLContext, trusted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who the proxy asks for a name and a password gets them; the platform sees a report as always."""
    with FakePlatform(ssl_context=server_context) as platform:
        answer = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n"
        proxy = TunnelProxy(answer, to=int(platform.url.rpartition(":")[2]))
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//ada:s%40cret@"))
        client = exchange(platform.url)
        assert decided(client.post(report())).state is State.DELIVERED
        client.close()
        proxy.close()
    assert f"CONNECT {platform.url.removeprefix('https://')} HTTP/1.1".encode() in proxy.asked
    assert b"Proxy-Authorization: Basic YWRhOnNAY3JldA==\r\n" in proxy.asked
    assert b"test-key" not in proxy.asked
    request = platform.requests[0]
    assert request.header("Proxy-Authorization") is None


@pytest.mark.parametrize(
    "value", ["socks5://ada:secret@proxy:1", "https://proxy:1", "http://", "://", "http://proxy:x"]
)
def test_a_proxy_that_cannot_be_used_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its variable; never by its value, which may hold a password."""
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(http.UnusableVariableError, match=r"^HTTPS_PROXY cannot be used") as caught:
        HttpExchange(settings("https://api.example.org"), tls_context(settings()))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "proxy:3128", "ALL_PROXY": "http://other"}, "http://proxy:3128"),
        ({"ALL_PROXY": "socks5://proxy"}, "socks5://proxy"),
        ({"HTTP_PROXY": "://"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "localhost, .example.org"}, None),
        ({"HTTPS_PROXY": "http://proxy", "no_proxy": "example.org,[::1],fd00:12:34::/64,http://[::1"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "xample.org,[::1],fd00::/8,10.0.0.0/8"}, "http://proxy"),
    ],
)
def test_the_proxy_is_the_one_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: str | None
) -> None:
    """Whatever else stands in NO_PROXY, as clusters write it, keeps no report from being sent."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert http.named_proxy("https://api.example.org") == proxy
    assert http.named_proxy("http://127.0.0.1:80") is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("localhost, .example.org,10.0.0.1,::1,*", 0),
        ("localhost,fd00:12:34::/64", 1),
        ("[::1]", 1),
        ("http://proxy", 1),
    ],
)
def test_what_does_nothing_in_no_proxy_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str, said: int
) -> None:
    """The variable is named with the first client that is made; never its value."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", value)
    sender = Sender(settings("http://127.0.0.1:1"), store=None, counters=Counters())
    for _ in range(2):
        sender._http_client().close()
    sender.close(1.0)
    assert [line.partition(" of ")[0] for line in caplog.messages] == ["NO_PROXY"] * said
    assert "fd00" not in caplog.text


@pytest.mark.parametrize("lost", [False, True])
def test_a_machine_without_certificates_has_those_of_certifi(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    """Small images and Python's own build for macOS bring none; a frozen program may have lost certifi's file."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ssl.SSLContext.load_default_certs", lambda *_: None)
    if lost:
        monkeypatch.setattr("certifi.where", lambda: "/none")
    context = tls_context(settings("https://127.0.0.1:1"))
    assert (context.cert_store_stats()["x509_ca"] > 100) is not lost
    assert context.check_hostname


def test_directories_of_certificates_that_are_not_there_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OpenSSL would trust nobody, and say nothing; it takes several, of which one is enough."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path / 'missing'}:{tmp_path}")
    assert tls_context(settings("https://127.0.0.1:1")).check_hostname
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "missing"))
    with pytest.raises(http.UnusableVariableError, match=r"^SSL_CERT_DIR cannot be used"):
        tls_context(settings("https://127.0.0.1:1"))


def test_a_directory_that_may_not_be_entered_keeps_no_client_from_being_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that dropped its rights often stands in such a directory: without SSL_CERT_FILE nobody looks there."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    look = Path.stat

    def stat(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if not self.is_absolute():
            raise PermissionError(self)
        return look(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat)
    assert tls_context(settings("https://127.0.0.1:1")).check_hostname
