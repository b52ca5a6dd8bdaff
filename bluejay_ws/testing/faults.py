"""What a fake platform can do instead of answering: one step for each request, in the order of a plan."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Point: TypeAlias = Literal["connect", "tls", "headers", "body", "answer", "status_line", "answer_body"]
"""Where an exchange is broken off: right after the TCP handshake, after the first bytes of the TLS handshake, after
the first bytes of the request, in the middle of its body, after the whole request, in the middle of the status line,
in the middle of the answer's body."""

_BEFORE_REQUEST = ("connect", "tls")
_WHOLE_REQUEST = ("answer", "status_line", "answer_body")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Answer with these words; plain ``Answer()`` is what the platform does anyway.

    Args:
        status: of the answer.
        headers: added to the answer; pairs may repeat a name. They win over what would be sent otherwise, so a
            ``Content-Length`` can lie.
        body: None takes the published shape for the status (a 422 then repeats what was sent).
        accept: take the report in (if it is sound and the key is right); None does so for a 200 without ``body``.
        delay: seconds before the first byte.
        drip: seconds between any two bytes.
        close: close the connection after the answer, without saying so in its headers.
    """

    status: int = 200
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    accept: bool | None = None
    delay: float = 0.0
    drip: float = 0.0
    close: bool = False

    @property
    def natural(self) -> bool:
        """Return whether status and body are the platform's own choice."""
        return self.status == 200 and self.body is None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return the headers as pairs."""
        return list(self.headers.items() if isinstance(self.headers, Mapping) else self.headers)


@dataclass(frozen=True, kw_only=True)
class _BreakingOff:
    at: Point = "answer"
    accept: bool = False

    def __post_init__(self) -> None:
        if self.accept and self.at not in _WHOLE_REQUEST:
            reason = f"it has not been read; choose one of {_WHOLE_REQUEST}"
            raise ValueError(f"a report cannot be accepted at {self.at!r}: {reason}")


@dataclass(frozen=True, kw_only=True)
class Close(_BreakingOff):
    """Break the connection off.

    Args:
        at: where.
        reset: with a TCP reset, else in order.
        accept: take the report in first; only where the whole request has been read.
    """

    reset: bool = True


@dataclass(frozen=True, kw_only=True)
class Hang(_BreakingOff):
    """Say nothing more, until the client gives up or the platform is closed.

    Args:
        at: where.
        accept: take the report in first; only where the whole request has been read.
    """


@dataclass(frozen=True)
class Raw:
    """Send these bytes in place of an answer, then close in order.

    Args:
        data: anything.
        accept: take the report in first.
    """

    data: bytes
    accept: bool = False


@dataclass(frozen=True)
class Refuse:
    """Refuse connections for a while, beginning as soon as the steps before it are under way.

    The kernel refuses, so attempts cannot be counted: hence a time.

    Args:
        seconds: how long.
    """

    seconds: float = 0.1


Step: TypeAlias = Answer | Close | Hang | Raw | Refuse


class Plan:
    """Hand out steps: each to one exchange, in order; then the same one for ever. Thread-safe."""

    def __init__(self) -> None:
        self.rest: Step = Answer()
        self._steps: deque[Step] = deque()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, steps: Sequence[Step]) -> None:
        """Append steps."""
        with self._lock:
            self._steps.extend(steps)

    def add_requests(self, steps: Sequence[Step]) -> None:
        """Append steps that are due once a request is there.

        Raises:
            ValueError: one is due before that.
        """
        for step in steps:
            _check_request(step)
        self.add(steps)

    def set_rest(self, step: Step, *, requests_only: bool = False) -> None:
        """Do this when no step is left.

        Raises:
            ValueError: a `Refuse`; or, with ``requests_only``, a step that is due before a request is there.
        """
        if requests_only:
            _check_request(step)
        if isinstance(step, Refuse):
            raise ValueError("connections cannot be refused one by one; call refuse() and listen()")  # noqa: TRY004
        with self._lock:
            self.rest = step

    def take(self, *stages: str) -> Step | None:
        """Return the next step and use it up, if it belongs to one of these stages (see `stage`); else None."""
        with self._lock:
            if self._steps:
                return self._steps.popleft() if stage(self._steps[0]) in stages else None
            return self.rest if stage(self.rest) in stages else None

    def comes(self, *stages: str) -> bool:
        """Return whether the next step belongs to one of these stages."""
        with self._lock:
            return stage(self._steps[0] if self._steps else self.rest) in stages


def stage(step: Step) -> str:
    """Return when a step is due: ``refuse``, ``connect``, ``tls``, ``headers`` or ``request``."""
    if isinstance(step, Refuse):
        return "refuse"
    at = step.at if isinstance(step, Close | Hang) else "answer"
    return at if at in (*_BEFORE_REQUEST, "headers") else "request"


def is_tls(step: Step) -> bool:
    """Return whether a step makes sense on TLS only."""
    return stage(step) == "tls"


def _check_request(step: Step) -> None:
    if stage(step) not in {"headers", "request"}:
        raise ValueError(f"{step} is due before it is known whether a request is a GET; use plan()")
