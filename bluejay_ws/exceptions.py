"""The errors of bluejay_ws.

::

    BluejayError
    ├── ConfigurationError   a setting cannot be used (also a ValueError)
    ├── DeliveryError        reports are left undelivered where the caller asked for all of them
    ├── ResultError          what the platform shows for a call cannot be read
    └── SpoolError           the spool directory, or a file in it, cannot be used

None of them is ever raised into a live call: there, what cannot be done is counted and logged.
"""

from __future__ import annotations

__all__ = ["BluejayError", "ConfigurationError", "DeliveryError", "ResultError", "SpoolError"]


class BluejayError(Exception):
    """Catch every error that bluejay_ws raises."""


class ConfigurationError(BluejayError, ValueError):
    """Say which setting cannot be used, why, and what to write instead.

    Args:
        setting: the name the user typed, such as ``api_key`` or ``BLUEJAY_API_URL``.
        reason: what is wrong with it; never holds the value of a secret.
        remedy: what to do about it.
    """

    def __init__(self, setting: str, reason: str, remedy: str) -> None:
        super().__init__(setting, reason, remedy)
        self.setting = setting
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.setting} {self.reason}; {self.remedy}"


class DeliveryError(BluejayError):
    """Say which reports the platform has not accepted, where the caller asked for all of them.

    Args:
        undelivered: how many reports wait, are held or are parked, by state.
        reason: what happened to the newest of them.
    """

    def __init__(self, undelivered: dict[str, int], reason: str) -> None:
        super().__init__(undelivered, reason)
        self.undelivered = undelivered
        self.reason = reason

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.undelivered.items() if count)
        return f"not every report was delivered ({counts or 'none counted'}): {self.reason}"


class ResultError(BluejayError):
    """Say of which call or run the platform's result cannot be read, and why.

    Args:
        what: such as ``call 720488``.
        reason: why it cannot be read.
        remedy: what to do about it.
    """

    def __init__(self, what: str, reason: str, remedy: str) -> None:
        super().__init__(what, reason, remedy)
        self.what = what
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} {self.reason}; {self.remedy}"


class SpoolError(BluejayError):
    """Say which path of the spool cannot be used, and why.

    Args:
        path: the directory or file.
        reason: what is wrong with it.
        remedy: what to do about it.
    """

    def __init__(self, path: str, reason: str, remedy: str) -> None:
        super().__init__(path, reason, remedy)
        self.path = path
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"spool {self.path!r} {self.reason}; {self.remedy}"
