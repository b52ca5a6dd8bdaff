"""The platform's names: everything both ends must spell alike.

Source: the platform's published API description and its documentation of simulated calls.
"""

from __future__ import annotations

__all__ = [
    "API_KEY_HEADER",
    "DEFAULT_BASE_URL",
    "ID_HEADER",
    "IN_PROGRESS",
    "RETRIEVE_PATH",
    "RETRIEVE_RUN_PATH",
    "UPDATE_PATH",
]

ID_HEADER = "X-Simulation-Result-Id"
API_KEY_HEADER = "X-API-Key"
DEFAULT_BASE_URL = "https://api.getbluejay.ai"
UPDATE_PATH = "/v1/update-simulation-result"
RETRIEVE_PATH = "/v1/retrieve-simulation-result/"
RETRIEVE_RUN_PATH = "/v1/retrieve-simulation-results/"
IN_PROGRESS = frozenset(
    {"INITIALIZING", "QUEUED", "READY", "DISPATCHED", "RUNNING", "CONVERSATION_ENDED", "EVALUATING"}
)
"""The statuses of a call that the platform is not done with."""
