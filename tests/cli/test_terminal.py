"""`bluejay_ws.cli.terminal`: plain lines, coloured only for a person at a terminal."""

from __future__ import annotations

import io

import pytest

from bluejay_ws.cli.terminal import Terminal, clean


class Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "environ", "coloured"),
    [
        (Screen(), {}, True),
        (Screen(), {"NO_COLOR": ""}, True),
        (Screen(), {"NO_COLOR": "1"}, False),
        (Screen(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colours_are_for_terminals_whose_owner_wants_them(
    out: io.StringIO, environ: dict[str, str], *, coloured: bool
) -> None:
    """No colour into a pipe, nor with ``NO_COLOR``, nor on a dumb terminal."""
    terminal = Terminal.of(out, environ)
    assert terminal.paint("word", "red") == ("\033[31mword\033[0m" if coloured else "word")
    assert terminal.paint("word", "") == "word"


def test_the_width_follows_the_terminal_within_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow and very wide windows still give readable lines."""
    for columns, width in (("20", 60), ("80", 80), ("300", 100)):
        monkeypatch.setenv("COLUMNS", columns)
        assert Terminal.of(io.StringIO(), {}).width == width


def test_long_text_wraps_under_its_label() -> None:
    """Continuation lines begin where the text began, and no line is wider than the terminal."""
    out = io.StringIO()
    Terminal(out, width=30).wrapped("said  ", "one two three four five six seven eight nine")
    assert out.getvalue() == "said  one two three four five\n      six seven eight nine\n"


def test_very_long_text_says_how_long_it_is() -> None:
    """Beyond the lines allowed comes the number of characters."""
    out = io.StringIO()
    Terminal(out, width=30).wrapped("  ", "word " * 1_000, lines=3)
    first, second, last = out.getvalue().splitlines()
    assert first == second
    assert last == "  ... (5,000 characters)"


def test_empty_text_leaves_its_label() -> None:
    """Nothing to say is one line, without blanks at its end."""
    out = io.StringIO()
    Terminal(out).wrapped("label  ", "")
    assert out.getvalue() == "label\n"


def test_a_title_stands_apart() -> None:
    """An empty line precedes a heading, which is bold where there are colours."""
    out = io.StringIO()
    Terminal(out, colour=True).title("Report")
    assert out.getvalue() == "\n\033[1mReport\033[0m\n"


def test_what_a_stream_cannot_take_becomes_a_question_mark() -> None:
    """An ASCII stream gets text, not a traceback."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Terminal(stream).say("grüß")
    assert raw.getvalue() == b"gr??\n"


def test_control_characters_cannot_steer_the_terminal() -> None:
    """Escape sequences in what an agent or a caller said lose their power; words stay words."""
    assert clean("a\x1b[31mb\0c\nd\u202ee") == "a\ufffd[31mb\ufffdc d\ufffde"
    out = io.StringIO()
    Terminal(out).wrapped("> ", "\x1b]0;title\x07done")
    assert "\x1b" not in out.getvalue()
