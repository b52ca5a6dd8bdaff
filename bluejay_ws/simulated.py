"""Stand-ins for tools during simulated calls, so that no test books a real table."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bluejay_ws.recorder import DECORATED_TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["simulated_tools", "stand_in"]

# Every mapping in use by its identity, the newest last. Each change is one step, which no other thread can divide.
_in_use: dict[int, Mapping[str, Callable[..., Any]]] = {}


@contextlib.contextmanager
def simulated_tools(tools: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Run stand-ins instead of tools under `record_tool`, in simulated calls only.

    ::

        with simulated_tools({"book_table": lambda **parameters: {"booked": True}}):
            serve_the_agent()

    The stand-ins hold for the whole process, all its threads and tasks, until the block ends. Calls without
    ``X-Simulation-Result-Id`` run the real tools. In the report, the tool call's ``description`` begins with
    ``mocked:``. Blocks may be nested: the inner one goes first.

    Args:
        tools: by the name that the tool has in the report, a function that takes the tool's parameters by name. For
            an ``async`` tool it may be ``async`` too. For a generator it returns what is yielded, as a list, a tuple
            or an iterator; anything else is the only item.

    Raises:
        TypeError: ``tools`` is no mapping, or a stand-in cannot be called.
        ValueError: no tool under `record_tool` has this name yet. Otherwise a slip of the pen would run the real tool.
    """
    mine = _checked(tools)
    _in_use[id(mine)] = mine
    try:
        yield
    finally:
        del _in_use[id(mine)]


def stand_in(name: str) -> Callable[..., Any] | None:
    """Return what runs instead of a tool in a simulated call; None: the tool itself."""
    return next((tools[name] for tools in reversed(list(_in_use.values())) if name in tools), None)


def _checked(tools: object) -> dict[str, Callable[..., Any]]:
    if not isinstance(tools, Mapping):
        message = f"simulated_tools takes a mapping of names to functions, not {type(tools).__name__}"
        raise TypeError(message)
    for name, function in tools.items():
        if not callable(function):
            message = f"simulated_tools: the stand-in for {name!r} must be a function, not {type(function).__name__}"
            raise TypeError(message)
        if name not in DECORATED_TOOLS:
            known = ", ".join(sorted(DECORATED_TOOLS)) or "none"
            message = (
                f"simulated_tools: no function under @record_tool is named {name!r} (there are: {known}); "
                "import the agent first, and write the name as it stands in the report"
            )
            raise ValueError(message)
    return dict(tools)
