"""The names of spool files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.delivery.files import LIVE, READY, Name
from tests.delivery.kit import new_id


def test_a_name_is_read_as_it_is_written() -> None:
    """Parts to text and back is the same."""
    name = Name("720488", new_id(), LIVE)
    assert Name.parse(str(name)) == name
    assert str(name.become(READY)).endswith(".ready")


def test_the_name_of_a_running_call_says_whose_it_is() -> None:
    """Once the call is over it is nobody's; a live file that names nobody is told by its own lock."""
    name = Name("720488", new_id(), LIVE, "0123456789abcdef")
    assert str(name) == f"720488.{name.report_id}.0123456789abcdef.live"
    assert Name.parse(str(name)) == name
    assert str(name.become(READY)) == f"720488.{name.report_id}.ready"
    assert Name.parse(f"720488.{name.report_id}.live") == Name("720488", name.report_id, LIVE, "")


@pytest.mark.parametrize("rest", ["0123456789abcdef.sent", "0123456789abcde.live", ".live", "0123456789ABCDEF.live"])
def test_what_only_looks_like_an_owner_is_not_ours(rest: str) -> None:
    """Only a file of a process has one, of 16 hexadecimal characters."""
    assert Name.parse(f"720488.{new_id()}.{rest}") is None


@pytest.mark.parametrize("identity", ["", "a/b", "..", "a b", "x" * 65, "é", "+"])
def test_an_id_that_cannot_stand_in_a_name_is_not_read(identity: str) -> None:
    """No id from outside can leave the directory or forge another name."""
    assert Name.parse(f"{identity}.{new_id()}.ready") is None


@given(st.text() | st.from_regex(r"\A.{1,70}\.[0-9a-f]{32}\.([0-9a-f]{16}\.)?(live|ready|sent|new)\Z"))
def test_only_our_names_are_read(text: str) -> None:
    """A file in the directory that is not ours is not touched."""
    name = Name.parse(text)
    assert name is None or str(name) == text


def test_a_name_with_something_behind_it_is_not_ours() -> None:
    """Such as that of a file that is being made, or of somebody's copy."""
    name = str(Name("1", new_id(), LIVE))
    assert [Name.parse(f"{name}{rest}") for rest in (".new", "~", "2", "\n")] == [None] * 4
