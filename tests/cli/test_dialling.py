"""`bluejay_ws.cli.dialling`: kind words for every way in which an agent cannot be called."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
import trustme

from bluejay_ws.cli.dialling import BAD_USAGE, REFUSED, UNREACHABLE, check_url, dial
from bluejay_ws.cli.terminal import Problem
from bluejay_ws.testing.caller import DigitalHuman
from tests.cli.serving import agent_thread
from tests.testing.agents import silent_agent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

    from bluejay_ws.testing.caller import CallLog


def call(url: str, open_timeout: float = 30.0) -> CallLog:
    """Dial, say nothing, hang up."""
    return asyncio.run(DigitalHuman(url, pace=0, open_timeout=open_timeout).call([]))


def problem_of(url: str, open_timeout: float = 30.0) -> Problem:
    """Return what is said when an agent cannot be called."""
    with pytest.raises(Problem) as caught:
        dial(lambda: call(url, open_timeout), url)
    return caught.value


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """Listen, answer what is read with these bytes, close; without bytes hang until the end. Gives host and port."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                peer, _ = listener.accept()
                with peer:
                    peer.recv(65_536)
                    for answer in answers:
                        peer.sendall(answer)
                    if not answers:
                        over.wait(60)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        thread.join()


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """Hold a port on which nobody listens."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unheard.getsockname()[1]}"


@pytest.mark.parametrize("url", ["localhost:8765", "http://localhost", "ws://", "ws://[::", "ws://a:b", "ws://a:0", ""])
def test_what_is_no_url_is_said_with_an_example(url: str) -> None:
    """Other schemes, missing hosts and broken ports never reach the network."""
    with pytest.raises(Problem, match="is not a websocket URL") as caught:
        check_url(url)
    assert caught.value.exit_code == BAD_USAGE
    assert "ws://localhost:8765" in caught.value.remedy


def test_what_the_library_takes_for_no_url_is_said_alike() -> None:
    """A URL that only the websocket library can tell to be wrong gives the same words."""
    assert check_url("ws://agent@localhost") == "ws://agent@localhost"
    assert problem_of("ws://agent@localhost").exit_code == BAD_USAGE


def test_nobody_there() -> None:
    """A refused connection says so, and that the agent wants to be started first."""
    with nobody() as address:
        problem = problem_of(f"ws://{address}")
    assert problem.exit_code == UNREACHABLE
    assert "nobody listens" in problem.message
    assert "start the agent" in problem.remedy


def test_nobody_there_on_several_addresses() -> None:
    """A name with an IPv6 and an IPv4 address, both refused, is one refusal."""
    assert "nobody listens" in problem_of("ws://localhost:1").message


def test_an_agent_that_comes_up_late_is_waited_for() -> None:
    """Within the time to wait a refusal means: not yet."""
    with nobody() as address:
        port = int(address.partition(":")[2])
    url, tries = f"ws://127.0.0.1:{port}", []

    def attempt() -> CallLog:
        tries.append(url)
        if len(tries) == 2:
            stack.enter_context(agent_thread(silent_agent, port=port))
        return call(url)

    with contextlib.ExitStack() as stack:
        assert dial(attempt, url, wait=10).close_code == 1000
    assert len(tries) == 2


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "wants credentials"),
        (403, "refuses the connection"),
        (404, "nothing at that path"),
        (503, "does not upgrade"),
    ],
)
def test_a_refused_upgrade_says_which_and_what_to_do(status: int, words: str) -> None:
    """Each status at the upgrade has its words; the status itself is among them."""

    def refuse(connection: ServerConnection, _: Request) -> Response:
        return connection.respond(status, "no")

    with agent_thread(silent_agent, process_request=refuse) as url:
        problem = problem_of(url)
    assert problem.exit_code == REFUSED
    assert words in problem.message
    assert f"HTTP {status}" in problem.message
    assert problem.remedy


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 101 Swi", b"\x15\x03\x01\x00\x02\x02\x46"])
def test_another_service_is_recognised(answer: bytes) -> None:
    """What answers something else, half of it, or a TLS alert is no websocket server."""
    with answering(answer) as address:
        problem = problem_of(f"ws://{address}")
    assert problem.exit_code == UNREACHABLE
    assert "does not answer as a websocket server" in problem.message
    assert "wss://" in problem.remedy


def test_an_agent_that_hangs() -> None:
    """No answer in time is said as that."""
    with answering() as address:
        problem = problem_of(f"ws://{address}", open_timeout=0.1)
    assert (problem.exit_code, "in time" in problem.message) == (UNREACHABLE, True)


def test_tls_where_there_is_none() -> None:
    """A plain agent dialled with wss:// hints at ws://."""
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        problem = problem_of(f"wss://{address}")
    assert problem.message.startswith("no TLS with")
    assert "write ws://" in problem.remedy


def test_a_certificate_that_nobody_vouches_for() -> None:
    """An unknown authority is named as the trouble, with the variable that helps."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with agent_thread(silent_agent, ssl=context) as url:
        problem = problem_of(url)
    assert "certificate is not trusted" in problem.message
    assert "SSL_CERT_FILE" in problem.remedy


@pytest.mark.parametrize("host", ["agent.invalid", "a" * 70 + ".example"])
def test_an_unknown_host(host: str) -> None:
    """Names that resolve to nothing, or cannot even be asked for."""
    problem = problem_of(f"ws://{host}:1")
    assert (problem.exit_code, "is unknown" in problem.message) == (UNREACHABLE, True)


def test_anything_else_is_passed_on_in_its_own_words() -> None:
    """What nobody thought of still ends in one line."""

    def fail() -> CallLog:
        raise OSError(101, "Network is unreachable")

    with pytest.raises(Problem, match=r"cannot call ws://a: \[Errno 101\] Network is unreachable"):
        dial(fail, "ws://a")
