"""`bluejay_ws.cli.terminal`: plain lines, coloured only for a person at a terminal."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from bluejay_ws.cli.terminal import Problem, Terminal, clean, plural, temporary_directory


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
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (io.StringIO(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals_whose_owner_wants_them(
    out: io.StringIO, environ: dict[str, str], *, coloured: bool
) -> None:
    """No colour into a pipe, nor with ``NO_COLOR``, nor on a dumb terminal; ``FORCE_COLOR`` wants it in a pipe too."""
    terminal = Terminal.of(out, environ)
    assert terminal.paint("word", "red") == ("\033[31mword\033[0m" if coloured else "word")
    assert terminal.paint("word", "") == "word"


def test_the_width_follows_the_terminal_within_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow and very wide windows still give readable lines."""
    for columns, width in (("20", 40), ("60", 60), ("80", 80), ("300", 100)):
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


def test_numbers_agree_with_their_nouns() -> None:
    """One is singular, everything else is not."""
    assert [plural(0, "report"), plural(1, "report"), plural(2_000, "report")] == [
        "0 reports",
        "1 report",
        "2,000 reports",
    ]
    assert plural(2, "reply", "replies") == "2 replies"


def test_a_script_gets_json_and_nothing_else() -> None:
    """Lines for people are left out in the mode for scripts, and documents in the mode for people."""
    for json_only in (True, False):
        out = io.StringIO()
        terminal = Terminal(out, json_only=json_only)
        terminal.title("Report")
        terminal.wrapped("label ", "text")
        terminal.table(["a"], [["b"]])
        terminal.document({"report": "ü"})
        if json_only:
            assert json.loads(out.getvalue()) == {"report": "ü"}
        else:
            assert "ü" not in out.getvalue()


def test_a_table_has_headings_and_wraps_its_last_column() -> None:
    """Words in columns, within the width, and nothing that steers the terminal."""
    out = io.StringIO()
    rows = [["720488", "waiting", "word " * 20], ["7", "parked", "\x1b[2J"]]
    Terminal(out, width=50).table(["call", "state", "reason"], rows)
    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["call", "state", "reason"]
    assert lines[1].split()[:3] == ["720488", "waiting", "word"]
    assert len(lines) > 4
    assert max(map(len, lines)) <= 50
    assert "\x1b" not in out.getvalue()


def wait_until(seen: io.StringIO, words: str) -> None:
    """Return when the words have been written."""
    deadline = time.monotonic() + 20
    while words not in seen.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("aside", [Screen(), io.StringIO()])
def test_a_wait_of_more_than_a_second_is_shown(aside: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal sees the seconds go by and is left clean, a file gets one line."""
    monkeypatch.setattr("bluejay_ws.cli.terminal.QUIET_SECONDS", 0.01)
    with Terminal(io.StringIO(), aside=aside).waiting("waiting for the agent"):
        wait_until(aside, "waiting for the agent ...")
    written = aside.getvalue()
    assert written.endswith("\r\033[K" if aside.isatty() else "waiting for the agent ...\n")


def test_a_short_wait_is_not_shown() -> None:
    """Nobody needs a word about what is over at once; a script gets none at all."""
    aside = io.StringIO()
    with Terminal(io.StringIO(), aside=aside).waiting("waiting"):
        pass
    with Terminal(io.StringIO(), aside=aside, json_only=True).waiting("waiting"):
        pass
    assert aside.getvalue() == ""


def test_without_a_place_for_files_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is read-only or full: no traceback of the standard library; where there is one, it is removed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_directory() as name:
        assert Path(name).parent == tmp_path
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(Problem, match="have no place: no such file or directory") as raised, temporary_directory():
        pass
    assert "TMPDIR" in raised.value.remedy
