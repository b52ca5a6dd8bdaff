"""Report what really happened in every Bluejay simulation of your voice agent.

::

    from bluejay_ws import current_recorder, record, record_tool

    @record                                  # one recorder for each connection; reports when it closes
    async def agent(websocket):
        current_recorder().agent_said("Hello, how can I help?")
"""

from __future__ import annotations

from bluejay_ws.version import VERSION

TYPE_CHECKING = False  # `typing` itself would be half of what `bluejay-ws --version` imports
if TYPE_CHECKING:
    from typing import Any

    from bluejay_ws.client import Bluejay
    from bluejay_ws.current import current_recorder
    from bluejay_ws.decorator import record
    from bluejay_ws.exceptions import BluejayError, DeliveryError
    from bluejay_ws.recorder import Recorder
    from bluejay_ws.settings import Retry
    from bluejay_ws.simulated import simulated_tools
    from bluejay_ws.tools import record_tool

__all__ = [
    "Bluejay",
    "BluejayError",
    "DeliveryError",
    "Recorder",
    "Retry",
    "current_recorder",
    "record",
    "record_tool",
    "simulated_tools",
]

__version__ = VERSION

# Each name is imported when it is first asked for: the command line pays for what a command uses, and no more.
_MODULES = {
    "Bluejay": "client",
    "BluejayError": "exceptions",
    "DeliveryError": "exceptions",
    "Recorder": "recorder",
    "Retry": "settings",
    "current_recorder": "current",
    "record": "decorator",
    "record_tool": "tools",
    "simulated_tools": "simulated",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - as `typing`

    value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
