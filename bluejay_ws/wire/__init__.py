"""The platform's names, limits and header rules: everything both ends must spell alike.

Source: the platform's published API description and its documentation of simulated calls.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "API_KEY_HEADER",
    "DEFAULT_BASE_URL",
    "ID_HEADER",
    "RETRIEVE_PATH",
    "RETRIEVE_RUN_PATH",
    "UPDATE_PATH",
    "usable_id",
]

ID_HEADER = "X-Simulation-Result-Id"
API_KEY_HEADER = "X-API-Key"
DEFAULT_BASE_URL = "https://api.getbluejay.ai"
UPDATE_PATH = "/v1/update-simulation-result"
RETRIEVE_PATH = "/v1/retrieve-simulation-result/"
RETRIEVE_RUN_PATH = "/v1/retrieve-simulation-results/"

_USABLE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def usable_id(values: Iterable[object]) -> str | None:
    """Return the one simulation result id that the header's values agree on, or None.

    Proxies can repeat a header: equal values count as one. Differing values, an empty one, or one
    that is not 1 to 64 letters, digits, ``_`` or ``-`` is no usable id.

    Args:
        values: every value the connect request carries for `ID_HEADER`.

    Returns:
        The id, or None when there is no value or no usable one.
    """
    distinct = set(values)
    if len(distinct) != 1:
        return None
    (value,) = distinct
    return value if isinstance(value, str) and _USABLE_ID.fullmatch(value) else None
