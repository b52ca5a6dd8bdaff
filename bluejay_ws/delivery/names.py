"""The names of spool files: ``<simulation_result_id or "+">.<report_id>.<state>``.

The name of a live file also says whose call it is (see `owner`): ``<id>.<report_id>.<token>.live``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from bluejay_ws.wire.ids import usable_id

__all__ = ["HELD", "LIVE", "NO_ID", "PARKED", "READY", "SENDING", "SENT", "STATES", "Name"]

LIVE, READY, SENDING, SENT, HELD, PARKED = "live", "ready", "sending", "sent", "held", "parked"
STATES = (LIVE, READY, SENDING, SENT, HELD, PARKED)
NO_ID = "+"  # no id can hold it

_NAME = re.compile(
    r"([A-Za-z0-9_-]{1,64}|\+)\.([0-9a-f]{32})\.(?:([0-9a-f]{16})\.(?=live))?(live|ready|sending|sent|held|parked)",
    re.ASCII,
)


class Name(NamedTuple):
    """A spool file's name, in its parts.

    Args:
        identity: the simulation result id, or `NO_ID`.
        report_id: 32 hexadecimal characters.
        state: one of `STATES`.
        token: of the process whose call goes on; empty in every other state, and where the file's own lock tells.
    """

    identity: str
    report_id: str
    state: str
    token: str = ""

    @classmethod
    def of(cls, simulation_result_id: str | None, report_id: str, state: str) -> Name:
        """Return the name for a call; an id that cannot stand in a file name becomes `NO_ID`."""
        usable = simulation_result_id is not None and usable_id([simulation_result_id]) is not None
        return cls(simulation_result_id if usable and simulation_result_id else NO_ID, report_id, state)

    @classmethod
    def parse(cls, text: str) -> Name | None:
        """Return the parts of a file's name, or None if it is not one of ours."""
        match = _NAME.fullmatch(text)
        return cls(match[1], match[2], match[4], match[3] or "") if match else None

    def __str__(self) -> str:
        return f"{self.identity}.{self.report_id}.{self.token and self.token + '.'}{self.state}"

    def become(self, state: str) -> Name:
        """Return the same name in another state, in which it is nobody's."""
        return Name(self.identity, self.report_id, state)
