"""The house: which module may import which.

Read the rows from bottom to top. A row imports from the rows below it and never from its own or a higher one;
what stands in one room may import each other. Imports are read from the syntax tree, so those inside
functions and under ``TYPE_CHECKING`` count like any other.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "bluejay_ws"
ROWS = (
    {"exceptions", "interrupts", "stats", "log", "settings", "version", "wire"},  # ground
    {"hearing", "blocks", "recorder", "current", "simulated"},  # facts
    {"delivery"},  # out
    {"outcome", "call", "client", "results"},  # join
    {"servers"},  # adapters
    {"decorator", "integrations", "tools"},  # edges
    {"timeline"},  # what people look at
    {"", "__main__", "cli", "pytest_plugin"},  # face; "" is the package root
)
BESIDE = "testing"
OPEN_ROWS = (0, 1, 3)  # small rows without strangers
ROOMS = ({"wire"}, {"hearing"}, {"delivery"}, {"servers"}, {"integrations"}, {"timeline"}, {"cli"}, {"testing"})
PURE = {"wire", "hearing", "blocks", "recorder", "current", "simulated"}
PURE_MODULES = tuple(  # taps read what passes by
    f"integrations.{name}"
    for name in (
        *("tap", "openai_realtime", "openai_live", "gemini_live", "elevenlabs", "deepgram", "assemblyai", "nova_sonic"),
        *("conversation_relay", "cartesia_line", "hume", "ultravox", "pipecat_frames"),
    )
)
IMPURE_LIBRARIES = {
    *("asyncio", "anyio", "trio", "concurrent", "threading", "multiprocessing", "signal", "subprocess", "time"),
    *("io", "os", "shutil", "socket", "ssl", "select", "selectors", "tempfile", "http", "websockets"),
}


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name below the package, its tree, and what it imports."""

    name: str
    path: Path

    @property
    def top(self) -> str:
        return "cli" if self.name == "__main__" else self.name.partition(".")[0]  # `python -m bluejay_ws`

    @property
    def row(self) -> int:
        found = [number for number, row in enumerate(ROWS) if self.top in row]
        assert found, f"{self.path} stands in no row of the house: add it to ROWS"
        return found[0]

    @cache  # noqa: B019 - a handful of modules, for one test run
    def imports(self) -> frozenset[str]:
        """Return the full dotted names of all modules that this file imports."""
        found: set[str] = set()
        for node in _statements(ast.parse(self.path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno} imports relatively"
                found.update(_named(node.module or "", alias.name) for alias in node.names)
        return frozenset(found)

    def own_imports(self) -> list[Module]:
        """Return the modules of this package that this file imports."""
        names = [name for name in self.imports() if name == PACKAGE or name.startswith(f"{PACKAGE}.")]
        return [MODULES[name.removeprefix(PACKAGE).removeprefix(".")] for name in names]

    def libraries(self) -> set[str]:
        """Return the top names of everything else that this file imports."""
        return {name.partition(".")[0] for name in self.imports()} - {PACKAGE, "__future__"}


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what may be an import, and not what statements are made of: most of a tree."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for inner in ("body", "orelse", "finalbody", "handlers", "cases"):
            found = getattr(node, inner, ())
            waiting += found if isinstance(found, list) else ()


def _named(module: str, name: str) -> str:
    """Return what ``from module import name`` imports: a submodule if there is one, else the module."""
    inner = f"{module}.{name}"
    is_module = inner.removeprefix(f"{PACKAGE}.") in MODULES
    return inner if inner.startswith(f"{PACKAGE}.") and is_module else module


def _modules() -> dict[str, Module]:
    found: dict[str, Module] = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = Module(name, path)
    return found


MODULES = _modules()


def _may_import(module: Module, other: Module) -> bool:
    if other.top == BESIDE:
        return module.top == BESIDE or module.row == len(ROWS) - 1
    if module.top == BESIDE:
        return False
    if module.row == other.row:
        return module.row in OPEN_ROWS or any({module.top, other.top} <= room for room in ROOMS)
    return other.row < module.row


def test_a_module_imports_only_from_the_rows_below_it() -> None:
    """Imports point downward; siblings are strangers; the test kit knows nothing of the judged."""
    pairs = [(module, other) for module in MODULES.values() for other in module.own_imports()]
    assert [(module.name, other.name) for module, other in pairs if not _may_import(module, other)] == []


def test_no_module_imports_the_package_root() -> None:
    """The root is the face for users: an import of it from inside would point upward."""
    assert [module.name for module in MODULES.values() if MODULES[""] in module.own_imports()] == []


def test_there_is_no_cycle_of_imports() -> None:
    """The modules can be read in an order in which each uses only what was read before, type annotations included."""
    graph = {name: [other.name for other in module.own_imports()] for name, module in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle: {error.args[1]}")


def test_only_one_module_speaks_http() -> None:
    """The HTTP client can be replaced in one place, and that place is in delivery."""
    clients = {"http.client", "httpx", "urllib3", "requests"}
    users = [module.name for module in MODULES.values() if module.imports() & clients and module.top != BESIDE]
    assert users == ["delivery.http"]


def test_pure_modules_know_no_event_loop_thread_clock_or_file() -> None:
    """What records, observes and encodes is given its clock and its journal: it runs anywhere."""
    pure = [module for module in MODULES.values() if module.top in PURE or module.name in PURE_MODULES]
    assert len(pure) > len(PURE)
    assert {module.name: found for module in pure if (found := module.libraries() & IMPURE_LIBRARIES)} == {}


def test_taps_import_no_provider() -> None:
    """A tap reads what passes by; it needs nobody's SDK."""
    strange = {name: MODULES[name].libraries() - sys.stdlib_module_names for name in PURE_MODULES}
    assert {name: found for name, found in strange.items() if found} == {}


A_TEST = re.compile(r"\bdef test_")
ITS_WORDS = re.compile(r"""\bdef test_\w+\([^)]*\) -> [\w.]+:(?: *#.*)?\n +""\"[A-Z`"'(]""")


def test_each_test_says_what_must_be_true() -> None:
    """A test's name is a sentence, and its docstring says what must be true."""
    texts = {path: path.read_text("utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py"))}
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path, text in texts.items()
        if len(A_TEST.findall(text)) != len(ITS_WORDS.findall(text))  # most need not be parsed
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []
