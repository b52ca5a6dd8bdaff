"""Where the command line writes: plain lines for people, JSON documents for scripts."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
NARROWEST, WIDEST = 40, 100
QUIET_SECONDS = 1.0  # a shorter wait needs no word


class ReaderLeftError(Exception):
    """Say that nobody takes the output any more: why, or nothing where the reader has seen enough, as ``head`` does."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Problem(Exception):  # noqa: N818 - it ends a command in order, it is no defect
    """End a command with a message for a person, and what to do about it, in place of a traceback."""

    def __init__(self, message: str, remedy: str = "", *, exit_code: int = 1) -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy
        self.exit_code = exit_code


@contextlib.contextmanager
def temporary_directory() -> Iterator[str]:
    """Give a directory for a started agent's spool and log, and remove it on the way out.

    Raises:
        Problem: none can be made: everything is read-only, or full.
    """
    import tempfile  # noqa: PLC0415 - a tenth of the time of the commands that need none

    try:
        directory = tempfile.TemporaryDirectory(prefix="bluejay-ws-", ignore_cleanup_errors=True)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        remedy = "point TMPDIR to a directory that this user can write to"
        raise Problem(f"the agent's spool and log have no place: {reason}", remedy) from None
    with directory as name:
        yield name


class Terminal:
    """Write to a stream: lines for a person, or JSON for a script. Each method writes in one of the two modes only.

    Progress is shown ``aside``; default: nowhere.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        colour: bool = False,
        width: int = 80,
        json_only: bool = False,
        aside: TextIO | None = None,
    ) -> None:
        self._out = out
        self._colour = colour
        self._aside = aside
        self.width = width
        self.json_only = json_only

    @classmethod
    def of(cls, out: TextIO, environ: Mapping[str, str], *, json_only: bool = False) -> Terminal:
        """Return a terminal for ``out``.

        ``NO_COLOR`` switches colours off, ``FORCE_COLOR`` switches them on, also for a pipe. Without either a real
        terminal has colours.
        """
        wanted = bool(environ.get("FORCE_COLOR")) or (out.isatty() and environ.get("TERM") != "dumb")
        columns = shutil.get_terminal_size((80, 24)).columns
        return cls(
            out,
            colour=wanted and not environ.get("NO_COLOR"),
            width=min(max(columns, NARROWEST), WIDEST),
            json_only=json_only,
            aside=sys.stderr,
        )

    # -- for people ---------------------------------------------------------------------------------------------

    def paint(self, text: str, style: str) -> str:
        """Return the text in one of `STYLES`, or as it is where there are no colours or no style is named."""
        return f"\033[{STYLES[style]}m{text}\033[0m" if self._colour and style else text

    def say(self, line: str = "") -> None:
        """Write one line at once; characters that the stream cannot take become ``?``.

        Raises:
            ReaderLeftError: nobody reads any more.
        """
        if not self.json_only:
            self._write(line)

    def title(self, text: str) -> None:
        """Write a heading, with an empty line before it."""
        self.say()
        self.say(self.paint(clean(text), "bold"))

    def wrapped(self, label: str, text: str, *, style: str = "", lines: int = 8, whole_words: bool = False) -> None:
        """Write text behind a label, wrapped to the width and indented; what is beyond ``lines`` is left out.

        Control characters are taken out. With ``whole_words`` a long word, such as a path, is wider than the terminal:
        it can be copied then; and where the stream is no terminal the text is one line: it can be searched.
        """
        indent, width = " " * len(label), max(20, self.width - len(label))
        if whole_words and not self._out.isatty():
            width = len(text) + 1
        found = textwrap.wrap(clean(text), width, break_on_hyphens=False, break_long_words=not whole_words) or [""]
        if len(found) > lines:
            found = [*found[: lines - 1], f"... ({len(text):,} characters)"]
        self.say((self.paint(label, style) + found[0]).rstrip())
        for line in found[1:]:
            self.say(indent + line)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write rows under headings; the last column takes the space that is left and wraps in it."""
        if self.json_only:
            return
        cells = [[clean(cell) for cell in row] for row in rows]
        widths = [max(len(row[place]) for row in [columns, *cells]) for place in range(len(columns) - 1)]
        for number, row in enumerate([columns, *cells]):
            label = "".join(f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=False))
            if number:
                self.wrapped(label, row[-1])
            else:
                self.say(self.paint((label + row[-1]).rstrip(), "bold"))

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show that something is being waited for, once that takes a second; on standard error."""
        over = threading.Event()
        thread = threading.Thread(target=self._show_waiting, args=(clean(what), over), daemon=True)
        if self._aside is not None and not self.json_only:
            thread.start()
        try:
            yield
        finally:
            over.set()
            if thread.ident is not None:
                thread.join()

    def _show_waiting(self, what: str, over: threading.Event) -> None:
        if self._aside is None or over.wait(QUIET_SECONDS):
            return
        begun = time.monotonic() - QUIET_SECONDS
        with contextlib.suppress(OSError, ValueError):  # nobody looks any more
            if not self._aside.isatty():
                self._aside.write(f"{what} ...\n")
                self._aside.flush()
                return
            while not over.wait(0.2):
                self._aside.write(f"\r\033[K{what} ... {time.monotonic() - begun:.0f} s")
                self._aside.flush()
            self._aside.write("\r\033[K")
            self._aside.flush()

    # -- for scripts --------------------------------------------------------------------------------------------

    def document(self, value: Any) -> None:
        """Write one line of JSON, in the mode for scripts only."""
        if self.json_only:
            self._write(json.dumps(value, ensure_ascii=False, default=str))

    def _write(self, line: str) -> None:
        encoding = self._out.encoding or "utf-8"
        try:
            self._out.write(line.encode(encoding, "replace").decode(encoding) + "\n")
            self._out.flush()
        except BrokenPipeError:
            raise ReaderLeftError from None  # an OSError would be taken for the agent's
        except OSError as error:
            raise ReaderLeftError(words_of(error)) from None


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Say as a `Problem` that a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise Problem(f"cannot write {str(error.filename)!r}: {words_of(error)}", exit_code=2) from None


def check_writable(*paths: Path | None) -> None:
    """Try the files of results before the work that ends in them; None stands for a file that is not wanted.

    Raises:
        Problem: one cannot be written.
    """
    for path in filter(None, paths):
        with writing():
            existed = path.exists()
            path.open("ab").close()
            if not existed:
                path.unlink()


def words_of(error: OSError) -> str:
    """Return what the system says of an error."""
    return (error.strerror or "unknown").lower()


def clean(text: str) -> str:
    """Return the text without characters that could steer a terminal; line ends become spaces."""
    return "".join(
        char if char.isprintable() else " " if char.isspace() else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def plural(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun: ``1 report``, ``2 reports``, ``0 replies``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
