"""`bluejay_ws.cli.arguments`: numbers on the command line."""

from __future__ import annotations

import argparse

import pytest

from bluejay_ws.cli.arguments import count, new_parser, port, port_number, seconds


def test_numbers_are_read() -> None:
    """Whole and broken numbers of seconds, from zero, ports from zero."""
    assert (seconds("2.5"), seconds("0"), port("8766")) == (2.5, 0.0, 8766)


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon", ""])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Negative, endless and unreadable durations are wrong usage."""
    with pytest.raises(ValueError, match=r".*"):
        seconds(text)


@pytest.mark.parametrize("text", ["-1", "65536", "http"])
def test_what_is_no_port_is_refused(text: str) -> None:
    """A port is a number up to 65535."""
    with pytest.raises(ValueError, match=r".*"):
        port(text)
    with pytest.raises(ValueError, match="0"):  # free ports are for what is to listen
        port_number("0")


@pytest.mark.parametrize("text", ["0", "-2", "many"])
def test_how_many_is_one_or_more(text: str) -> None:
    """Nobody makes no calls."""
    assert count("3") == 3
    with pytest.raises(ValueError, match=r".*"):
        count(text)


def test_a_command_explains_itself() -> None:
    """The summary is in the list of commands and on top of the help, the text below it, lists as they are."""
    parser = argparse.ArgumentParser()
    command = new_parser(parser.add_subparsers(), "hum", "hum a tune", "It hums:\n  la  la\n\nNever\nloud.")
    assert "hum a tune" in parser.format_help()
    assert "Hum a tune." in command.format_help()
    assert "It hums:\n  la  la\n\nNever loud." in command.format_help()
