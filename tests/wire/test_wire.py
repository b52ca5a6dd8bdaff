"""The simulation result id that a connect request's header values agree on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.wire.ids import usable_id

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = "a" * 64


@pytest.mark.parametrize("value", ["720488", "a", "A-b_9", "-", "_", LONGEST])
def test_a_usable_id_is_returned_as_it_is(value: str) -> None:
    """1 to 64 letters, digits, ``_`` and ``-`` are an id."""
    assert usable_id([value]) == value


@pytest.mark.parametrize("values", [["720488"] * 2, ("720488",) * 3, dict.fromkeys(["720488"]), {"720488"}])
def test_equal_values_count_as_one(values: Iterable[str]) -> None:
    """A proxy may repeat the header, and any iterable carries its values."""
    assert usable_id(values) == "720488"


@pytest.mark.parametrize(
    "values",
    [
        [],
        ["720488", "720489"],
        ["720488", ""],
        ["720488", "720488 "],
        ["720488", "720488", "1"],
        ["a", "A"],
        ["720488", 720488],
        [None],
        [720488],
        [b"720488"],
    ],
    ids=repr,
)
def test_values_that_do_not_agree_are_no_id(values: list[str]) -> None:
    """No value, differing values and values that are no text give no id."""
    assert usable_id(values) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "720488 ",
        " 720488",
        "720488\n",
        "\n720488",
        "720\r\n488",
        "720488\r\nX-Evil: 1",
        "720488\0",
        "\x1b[31m720488",
        "720,488",
        "720488, 720488",
        "720.488",
        "../720488",
        "720488/..",
        "%37",
        "a=b",
        '"720488"',
        "{}",
        "\u0667\u0662\u0660",
        "\uff17\uff12",
        "²",
        "é",
        "\u0131",
        "\u212a",  # the sign for Kelvin, a K without case
        "a\u0301",
        "720488\u200b",
        "\ud800",
        LONGEST + "a",
        "a" * 20_000,
    ],
    ids=ascii,
)
def test_hostile_values_are_no_id(value: str) -> None:
    """Blanks, line ends, control characters, paths, digits of other scripts and long values give no id."""
    assert usable_id([value]) is None
    assert usable_id([value, value]) is None


def test_a_text_that_only_says_it_is_one_is_no_id() -> None:
    """Values that cannot be hashed are refused by whoever reads the headers; other objects give no id."""

    class Liar:
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return hash("720488")

    assert usable_id([Liar()]) is None


@given(st.lists(st.text("aZ9_- \n\u0667", max_size=70), max_size=3))
def test_only_what_is_safe_everywhere_is_an_id(values: list[str]) -> None:
    """An id can stand in a file name, a URL, a header and a log line."""
    found = usable_id(values)
    assert found is None or (set(values) == {found} and re.fullmatch("[A-Za-z0-9_-]{1,64}", found))
