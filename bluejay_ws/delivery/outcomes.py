"""What to do after one exchange with the platform: the whole table, as pure functions.

One rule stands behind it: a report goes out again without a look only where it is certain that the platform has not
processed it. After an unknown outcome the result is read back, and what is not there is sent again, without limit.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bluejay_ws.settings import Retry

NOT_FOUND_WAITS = (2.0, 10.0, 60.0, 600.0)
REFUSED_TRIES = 4
REFUSED_SECONDS = 600.0
LOOK_REFUSED_WAIT = 60.0
LOOK_REFUSED_CEILING = 3600.0
LOOK_REFUSED_LIMIT = 24 * 3600.0
LOOK_REFUSED_TRIES = 8  # they take hours: a clock that is set makes no day of a minute
LOOK_AGAIN = 1.0

_NOT_PROCESSED = frozenset({408, 425, 429})
_CONFIGURATION = {
    401: "the platform refuses the API key; check BLUEJAY_API_KEY",
    403: "the platform refuses the API key; check BLUEJAY_API_KEY",
    402: "check the account that BLUEJAY_API_KEY belongs to",
    407: "the proxy refuses; check HTTPS_PROXY",
}
_FORBIDDEN = "others are accepted: a firewall dislikes its words, or the id is another account's"
_REDIRECT = "redirects are not followed, because the key would travel with them; check BLUEJAY_API_URL"
_GATEWAY = "not an answer of Bluejay's API to this report; check BLUEJAY_API_URL"


class State(StrEnum):
    """Where a report stands."""

    WAITING = "waiting"
    """It is certain that the platform has not processed it: it may be sent."""
    UNKNOWN = "sending"
    """It was posted, and nobody knows what became of it: the result is read back before it is sent again."""
    HELD = "held"
    PARKED = "parked"
    DELIVERED = "delivered"


class Platform(Enum):
    """What an exchange shows of the platform as a whole."""

    UP = "up"
    READABLE = "readable"
    DOWN = "down"
    MISCONFIGURED = "misconfigured"
    UNHEARD = "unheard"


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
        retry_after: seconds that its ``Retry-After`` asks for; a date counts against the answer's own ``Date``.
        request_complete: whether the whole request had been sent when the answer came.
        complete: whether the whole body was read.
    """

    status: int
    body: bytes = b""
    retry_after: float | None = None
    request_complete: bool = True
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer.

    Args:
        phase: how far the exchange came.
        reason: one word for counts and logs, never text from outside.
        detail: for a person: what to check.
    """

    phase: Phase
    reason: str
    detail: str = ""


@dataclass(slots=True)
class History:
    """What is known of the earlier attempts of one delivery.

    Args:
        attempts: how often the report was posted.
        not_found: how often the platform answered that nothing matches the id.
        refused: how often it was refused without a word of the API about it.
        refused_at: monotonic seconds of the first such refusal.
        looks: how often the result was read back since the last attempt, and did not show the report.
        unread: how often the result could not be read since then.
        look_refused: how often reading it back was refused.
        look_refused_at: Unix time of the first such refusal.
        resends: how often it was sent again after an unknown outcome.
        cut: whether outputs are cut, after a 413.
    """

    attempts: int = 0
    not_found: int = 0
    refused: int = 0
    refused_at: float = 0.0
    looks: int = 0
    unread: int = 0
    look_refused: int = 0
    look_refused_at: float = 0.0
    resends: int = 0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a delivery.

    Args:
        state: of its reports.
        wait: seconds until its next move; None: it is settled.
        platform: what this shows of the platform.
        reason: one word for counts and logs, such as ``http.502``.
        detail: more for a person; never the caller's words.
        pinned: whether the wait is kept even when the platform comes back earlier.
        asked: whether the platform asked for that wait, so that it has to outlive this process.
        cut: whether the report is to be cut and sent again.
        busy: whether the platform asks for fewer requests.
    """

    state: State
    wait: float | None
    platform: Platform
    reason: str
    detail: str = ""
    pinned: bool = False
    asked: bool = False
    cut: bool = False
    busy: bool = False


