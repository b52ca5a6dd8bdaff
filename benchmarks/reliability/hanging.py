"""A platform that takes every request and answers none, until it is mended: how soon do calls that end then arrive?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks.reliability.ledger import Notebook
from benchmarks.reliability.stage import ID_HEADER, Stage, make_bluejay
from bluejay_ws.testing.platform import Hang

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.reliability.account import Account
    from bluejay_ws import Bluejay

__all__ = ["run"]

FRESH = 10
BETWEEN = 0.5
DRAIN_SECONDS = 180.0


def run(calls: int, seconds: float, options: Mapping[str, Any] | None = None, *, between: float = BETWEEN) -> Account:
    """Let so many calls end while the platform hangs, mend it, and let one call after the other end from then on.

    Args:
        calls: how many.
        seconds: for how long the platform hangs after the last of them.
        options: of the library; default: its own, with ten seconds until an exchange is given up.
        between: seconds from one of the later calls to the next.
    """
    with Stage(options) as stage:
        client = make_bluejay(
            stage.options, api_key=stage.platform.api_key, base_url=stage.platform.url, spool=stage.spool
        )
        with client:
            _call(stage, client, "warm-0")
            client.flush(30.0)
            stage.platform.otherwise(Hang(), reads=Hang())
            for number in range(calls):
                _call(stage, client, f"waiting-{number}")
            time.sleep(seconds)
            stage.platform.otherwise()
            mended = time.monotonic()
            ended = [_ends_now(stage, client, f"fresh-{number}", between) for number in range(FRESH)]
            stage.wait_until_delivered(DRAIN_SECONDS)
        account = stage.account()
        account.slowest = max(stage.seconds_to(f"fresh-{number}", at) for number, at in enumerate(ended))
        last = max(one.received_at for one in stage.platform.accepted)
        account.notes.append(f"{FRESH} fresh calls, the slowest counts; all delivered {last - mended:.0f} s after")
        return account


def _call(stage: Stage, client: Bluejay, identity: str) -> None:
    with client.call({ID_HEADER: identity}) as recorder:
        Notebook(stage.ledger, recorder).steps(2)


def _ends_now(stage: Stage, client: Bluejay, identity: str, then: float) -> float:
    _call(stage, client, identity)
    ended = time.monotonic()
    time.sleep(then)
    return ended
