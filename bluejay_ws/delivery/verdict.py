"""What to do after one exchange with the platform: the whole outcome table, as pure functions.

The one rule behind the table: a report goes out again without a question only where it is certain that
the platform has not processed it. Everything else is settled by reading the result back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = ["Action", "Answer", "Failure", "Phase", "Verdict", "judge"]

NOT_FOUND_TRIES = 3
OK_FROM, OK_TO, REDIRECT_TO, CLIENT_TO = 200, 300, 400, 500
NOT_FOUND, TOO_LARGE = 404, 413

_KEY = frozenset({401, 403})
_CONFIGURATION = frozenset({402, 407})
_NOT_PROCESSED = frozenset({408, 421, 423, 425, 429})
_CONFLICT = frozenset({409})
_PERMANENT_5XX = frozenset({501, 505})


class Action(Enum):
    """What becomes of the report."""

    DELIVERED = "delivered"
    RETRY = "retry"
    READ_BACK = "read_back"
    HOLD_ALL = "hold_all"
    PARK = "park"
    CUT = "cut"


class Phase(Enum):
    """How far an exchange came before its transport failed."""

    NOT_SENT = "not_sent"
    BODY_INCOMPLETE = "body_incomplete"
    UNKNOWN = "unknown"
    CERTIFICATE = "certificate"
    CONFIGURATION = "configuration"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer.

    Args:
        status: its code.
        body: as much of it as was read.
        retry_after: the header of that name.
        request_complete: whether the whole request had been sent when the answer came.
        complete: whether the whole body was read.
    """

    status: int
    body: bytes = b""
    retry_after: str | None = None
    request_complete: bool = True
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer.

    Args:
        phase: how far the exchange came.
        reason: one word for counts and logs, never text from outside.
    """

    phase: Phase
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and why.

    Args:
        action: what becomes of the report.
        reason: one word for counts and logs, such as ``http.502`` or ``refused``.
        detail: more for a person; for a 422 its ``loc`` and ``type``, never its ``msg`` or ``input``.
        retry_after: the platform's ``Retry-After`` as it came, where it counts.
    """

    action: Action
    reason: str
    detail: str = ""
    retry_after: str | None = None


_BY_PHASE = {
    Phase.NOT_SENT: Action.RETRY,
    Phase.BODY_INCOMPLETE: Action.RETRY,
    Phase.UNKNOWN: Action.READ_BACK,
    Phase.CERTIFICATE: Action.HOLD_ALL,
    Phase.CONFIGURATION: Action.HOLD_ALL,
}


def judge(outcome: Answer | Failure, *, attempts: int = 1, cut: bool = False) -> Verdict:
    """Return what to do after a POST.

    Args:
        outcome: what came of it.
        attempts: how often this report has been posted, this time included.
        cut: whether its outputs have been cut already, after a 413.
    """
    if isinstance(outcome, Failure):
        return Verdict(_BY_PHASE[outcome.phase], outcome.reason)
    return _judge_answer(outcome, attempts, cut=cut)


def _judge_answer(answer: Answer, attempts: int, *, cut: bool) -> Verdict:
    reason = f"http.{answer.status}"
    if OK_FROM <= answer.status < OK_TO:
        return _judge_success(answer)
    if OK_TO <= answer.status < REDIRECT_TO:
        return Verdict(Action.HOLD_ALL, reason, "redirects are not followed, because the key would travel with them")
    if REDIRECT_TO <= answer.status < CLIENT_TO:
        return _judge_refusal(answer, reason, attempts, cut=cut)
    if answer.status in _PERMANENT_5XX:
        return Verdict(Action.PARK, reason)
    # A failure of theirs, or a status that means nothing as an end, such as 101: nobody knows what became of it.
    action = Action.READ_BACK if answer.request_complete else Action.RETRY
    return Verdict(action, reason, retry_after=answer.retry_after)


def _judge_success(answer: Answer) -> Verdict:
    body = _json(answer.body)
    if isinstance(body, dict) and body.get("status") == "success" and answer.request_complete:
        return Verdict(Action.DELIVERED, "delivered")
    return Verdict(Action.READ_BACK, f"http.{answer.status}_unexpected_body")


def _judge_refusal(answer: Answer, reason: str, attempts: int, *, cut: bool) -> Verdict:
    status = answer.status
    if status in _KEY:
        return Verdict(Action.HOLD_ALL, reason, "the platform refuses the API key; check BLUEJAY_API_KEY")
    if status in _CONFIGURATION:
        return Verdict(Action.HOLD_ALL, reason, "check the account and the proxy")
    if status in _NOT_PROCESSED:
        return Verdict(Action.RETRY, reason, retry_after=answer.retry_after)
    if status in _CONFLICT:
        return Verdict(Action.READ_BACK, reason)
    if status == NOT_FOUND and attempts < NOT_FOUND_TRIES:
        return Verdict(Action.RETRY, reason)
    if status == TOO_LARGE and not cut:
        return Verdict(Action.CUT, reason)
    return Verdict(Action.PARK, reason, _complaints(answer.body))


def _complaints(body: bytes) -> str:
    """Return ``loc`` and ``type`` of each complaint in a 422; a body can echo a whole transcript, these cannot."""
    found = _json(body)
    detail = found.get("detail") if isinstance(found, dict) else None
    if not isinstance(detail, list):
        return ""
    return ", ".join(_complaint(item) for item in detail[:5] if isinstance(item, dict))


def _complaint(item: dict[str, Any]) -> str:
    loc = item.get("loc")
    places = [_plain(part) for part in loc[:8]] if isinstance(loc, list) else []
    return f"{'.'.join(places)}: {_plain(item.get('type'))}"


def _plain(value: object) -> str:
    """Return a short identifier as it is, anything else as ``?``: nothing from outside can forge a log line."""
    text = str(value) if isinstance(value, (str, int)) else "?"
    return text if len(text) <= 40 and text.replace("_", "").isascii() and text.replace("_", "").isalnum() else "?"


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