# -- after a POST ---------------------------------------------------------------------------------------------------


def decide(
    outcome: Answer | Failure, history: History, retry: Retry, *, now: float, jitter: float, others_accepted: bool
) -> Decision:
    """Return what follows a POST.

    Args:
        outcome: what came of it.
        history: of the delivery, this attempt included.
        retry: the bounds of the waits.
        now: monotonic seconds.
        jitter: a random number in [0, 1).
        others_accepted: whether the platform has accepted another report since this one was first refused; at its
            first refusal: whether it has accepted any.
    """
    if isinstance(outcome, Failure):
        return _after_failure(outcome, history, retry, jitter)
    return _after_answer(outcome, history, retry, now, jitter, others_accepted=others_accepted)


def _after_failure(failure: Failure, history: History, retry: Retry, jitter: float) -> Decision:
    if failure.phase is Phase.UNKNOWN:
        return _unknown(failure.reason, retry, None)
    if failure.phase in {Phase.NOT_SENT, Phase.BODY_INCOMPLETE}:
        wait = backoff(history.attempts, retry, jitter)
        return Decision(State.WAITING, wait, Platform.DOWN, failure.reason, failure.detail)
    return Decision(State.WAITING, 0.0, Platform.MISCONFIGURED, failure.reason, failure.detail)


def _unknown(reason: str, retry: Retry, asked: float | None, detail: str = "") -> Decision:
    wait = max(retry.read_back[0], asked or 0.0)
    return Decision(State.UNKNOWN, wait, Platform.DOWN, reason, detail, pinned=True, asked=bool(asked))


def _after_answer(
    answer: Answer, history: History, retry: Retry, now: float, jitter: float, *, others_accepted: bool
) -> Decision:
    status, reason = answer.status, f"http.{answer.status}"
    if 200 <= status < 300:
        return _after_success(answer, retry)
    if 300 <= status < 400 or status in _CONFIGURATION:
        of_one = status == 403 and others_accepted  # the others say nothing about the key, which may change
        why = _FORBIDDEN if of_one else _CONFIGURATION.get(status, _REDIRECT)
        return _unjudged(reason, why, history, retry, now, others_accepted=others_accepted, parks=of_one)
    if status in _NOT_PROCESSED:
        return _not_processed(answer, history, retry, jitter)
    if 400 <= status < 500 or status in {501, 505}:
        return _refused(answer, reason, history, retry, now, others_accepted=others_accepted)
    if not answer.request_complete:
        return Decision(State.WAITING, backoff(history.attempts, retry, jitter), Platform.DOWN, reason)
    return _unknown(reason, retry, answer.retry_after)


def _after_success(answer: Answer, retry: Retry) -> Decision:
    body = _json(answer.body)
    if isinstance(body, dict) and body.get("status") == "success" and answer.request_complete:
        return Decision(State.DELIVERED, None, Platform.UP, "delivered")
    return _unknown(f"http.{answer.status}_unexpected_body", retry, None, _GATEWAY)


def _not_processed(answer: Answer, history: History, retry: Retry, jitter: float) -> Decision:
    """Wait as long as the platform asks for, or a backoff that is never nothing: it answers, and others may go on."""
    asked = bool(answer.retry_after)
    wait = answer.retry_after or backoff(history.attempts + 1, retry, jitter)
    return Decision(State.WAITING, wait, Platform.UP, f"http.{answer.status}", pinned=asked, asked=asked, busy=True)


def _refused(
    answer: Answer, reason: str, history: History, retry: Retry, now: float, *, others_accepted: bool
) -> Decision:
    status, own = answer.status, _is_api_answer(answer.body)
    if status == 413 and not history.cut:
        return Decision(State.WAITING, 0.0, Platform.UP if own else Platform.UNHEARD, reason, cut=True)
    if own and status == 404:
        history.not_found += 1
        if history.not_found <= len(NOT_FOUND_WAITS):
            wait = NOT_FOUND_WAITS[history.not_found - 1]
            return Decision(State.WAITING, wait, Platform.UP, reason, pinned=True)
    if own and status in {400, 404, 409, 413, 422}:
        return Decision(State.PARKED, None, Platform.UP, reason, complaints(answer.body))
    return _unjudged(reason, _GATEWAY, history, retry, now, others_accepted=others_accepted, parks=True)


