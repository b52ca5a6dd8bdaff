"""Where the command line writes: plain lines, coloured only for a person at a terminal."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Problem", "ReaderLeftError", "Terminal", "clean"]

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
NARROWEST, WIDEST = 60, 100


class ReaderLeftError(Exception):
    """Say that whoever read the output has seen enough, as ``head`` does."""


class Problem(Exception):  # noqa: N818 - it ends a command in order, it is no defect
    """End a command with a message for a person in place of a traceback.

    Args:
        message: what is wrong, in one line.
        remedy: what to do about it.
        exit_code: of the process.
    """

    def __init__(self, message: str, remedy: str = "", *, exit_code: int = 1) -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy
        self.exit_code = exit_code


class Terminal:
    """Write lines to a stream.

    Args:
        out: the stream.
        colour: paint what `paint` is asked to paint.
        width: columns to stay within.
    """

    def __init__(self, out: TextIO, *, colour: bool = False, width: int = 80) -> None:
        self._out = out
        self._colour = colour
        self.width = width

    @classmethod
    def of(cls, out: TextIO, environ: Mapping[str, str]) -> Terminal:
        """Return a terminal for ``out``: coloured if it is one and ``NO_COLOR`` is not set."""
        colour = out.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        columns = shutil.get_terminal_size((80, 24)).columns
        return cls(out, colour=colour, width=min(max(columns, NARROWEST), WIDEST))

    def paint(self, text: str, style: str) -> str:
        """Return the text in one of `STYLES`, or as it is where there are no colours or no style is named."""
        return f"\033[{STYLES[style]}m{text}\033[0m" if self._colour and style else text

    def say(self, line: str = "") -> None:
        """Write one line at once; characters that the stream cannot take become ``?``.

        Raises:
            ReaderLeftError: nobody reads any more.
        """
        encoding = self._out.encoding or "utf-8"
        try:
            self._out.write(line.encode(encoding, "replace").decode(encoding) + "\n")
            self._out.flush()
        except BrokenPipeError:
            raise ReaderLeftError from None  # an OSError would be taken for the agent's

    def title(self, text: str) -> None:
        """Write a heading, with an empty line before it."""
        self.say()
        self.say(self.paint(text, "bold"))

    def wrapped(self, label: str, text: str, *, style: str = "", lines: int = 8) -> None:
        """Write text behind a label, wrapped to the width and indented; what is beyond ``lines`` is left out.

        Args:
            label: stands before the first line; its length is the indentation of the others.
            text: cleaned of control characters here.
            style: of the label.
            lines: how many at most.
        """
        indent = " " * len(label)
        found = textwrap.wrap(clean(text), max(20, self.width - len(indent)), break_on_hyphens=False) or [""]
        if len(found) > lines:
            found = [*found[: lines - 1], f"... ({len(text):,} characters)"]
        self.say((self.paint(label, style) + found[0]).rstrip())
        for line in found[1:]:
            self.say(indent + line)


def clean(text: str) -> str:
    """Return the text without characters that could steer a terminal; line ends become spaces."""
    return "".join(
        char if char.isprintable() else " " if char.isspace() else "\N{REPLACEMENT CHARACTER}" for char in text
    )
