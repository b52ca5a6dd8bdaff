"""Ask the platform who it is: one client is made, and every way in which that fails is named."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluejay_ws.delivery.http import HttpExchange, UnusableVariableError, tls_context
from bluejay_ws.delivery.outcomes import Answer, Phase

if TYPE_CHECKING:
    from bluejay_ws.delivery.outcomes import Failure
    from bluejay_ws.settings import Settings

NOBODY = "bluejay-ws-doctor"  # an id that no call has
NO_REPORT = b"{}"  # names no call: Bluejay's API has to refuse it, and to say why
REMEDY = "write it like http://proxy:3128; a proxy that speaks SOCKS or TLS cannot be used: leave it out with NO_PROXY"
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
REFUSED_KEY = frozenset({401, 403})
UNCLEAR = frozenset({200, 400, 404, 422})
LATER = frozenset({408, 425, 429, *range(500, 600)})
SILENCES = {
    "dns": "its host name cannot be resolved",
    "connect_error": "no connection can be made",
    "connect_timeout": "the connection takes too long",
    "read_timeout": "the answer takes too long",
    "remote_protocol_error": "the connection ended without an answer",
}
"""Why the platform did not answer, by the error's name."""
NO_WAY = frozenset({"dns", "connect_error", "connect_timeout"})
"""Those before anybody was reached: where a proxy is to be asked, it was not."""


@dataclass(frozen=True, slots=True)
class Client:
    """What became of making a client: the variable that cannot be used, or none; why, and what to do about it."""

    variable: str = ""
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the platform's URL answered.

    Args:
        kind: ``bluejay``; ``refused`` (it is an API, and does not take the key); ``other`` (something else answers);
            ``failing`` (a status that says: later); ``silent`` (no answer); ``certificate`` (not trusted).
        words: the status, or the reason.
    """

    kind: str
    words: str = ""


def culprit(settings: Settings) -> Client:
    """Return which variable of the environment keeps a client from being made, if one does."""
    try:
        HttpExchange(settings, tls_context(settings)).close()
    except UnusableVariableError as error:
        if error.variable in CERTIFICATES:
            cause = error.__cause__ or error
            reason = (getattr(cause, "strerror", None) or type(cause).__name__).lower()
            return Client(error.variable, f"cannot be used: {reason}", "give the path of a file of PEM certificates")
        name = error.variable.upper() if os.environ.get(error.variable) else error.variable
        return Client(name, "cannot be used by the HTTP client", REMEDY)
    return Client()


def ask(settings: Settings) -> Reply:
    """Ask for a result that does not exist; where that is not proof enough, offer a report that must be refused."""
    context = tls_context(settings)
    with closing(HttpExchange(settings, context)) as exchange:
        outcome = exchange.look(NOBODY)
        if not isinstance(outcome, Answer):
            return _silence(outcome)
        if outcome.status in UNCLEAR and not _is_result(outcome):
            proof = exchange.post(NO_REPORT)
            return _proof(proof) if isinstance(proof, Answer) else _silence(proof)
    return Reply("bluejay") if _is_result(outcome) else _by_status(outcome)


def _proof(answer: Answer) -> Reply:
    """Judge the answer to a report that names no call."""
    found = _json(answer)
    detail = found.get("detail") if isinstance(found, dict) else None
    return Reply("bluejay") if answer.status in {400, 409, 422} and detail else _by_status(answer)


def _by_status(answer: Answer) -> Reply:
    if answer.status in REFUSED_KEY and isinstance(_json(answer), dict):
        return Reply("refused", f"HTTP {answer.status}")
    return Reply("failing" if answer.status in LATER else "other", f"HTTP {answer.status}")


def _is_result(answer: Answer) -> bool:
    found = _json(answer)
    return answer.status == 200 and isinstance(found, dict) and isinstance(found.get("simulation_result"), dict)


def _silence(failure: Failure) -> Reply:
    return Reply("certificate" if failure.phase is Phase.CERTIFICATE else "silent", failure.reason)


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