def _unjudged(
    reason: str, why: str, history: History, retry: Retry, now: float, *, others_accepted: bool, parks: bool
) -> Decision:
    """Decide on what says nothing about this report until the platform has judged another.

    Where others are accepted and this one is not, it disturbs nobody: it waits by itself, or is parked in the end.
    """
    if not history.refused:
        history.refused_at = now
    history.refused += 1
    if not others_accepted:
        return Decision(State.WAITING, 0.0, Platform.MISCONFIGURED, reason, why)
    if parks and history.refused >= REFUSED_TRIES and now - history.refused_at >= REFUSED_SECONDS:
        return Decision(State.PARKED, None, Platform.UP, reason, why)
    wait = min(retry.ceiling, max(retry.first, 1.0) * 2.0 ** min(history.refused - 1, 16))
    return Decision(State.WAITING, wait, Platform.UNHEARD, reason, why, pinned=True)


def backoff(attempts: int, retry: Retry, jitter: float) -> float:
    """Return the seconds to wait after so many failed attempts: none after the first, then full jitter.

    Args:
        attempts: how often the report has been tried, 1 or more.
        retry: the bounds; the first jittered wait is at most ``retry.first``, each later one at most double.
        jitter: a random number in [0, 1).
    """
    if attempts <= 1:
        return 0.0
    return jitter * min(retry.ceiling, retry.first * 2.0 ** min(attempts - 2, 64))


# -- after a look ---------------------------------------------------------------------------------------------------


class Sight(Enum):
    """What a look at the result shows of one report."""

    FOUND = "found"
    ABSENT = "absent"
    UNCLEAR = "unclear"
    UNREADABLE = "unreadable"
    REFUSED = "refused"


def decide_look(
    sight: Sight, outcome: Answer | Failure, history: History, retry: Retry, *, wall: float, jitter: float, due: bool
) -> Decision:
    """Return what follows a look at the result, for the reports that it did not show to be there.

    Args:
        sight: what it showed of them.
        outcome: what came of the GET.
        history: of the delivery.
        retry: the bounds of the waits.
        wall: Unix time, in seconds.
        jitter: a random number in [0, 1).
        due: whether a report that is not there may be sent again now.

    Returns:
        The decision; ``wait`` is 0.0 and the state waiting where it may be sent in this same move.
    """
    if sight is Sight.REFUSED:
        return _look_refused(history, wall)
    if sight is Sight.UNREADABLE:
        return _unreadable(outcome, history, retry, jitter)
    if sight is Sight.UNCLEAR:
        return Decision(State.HELD, None, Platform.READABLE, "in_part_or_unclear")
    return _absent(history, retry, jitter, due=due)


def _look_refused(history: History, wall: float) -> Decision:
    history.look_refused += 1
    history.look_refused_at = min(history.look_refused_at or wall, wall)
    if wall - history.look_refused_at >= LOOK_REFUSED_LIMIT and history.look_refused >= LOOK_REFUSED_TRIES:
        return Decision(State.HELD, None, Platform.UNHEARD, "look_refused", "this key may not read results")
    wait = min(LOOK_REFUSED_CEILING, LOOK_REFUSED_WAIT * 2.0 ** min(history.look_refused - 1, 16))
    return Decision(State.UNKNOWN, wait, Platform.UNHEARD, "look_refused", "this key may not read results", pinned=True)


def _unreadable(outcome: Answer | Failure, history: History, retry: Retry, jitter: float) -> Decision:
    history.unread += 1
    wait = max(min(LOOK_AGAIN, retry.ceiling), backoff(history.unread + 2, retry, jitter))
    if isinstance(outcome, Failure) and outcome.phase in {Phase.CERTIFICATE, Phase.CONFIGURATION}:
        return Decision(State.UNKNOWN, 0.0, Platform.MISCONFIGURED, outcome.reason, outcome.detail)
    down = isinstance(outcome, Failure) or outcome.status >= 500
    asked = None if isinstance(outcome, Failure) else outcome.retry_after
    platform = Platform.DOWN if down else Platform.UNHEARD
    busy = isinstance(outcome, Answer) and outcome.status in _NOT_PROCESSED
    pinned = not down or bool(asked)
    return Decision(State.UNKNOWN, max(wait, asked or 0.0), platform, "unreadable", pinned=pinned, busy=busy)


def _absent(history: History, retry: Retry, jitter: float, *, due: bool) -> Decision:
    history.looks += 1
    waits = retry.read_back
    if not due and history.looks < len(waits):
        wait = max(0.0, waits[history.looks] - waits[history.looks - 1])
        return Decision(State.UNKNOWN, wait, Platform.READABLE, "read_back", pinned=True)
    if due:
        return Decision(State.WAITING, 0.0, Platform.READABLE, "not_found")
    wait = min(retry.resend_ceiling, retry.resend_first * 2.0 ** min(history.resends, 16)) * (0.9 + 0.2 * jitter)
    return Decision(State.UNKNOWN, wait, Platform.READABLE, "not_found")


def read_result(outcome: Answer | Failure, sent: Sequence[tuple[str, bytes]]) -> dict[str, Sight]:
    """Return what the answer to a GET of the result says about each report, by its report id.

    First the marker event that every report carries; where the platform does not echo the metadata of events, the
    tool calls by name and offset; where there are none, the events by title and offset. Each needs its own proof.

    Args:
        outcome: what came of the GET.
        sent: report id and body of each report that was posted.
    """
    result = result_of(outcome)
    if result:
        return _compare(result, sent)
    unread = Sight.REFUSED if refuses(outcome) else Sight.UNREADABLE
    return {report_id: unread if result is None else Sight.ABSENT for report_id, _ in sent}


def refuses(outcome: Answer | Failure) -> bool:
    """Return whether the platform lets this key read nothing."""
    return isinstance(outcome, Answer) and outcome.status in {401, 403}


def result_of(outcome: Answer | Failure) -> dict[str, Any] | None:
    """Return the result that was read; an empty one where the platform knows of none; None if it cannot be read."""
    if isinstance(outcome, Failure):
        return None
    if outcome.status == 404 and _is_api_answer(outcome.body):
        return {}
    body = _json(outcome.body) if outcome.status == 200 and outcome.complete else None
    result = body.get("simulation_result") if isinstance(body, dict) else None
    return result if isinstance(result, dict) else None


def _compare(result: dict[str, Any], sent: Sequence[tuple[str, bytes]]) -> dict[str, Sight]:
    events = [event for event in listed(result.get("events")) if isinstance(event, dict)]
    markers = set(_markers(events))
    tools, titles = _read_tools(result), _titles(events)
    seen: dict[str, Sight] = {}
    for report_id, body in sent:
        if report_id in markers:
            seen[report_id] = Sight.FOUND
            continue
        ours = json.loads(body)
        expected, actual = _own_tools(ours), tools
        if not expected:
            expected, actual = _titles(ours.get("events")), titles
        seen[report_id] = _overlap(expected, actual)
        if seen[report_id] is Sight.FOUND:
            actual -= expected  # what proves one report proves no other
    return seen


def _overlap(expected: Counter[tuple[str, object]], actual: Counter[tuple[str, object]]) -> Sight:
    common = (expected & actual).total()
    if not common:
        # A result without offsets cannot tell our items from others of the same name.
        timeless = any((name, None) in actual for name, _ in expected)
        return Sight.UNCLEAR if timeless else Sight.ABSENT
    return Sight.FOUND if common == expected.total() else Sight.UNCLEAR


