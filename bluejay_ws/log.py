"""The one way to log: counted first, throttled where it repeats, and never an exception for the agent."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bluejay_ws.stats import Counters

logger = logging.getLogger("bluejay_ws")


def say(counters: Counters, level: int, text: str, *args: object, simulation_result_id: str | None = None) -> None:
    """Log what has been counted, about a call or, without an id, about none; never raises. See also `say_seldom`.

    The agent's own log handlers and filters run in here. One that raises would raise into the agent's code, at a
    place where it would have logged nothing: that is counted instead. Nothing in ``text`` and ``args`` may come from
    outside.
    """
    try:
        logger.log(level, text, *args, extra={"simulation_result_id": simulation_result_id})
    except Exception:  # noqa: BLE001 - what a log handler raises must not reach the agent through us
        counters.add("errors.log")


def say_seldom(
    counters: Counters,
    level: int,
    text: str,
    *args: object,
    key: tuple[object, ...] | None = None,
    simulation_result_id: str | None = None,
) -> None:
    """Do what `say` does, but the same once a minute only: what goes wrong may do so with every frame of every call.

    ``key`` is what makes two lines the same; default the words, so that an error raised again counts as the same.
    """
    left_out = counters.unsaid(key or (text, *map(str, args)))
    if left_out is None:
        return
    more = f" (and {left_out} more like it)" if left_out else ""
    say(counters, level, f"{text}{more}", *args, simulation_result_id=simulation_result_id)
