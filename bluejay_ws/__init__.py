"""Report what really happened in every Bluejay simulation of your voice agent.

::

    from bluejay_ws import current_recorder, record, record_tool

    @record                                  # one recorder for each connection; reports when it closes
    async def agent(websocket):
        current_recorder().agent_said("Hello, how can I help?")
"""

from bluejay_ws.client import Bluejay
from bluejay_ws.current import current_recorder
from bluejay_ws.decorator import record
from bluejay_ws.exceptions import BluejayError, DeliveryError
from bluejay_ws.recorder import Recorder
from bluejay_ws.settings import Retry
from bluejay_ws.simulated import simulated_tools
from bluejay_ws.tools import record_tool
from bluejay_ws.version import VERSION

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
