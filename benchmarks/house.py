"""``python -m benchmarks.house [--write]``: the size of the house, counted, beside what its design asked for."""

from __future__ import annotations

import ast
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.reliability.outage import Outage
from benchmarks.reliability.page import with_tables

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

__all__ = ["BEGIN", "END", "counted", "main", "one_step"]

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "bluejay_ws"
PAGE = ROOT / "docs" / "decisions.md"
BEGIN, END = "<!-- the house in numbers -->", "<!-- end of the numbers -->"
NOT_CORE = ("testing", "cli", "integrations", "timeline", "pytest_plugin", "__main__")
FLEET = ("handover", "postgres", "postgres_admin", "deliverer", "migrations")


@dataclass(frozen=True)
class Size:
    """How large some modules are."""

    modules: int
    lines: int
    classes: int


def _name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def _modules() -> dict[str, Path]:
    return {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _core() -> list[str]:
    return [name for name in _modules() if name.partition(".")[0] not in NOT_CORE]


def counted(names: Iterable[str]) -> Size:
    """Return the size of these modules; those of a line or two, which only make a folder a package, do not count."""
    texts = [text for name in names if len((text := _modules()[name].read_text("utf-8")).splitlines()) > 2]
    classes = sum(isinstance(node, ast.ClassDef) for text in texts for node in ast.walk(ast.parse(text)))
    return Size(len(texts), sum(len(text.splitlines()) for text in texts), classes)


@cache
def _level(name: str) -> int:
    """Return how many modules of the package are loaded one below the other, this one included."""
    tree = ast.parse(_modules()[name].read_text("utf-8"))
    below = {other for node in tree.body for other in _imported(node)} & set(_modules()) - {name}
    return 1 + max(map(_level, below), default=0)


def _imported(node: ast.stmt) -> Iterable[str]:
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bluejay_ws"):
        module = (node.module or "").partition(".")[2]
        yield module
        yield from (f"{module}.{alias.name}".lstrip(".") for alias in node.names)


# -- one delivery step ----------------------------------------------------------------------------------------------


def one_step() -> tuple[int, int]:
    """Return how often one accepted report goes from one room of delivery to another, and in how many it is.

    The report is due, a worker takes it, the platform accepts it: the real queue, attempts and spool, watched by the
    interpreter's profiler.
    """
    with tempfile.TemporaryDirectory() as directory:
        outage = Outage(Path(directory), 1, lambda *_: None)
        outage.call()
        outage.call()
        _handle_next(outage)  # makes directories and fills caches
        rooms = _watched(lambda: _handle_next(outage))
        assert len(outage.line.accepted) == 2
        outage.client.close()
    stays = [room for room, _ in groupby(rooms)]
    return len(stays), len(set(stays))


def _handle_next(outage: Outage) -> None:
    item: Any = outage.queue.inbox.get()
    outage.queue.handle(item, outage.line)


def _watched(action: Any) -> list[str]:
    """Return the room of each function that runs, again where one comes back to it."""
    rooms: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event in {"call", "return"}:
            at = frame if event == "call" else frame.f_back
            path = Path(at.f_code.co_filename) if at is not None else ROOT
            if path.is_relative_to(PACKAGE / "delivery"):
                rooms.append(path.stem)

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return rooms


# -- the table ------------------------------------------------------------------------------------------------------


def table() -> str:
    """Return the numbers of the design side by side with what was reached."""
    names = _core()
    core = counted(names)
    delivery = counted(name for name in names if name.startswith("delivery.") and name.split(".")[1] not in FLEET)
    fleet = counted(name for name in names if name.startswith("delivery.") and name.split(".")[1] in FLEET)
    wire = counted(name for name in names if name.startswith("wire."))
    stays, rooms = one_step()
    rows = [
        ("", "before", "design", "now"),
        ("---",) * 4,
        ("core: lines in modules", "10,800 in 59", "about 8,500 in 38", f"{core.lines:,} in {core.modules}"),
        ("core: classes", "", "", str(core.classes)),
        ("delivery: lines in modules", "4,350 in 24", "about 3,000 in 13", f"{delivery.lines:,} in {delivery.modules}"),
        ("delivery: classes", "37", "", str(delivery.classes)),
        ("delivery of a fleet, which came later", "", "", f"{fleet.lines:,} in {fleet.modules}"),
        ("wire: modules", "", "about 6", f"{wire.modules} ({wire.lines:,} lines)"),
        ("levels of imports", "17", "at most 10", str(max(map(_level, names)))),
        ("one delivery step: stays, rooms", "33 in 11", "about 12", f"{stays} in {rooms}"),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(words: list[str]) -> int:
    """Print the table; with ``--write`` keep it in docs/decisions.md."""
    new = table()
    print(new)
    if "--write" in words:
        PAGE.write_text(with_tables(PAGE.read_text("utf-8"), new, BEGIN, END), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
