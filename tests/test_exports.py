"""The face of the package: its names, its words, its version and what importing it costs."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import bluejay_ws
from bluejay_ws.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    ["bluejay_ws", *(found.name for found in pkgutil.walk_packages(bluejay_ws.__path__, f"{bluejay_ws.__name__}."))]
)


def test_the_package_exports_these_names_and_no_others() -> None:
    """A name on the face is a promise: adding or removing one is a decision, taken here."""
    assert bluejay_ws.__all__ == [
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


def test_every_exported_name_exists() -> None:
    """``from bluejay_ws import *`` works."""
    assert [name for name in bluejay_ws.__all__ if not hasattr(bluejay_ws, name)] == []
    assert set(bluejay_ws.__all__) <= set(dir(bluejay_ws))


def test_a_name_that_is_not_exported_is_named() -> None:
    """As by any module."""
    with pytest.raises(AttributeError, match="module 'bluejay_ws' has no attribute 'recorder_of'"):
        bluejay_ws.recorder_of  # noqa: B018


def _modules_of_users() -> set[str]:
    """The modules that the documentation and the examples import."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.py")]
    imported = re.compile(r"(?:from|import) (bluejay_ws(?:\.\w+)*)")
    return {name for page in pages for name in imported.findall(page.read_text("utf-8"))} & set(MODULES)


def test_every_module_that_users_import_says_what_it_exports() -> None:
    """``__all__`` is there in each of them; elsewhere an underscore is enough. Each name in an ``__all__`` exists."""
    modules = {name: importlib.import_module(name) for name in MODULES}
    assert {name for name in _modules_of_users() if not hasattr(modules[name], "__all__")} == set()
    exported = [(module, name) for module in modules.values() for name in getattr(module, "__all__", ())]
    assert [(module, name) for module, name in exported if not hasattr(module, name)] == []


def test_importing_the_package_leaves_the_heavy_libraries_alone_and_starts_nothing() -> None:
    """An agent pays for pydantic and anyio when it makes a client or needs them; forks see no thread."""
    heavy = ("pydantic", "anyio", "trio", "websockets.asyncio.client", "starlette", "aiohttp", "opentelemetry")
    code = (
        f"from bluejay_ws import *; import sys, threading; "
        f"print([name for name in {heavy!r} if name in sys.modules], threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[] 1\n"


def test_the_version_is_that_of_the_distribution() -> None:
    """``bluejay_ws.__version__``, the reports and ``pip show`` agree."""
    assert getattr(bluejay_ws, "__version__", None) == metadata.version("bluejay_ws") == VERSION


def test_the_newest_entry_of_the_changelog_is_this_version() -> None:
    """Nobody releases a version that the changelog does not tell of."""
    headings = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == VERSION


def test_the_package_is_marked_as_typed() -> None:
    """Type checkers of users read our annotations."""
    assert (Path(bluejay_ws.__path__[0]) / "py.typed").exists()