def _markers(events: list[dict[str, Any]]) -> Iterable[str]:
    for event in events:
        metadata = event.get("metadata")
        ours = metadata.get("bluejay_ws") if isinstance(metadata, dict) else None
        marker = ours.get("report_id") if isinstance(ours, dict) else None
        if isinstance(marker, str):
            yield marker


def _own_tools(report: dict[str, Any]) -> Counter[tuple[str, object]]:
    return Counter((call["name"], call["start_offset_ms"]) for call in report["tool_calls"])


def _read_tools(result: dict[str, Any]) -> Counter[tuple[str, object]]:
    found: Counter[tuple[str, object]] = Counter()
    for group in listed(result.get("tool_calls")):
        name = group.get("name") if isinstance(group, dict) else None
        if isinstance(name, str):
            found.update((name, offset_of(call)) for call in listed(group.get("actual")))
    return found


def _titles(events: object) -> Counter[tuple[str, object]]:
    return Counter(
        (event["title"], offset_of(event))
        for event in listed(events)
        if isinstance(event, dict) and isinstance(event.get("title"), str)
    )


def offset_of(item: object) -> int | None:
    """Return when something in a result happened; None where it does not say."""
    offset = item.get("start_offset_ms") if isinstance(item, dict) else None
    return offset if type(offset) is int else None  # true is no time, although Python counts with it


def listed(value: object) -> list[Any]:
    """Return a list of a result; an empty one where there is something else."""
    return value if isinstance(value, list) else []


# -- the platform's words -------------------------------------------------------------------------------------------

_MSG_LENGTH = 120
_PROBLEM = frozenset({"title", "status", "instance"})
"""Members of "problem details" (RFC 9457), in which gateways say that they know no backend."""


def _is_api_answer(body: bytes) -> bool:
    """Return whether this is the API's own JSON, and not a gateway's: it has a ``detail``, and no word of RFC 9457."""
    found = _json(body)
    return isinstance(found, dict) and isinstance(found.get("detail"), str | list | dict) and not _PROBLEM & set(found)


def complaints(body: bytes) -> str:
    """Return what the platform says against a report, without anything of the report's own content."""
    found = _json(body)
    detail = found.get("detail") if isinstance(found, dict) else None
    if isinstance(detail, str):
        return _words(detail, [])
    return ", ".join(_complaint(item) for item in listed(detail)[:5] if isinstance(item, dict))


def _complaint(item: dict[str, Any]) -> str:
    loc = item.get("loc")
    places = [_plain(part) for part in loc[:8]] if isinstance(loc, list) else []
    msg = item.get("msg")
    inputs = list(_texts([item.get("input"), item.get("ctx")]))
    words = _words(msg, inputs) if isinstance(msg, str) and "input" in item else ""
    return f"{'.'.join(places)}: {_plain(item.get('type'))}{f' ({words})' if words else ''}"


def _words(text: str, inputs: Sequence[str]) -> str:
    """Return a message of the platform's if it is short, plain, and holds none of these texts; else nothing."""
    plain = len(text) <= _MSG_LENGTH and text.isascii() and text.isprintable() and "'" not in text and '"' not in text
    repeats = any(len(one) > 2 and one.lower() in text.lower() for one in inputs)
    return text if plain and not repeats else ""


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
        yield from value.split()
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif value is not None:
        yield str(value)


def _plain(value: object) -> str:
    """Return a short identifier as it is, anything else as ``?``: nothing from outside can forge a log line."""
    text = str(value) if isinstance(value, str | int) else "?"
    return text if len(text) <= 40 and text.replace("_", "").isascii() and text.replace("_", "").isalnum() else "?"


def number(text: str) -> float:
    """Read 1.0 as 1: the platform may give the same number back in another form."""
    found = float(text)
    return int(found) if found.is_integer() else found


_DECODER = json.JSONDecoder(parse_float=number)  # `json.loads` would make one each time


def _json(body: bytes) -> Any:
    try:
        return _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError):
        return None
