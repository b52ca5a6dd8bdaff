"""The names of spool files: ``<simulation_result_id>.<report_id>.<state>``.

The name of a live file also says whose call it is (see `processlock`): ``<id>.<report_id>.<token>.live``. So does that
of a ready file which its own process brings elsewhere.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from zlib import crc32

__all__ = ["HELD", "LIVE", "PARKED", "READY", "SENDING", "SENT", "STATES", "Name", "shard_of"]

LIVE, READY, SENDING, SENT, HELD, PARKED = "live", "ready", "sending", "sent", "held", "parked"
STATES = (LIVE, READY, SENDING, SENT, HELD, PARKED)
SHARDS = 64
"""Each place of a spool has so many directories, so that a call is found without reading a long listing."""

_NAME = re.compile(
    r"([A-Za-z0-9_-]{1,64})\.([0-9a-f]{32})\.(?:([0-9a-f]{16})\.(?=live|ready))?(live|ready|sending|sent|held|parked)",
    re.ASCII,
)


class Name(NamedTuple):
    """A spool file's name, in its parts.

    Args:
        identity: the simulation result id.
        report_id: 32 hexadecimal characters.
        state: one of `STATES`.
        token: of the process whose file it is; empty where it is nobody's, or the file's own lock tells.
    """

    identity: str
    report_id: str
    state: str
    token: str = ""

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


def shard_of(simulation_result_id: str) -> str:
    """Return the name of the directory that holds all files of a call."""
    return f"{crc32(simulation_result_id.encode()) % SHARDS:02x}"
