"""The fleet of ``examples/fleet``, as one of the fault runs."""

from __future__ import annotations

from fleet.database import NoPostgresError
from fleet.run import Account, run

__all__ = ["Account", "NoPostgresError", "run"]
