"""A fake Bluejay: a real HTTP listener that checks, remembers and, on demand, fails at any point of an exchange.

::

    with FakePlatform() as platform:
        platform.plan(Answer(status=502), Close(at="headers"), Hang())
        agent = Agent(api_key=platform.api_key, base_url=platform.url)
        ...
        (accepted,) = platform.wait_for(1)
        assert accepted.tool_calls[0]["name"] == "freeze_card"
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Self

from bluejay_ws.testing.faults import Answer, Close, Hang, Plan, Point, Raw, Refuse, Step, is_tls
from bluejay_ws.testing.http11 import HttpError, Request, Stream
from bluejay_ws.testing.listener import Listener, finish, wake
from bluejay_ws.testing.oracle import AcceptedReport, Oracle, ReadBack
from bluejay_ws.testing.router import Router, carry_out, end_badly

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Collection

__all__ = [
    "AcceptedReport",
    "Answer",
    "Close",
    "FakePlatform",
    "Hang",
    "Point",
    "Raw",
    "ReadBack",
    "Refuse",
    "Request",
    "Step",
]

IDLE_SECONDS = 60.0
LOOK_SECONDS = 0.005


class FakePlatform:
    """Listen as Bluejay does, from ``with`` or ``async with`` to its end.

    A report is accepted when its key is right, its body is what the published schema describes, and no planned step
    says otherwise. A second accepted report for a call is appended to the first, as the real platform does.

    Args:
        api_key: the key that is right; None takes any.
        host: the address to listen on.
        port: 0 takes a free one.
        ssl_context: serve https with this server-side context.
        read_back: how accepted reports can be read; see `ReadBack`, also for changes while it runs.
        known_ids: the calls that exist, others are answered with 404; None knows every id. May be set later.
        on_report: called with each report as it is accepted, on a thread of the platform's, before the answer leaves.
            What it raises is kept in `errors`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        api_key: str | None = "test-key",
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        read_back: ReadBack | None = None,
        known_ids: Collection[str] | None = None,
        on_report: Callable[[AcceptedReport], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ssl_context = ssl_context
        self._changed = threading.Condition(threading.RLock())
        self._oracle = Oracle(read_back or ReadBack(), clock)
        self._router = Router(self._oracle, self._changed, api_key=api_key, known_ids=known_ids, on_report=on_report)
        self._listener = Listener(self._serve, host=host, port=port, name="fake-platform")
        self._requests: list[Request] = []
        self._streams: set[Stream] = set()
        self._plan = Plan()
        self._reads = Plan()
        self._closed = threading.Event()

    # ------------------------------------------------------------------------------------------ life

    def start(self) -> Self:
        """Listen from now on.

        Raises:
            OSError: the port is taken.
        """
        self._listener.listen()
        return self

    def close(self) -> None:
        """Stop, end every exchange and wait for the threads; idempotent."""
        self._closed.set()
        self._listener.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *_: object) -> None:
        import anyio.to_thread  # noqa: PLC0415 - the platform itself needs no event loop
        from anyio import CancelScope  # noqa: PLC0415

        with CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.close)

    @property
    def url(self) -> str:
        """Return the base URL, without a path."""
        host = f"[{self._listener.host}]" if ":" in self._listener.host else self._listener.host
        return f"{'https' if self._ssl_context else 'http'}://{host}:{self.port}"

    @property
    def port(self) -> int:
        """Return the port; it stays the same while connections are refused."""
        return self._listener.port

    @property
    def api_key(self) -> str:
        """Return a key that is accepted."""
        return self._router.api_key or "any-key"

    @property
    def read_back(self) -> ReadBack:
        """Return how accepted reports can be read; change its fields at any time."""
        return self._oracle.read_back

    @property
    def known_ids(self) -> Collection[str] | None:
        """Return the calls that exist; None: every id does."""
        return self._router.known_ids

    @known_ids.setter
    def known_ids(self, ids: Collection[str] | None) -> None:
        self._router.known_ids = ids

    # ---------------------------------------------------------------------------------------- faults

    def plan(self, *steps: Step) -> None:
        """Append steps: one for each exchange, in order, whichever connection it is on.

        Steps at ``connect`` and ``tls`` meet the next new connection (kept-alive ones are ended for it); the others
        meet the next request that is not a GET. `Refuse` takes effect at once when the steps before it are used up.

        Raises:
            ValueError: a step at ``tls`` without an ``ssl_context``.
        """
        self._check_tls(steps)
        self._plan.add(steps)
        self._mind_connections()

    def plan_reads(self, *steps: Step) -> None:
        """Append steps for GET requests: one for each.

        Raises:
            ValueError: a step that is due before the request can be told from others.
        """
        self._reads.add_requests(steps)

    def otherwise(self, step: Step | None = None, *, reads: Step | None = None) -> None:
        """Do this with every exchange for which nothing is planned; without arguments all is well again.

        Args:
            step: as for `plan`; not `Refuse`, for which there is `refuse`.
            reads: as for `plan_reads`.

        Raises:
            ValueError: a step that cannot stand there.
        """
        self._check_tls([step] if step else [])
        self._plan.set_rest(step or Answer())
        self._reads.set_rest(reads or Answer(), requests_only=True)
        self._mind_connections()

    @property
    def planned(self) -> int:
        """Return how many planned steps have not been met yet."""
        return len(self._plan) + len(self._reads)

    def refuse(self) -> None:
        """Refuse connections until `listen`, and end those that are idle."""
        self._listener.refuse()
        self._hang_up_idle()

    def listen(self) -> None:
        """Accept connections again, on the same port."""
        self._listener.listen()

    # ---------------------------------------------------------------------------------------- oracle

    @property
    def accepted(self) -> list[AcceptedReport]:
        """Return every accepted report, oldest first."""
        with self._changed:
            return self._oracle.accepted()

    def reports_for(self, simulation_result_id: str) -> list[AcceptedReport]:
        """Return the accepted reports of one call, oldest first."""
        with self._changed:
            return self._oracle.accepted(simulation_result_id)

    @property
    def duplicates(self) -> dict[str, int]:
        """Return how many reports were accepted for each call that has more than one."""
        with self._changed:
            return self._oracle.duplicates()

    @property
    def requests(self) -> list[Request]:
        """Return every request whose headers were read, oldest first, with what was answered."""
        with self._changed:
            return list(self._requests)

    @property
    def rejected(self) -> list[Request]:
        """Return the requests whose body the schema does not take."""
        return [request for request in self.requests if request.problems]

    @property
    def connections(self) -> int:
        """Return how many TCP connections were accepted."""
        return self._listener.connections

    @property
    def errors(self) -> list[Exception]:
        """Return what ``on_report`` raised, and what went wrong in the platform itself."""
        return [*self._router.errors, *self._listener.errors]

    def wait_for(
        self, count: int = 1, timeout: float = 10.0, *, simulation_result_id: str | None = None
    ) -> list[AcceptedReport]:
        """Wait until at least ``count`` reports were accepted and return all of them.

        Args:
            count: since the platform started.
            timeout: seconds.
            simulation_result_id: look at the reports of this call only.

        Raises:
            TimeoutError: with what was seen instead.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._oracle.count(simulation_result_id) >= count, timeout)
            return self._enough(count, timeout, simulation_result_id)

    async def await_for(
        self,
        count: int = 1,
        timeout: float = 10.0,  # noqa: ASYNC109 - as `wait_for` has it
        *,
        simulation_result_id: str | None = None,
    ) -> list[AcceptedReport]:
        """Do what `wait_for` does without blocking the event loop, on asyncio and trio."""
        import anyio  # noqa: PLC0415 - the platform itself needs no event loop

        with anyio.move_on_after(timeout):
            while self._oracle.count(simulation_result_id) < count:  # noqa: ASYNC110 - its threads know no event loop
                await anyio.sleep(LOOK_SECONDS)
        with self._changed:
            return self._enough(count, timeout, simulation_result_id)

    def _enough(self, count: int, timeout: float, simulation_result_id: str | None) -> list[AcceptedReport]:
        accepted = self._oracle.accepted(simulation_result_id)
        if len(accepted) < count:
            raise TimeoutError(f"{len(accepted)} of {count} reports accepted after {timeout:g} s ({self._seen()})")
        return accepted

    def _seen(self) -> str:
        last = [f"{request.method} {request.path}: {request.answer}" for request in self._requests[-5:]]
        return f"{self.connections} connections, {len(self._requests)} requests; the last of them: {last}"

    # ----------------------------------------------------------------------------------- connections

    def _serve(self, sock: socket.socket) -> None:
        step = self._take(self._plan, "connect", "tls")
        if step is not None:
            end_badly(sock, step)
            return
        if self._ssl_context is not None:
            sock.settimeout(IDLE_SECONDS)
            sock = self._ssl_context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            self._listener.adopt(sock)
            sock.do_handshake()
        stream = Stream(sock)
        self._streams.add(stream)
        try:
            while self._exchange(stream):
                pass
        finally:
            self._streams.discard(stream)

    def _exchange(self, stream: Stream) -> bool:
        """Take part in one exchange; return whether another may follow on this connection."""
        # Idle first, then the look at the plan: a change of the plan looks the other way round.
        if stream.rests() and self._needs_new_connection():
            return False
        first = stream.begins(IDLE_SECONDS)
        if not first:
            return False
        plan = self._reads if first.startswith(b"GET ") else self._plan
        step = self._take(plan, "headers")
        if step is not None:
            return end_badly(stream.sock, step)
        request = Request("", "", [])
        try:
            request = stream.head()
            with self._changed:
                self._requests.append(request)
            return self._respond(stream, request, plan)
        except HttpError as error:
            request.keep_alive = False
            answer = Answer(status=error.status, body=json.dumps({"detail": error.reason}).encode())
            carry_out(stream, request, answer, None, self._closed)
            finish(stream.sock)
            return False

    def _respond(self, stream: Stream, request: Request, plan: Plan) -> bool:
        step = self._take(plan, "request") or Answer()
        if isinstance(step, Close | Hang) and step.at == "body":
            stream.some_body(request)
            request.answer = repr(step)
            return end_badly(stream.sock, step)
        stream.body(request)
        judged = self._router.judge(request, step)
        request.keep_alive = request.keep_alive and not self._needs_new_connection()
        return carry_out(stream, request, step, judged, self._closed)

    def _take(self, plan: Plan, *stages: str) -> Step | None:
        step = plan.take(*stages)
        self._mind_connections()
        return step

    def _mind_connections(self) -> None:
        """Let the next step come true where it needs a new connection, or none at all."""
        refusals = list(iter(lambda: self._plan.take("refuse"), None))
        if refusals:
            self._listener.refuse(sum(step.seconds for step in refusals if isinstance(step, Refuse)))
        if self._needs_new_connection():
            self._hang_up_idle()

    def _needs_new_connection(self) -> bool:
        return not self._listener.listening or self._plan.comes("connect", "tls")

    def _hang_up_idle(self) -> None:
        for stream in list(self._streams):
            if stream.idle:
                wake(stream.sock)

    def _check_tls(self, steps: Collection[Step]) -> None:
        if self._ssl_context is None and any(is_tls(step) for step in steps):
            raise ValueError("a step at 'tls' needs a platform with an ssl_context")
