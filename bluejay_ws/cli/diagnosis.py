"""Why no report came: the cases differ in what the platform, the spool and the agent's process show."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bluejay_ws.cli.terminal import Problem, clean
from bluejay_ws.delivery import admin as outbox
from bluejay_ws.delivery.files import LIVE, SENT, STATES
from bluejay_ws.exceptions import BluejayError
from bluejay_ws.settings import default_spool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bluejay_ws.testing.caller import CallLog
    from bluejay_ws.testing.platform import FakePlatform

CRASHED = 1011  # the close code with which servers end a connection whose handler raised

RUN = 'or let this command start it: bluejay-ws call --run "python agent.py"'


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Hold what is known about a call whose report did not come.

    ``environ`` is what the agent was started with, None where that cannot be seen; ``spool`` the one it is known to
    use, None for the one that ``environ`` names; ``crashed`` tells whether the agent has written a traceback.
    """

    call: str
    log: CallLog
    platform: FakePlatform
    environ: Mapping[str, str] | None = None
    spool: Path | None = None
    crashed: Callable[[], bool] = bool


def explain(evidence: Evidence) -> Problem:
    """Return the likeliest reason, and what to do about it."""
    return (
        _refused_by_the_platform(evidence.platform)
        or _kept_in_a_spool(evidence)
        or _variables_missing(evidence)
        or _crashed(evidence)
        or _not_recorded(evidence)
    )


def _refused_by_the_platform(platform: FakePlatform) -> Problem | None:
    if platform.rejected:
        problem = platform.rejected[-1].problems[0]
        place = ".".join(map(str, problem["loc"])) if isinstance(problem["loc"], (list, tuple)) else ""
        return Problem(f"the platform rejected the report: {clean(place)}: {clean(str(problem['msg']))}")
    if not platform.requests:
        return None
    answer = str(platform.requests[-1].answer)
    if "401" in answer:
        return Problem(
            "the agent reports with another API key, and the local platform refused it (401)",
            f"start the agent with BLUEJAY_API_KEY={platform.api_key}",
        )
    return Problem(f"no report was accepted; the last request was answered with {answer}")


def _kept_in_a_spool(evidence: Evidence) -> Problem | None:
    spool = evidence.spool or spool_of(evidence.environ)
    state = None if spool is None else _state_in(spool, evidence.call)
    if spool is None or state is None:
        return None
    message = f"the agent recorded the call, and its report is in the spool {spool} ({state}), not sent to {{}}"
    if state == LIVE:
        message = f"the agent recorded the call, and has not ended it yet (spool {spool}); nothing was sent to {{}}"
    return Problem(
        message.format(evidence.platform.url),
        f"start the agent with BLUEJAY_API_URL={evidence.platform.url} and"
        f" BLUEJAY_API_KEY={evidence.platform.api_key}, {RUN}",
    )


def _state_in(spool: Path, call: str) -> str | None:
    """Return the state and the reason of the report of a call, if the spool holds it."""
    try:
        found = [entry for entry in outbox.entries(spool, states=STATES) if entry.name.identity == call]
    except BluejayError:
        return None
    if not found or found[-1].name.state == SENT:
        return None
    return found[-1].name.state if not found[-1].reason else f"{found[-1].name.state}: {clean(found[-1].reason)}"


def _variables_missing(evidence: Evidence) -> Problem | None:
    environ, wanted = evidence.environ, evidence.platform.url
    if environ is None or environ.get("BLUEJAY_API_URL", "").rstrip("/").removesuffix("/v1") == wanted:
        return None
    given = environ.get("BLUEJAY_API_URL")
    message = (
        f"the agent was started with BLUEJAY_API_URL={clean(given)}, not {wanted}"
        if given
        else "the agent was started without BLUEJAY_API_URL"
    )
    return Problem(message, f"start it again with the variables above, {RUN}")


def _crashed(evidence: Evidence) -> Problem | None:
    if not evidence.crashed() and evidence.log.close_code != CRASHED:
        return None
    words = "the agent's handler crashed, and no report came: it is not under @record"
    return Problem(words, "mend the error that the agent's log shows, and put @record above the handler")


def _not_recorded(evidence: Evidence) -> Problem:
    remedy = "put @record above the handler that serves this path (README: Your server)"
    if evidence.environ is not None or evidence.spool is not None:
        return Problem("the agent sent no report: the handler that took the call is not under @record", remedy)
    return Problem(
        "the agent sent no report: its handler is not under @record, or it was started without the two variables",
        f"{remedy}; start the agent with the variables above, {RUN}",
    )


def spool_of(environ: Mapping[str, str] | None) -> Path | None:
    """Return the spool that a process with these variables uses, unless its code says otherwise."""
    if environ is None:
        return None
    if environ.get("BLUEJAY_SPOOL"):
        return Path(environ["BLUEJAY_SPOOL"])
    try:
        return default_spool(environ)
    except BluejayError:
        return None


def is_local(url: str) -> bool:
    """Return whether a platform's URL points to this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
