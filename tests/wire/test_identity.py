"""Where a call's id hides when the header is gone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.wire.ids import checked_sources, ids_in_message, ids_in_query


@pytest.mark.parametrize(
    ("target", "ids"),
    [
        ("/agent?simulation_result_id=720488", ["720488"]),
        ("/agent?Simulation-Result-Id=1&x=2", ["1"]),
        ("/agent?X-Simulation-Result-Id=1&X-Simulation-Result-Id=2", ["1", "2"]),
        ("/agent?simulationResultId=", [""]),
        ("/agent?id=1", []),
        ("/agent", []),
        ("/?" + "&".join(f"a{n}=1" for n in range(200)), []),
        ("//[broken", []),
    ],
)
def test_the_query_is_searched_for_the_id(target: str, ids: list[str]) -> None:
    """The parameter is found whatever its case and its dashes; hostile targets have none."""
    assert ids_in_query(target) == ids


@pytest.mark.parametrize(
    ("message", "ids"),
    [
        ({"event": "start", "start": {"customParameters": {"X-Simulation-Result-Id": "720488"}}}, ["720488"]),
        ({"type": "setup", "customParameters": {"simulation_result_id": 720488}}, ["720488"]),
        ({"start": {"custom_parameters": {"SipHeader_X-Simulation-Result-Id": "7"}}}, ["7"]),
        ({"simulationResultId": "7"}, ["7"]),
        ({"start": {"customParameters": json.dumps({"X-Simulation-Result-Id": "7"})}}, ["7"]),
        ({"start": {"customParameters": "{broken"}}, []),
        ({"start": {"customParameters": "plain"}}, []),
        ({"simulation_result_id": ["7"]}, []),
        ({"start": [{"simulation_result_id": "7"}]}, []),
        ({"data": {"data": {"data": {"data": {"simulation_result_id": "too deep"}}}}}, []),
        ({"media": {"simulation_result_id": "elsewhere"}}, []),
        ([1], []),
    ],
)
def test_the_first_messages_are_searched_for_the_id(message: Any, ids: list[str]) -> None:
    """The id is found at the top and where carriers put parameters, and nowhere else."""
    data = json.dumps(message)
    assert ids_in_message(data) == ids
    assert ids_in_message(data.encode()) == ids
    assert ids_in_message(memoryview(data.encode())) == ids


def test_a_huge_message_is_not_parsed() -> None:
    """What is no carrier's start message is left alone."""
    assert ids_in_message(json.dumps({"simulation_result_id": "7", "x": "y" * 70_000})) == []


@given(st.binary() | st.text())
def test_no_message_raises(data: bytes | str) -> None:
    """Whatever a peer sends, the answer is a list."""
    assert isinstance(ids_in_message(data), list)


@given(st.text())
def test_no_target_raises(target: str) -> None:
    """Whatever a peer asks for, the answer is a list."""
    assert isinstance(ids_in_query(target), list)


@pytest.mark.parametrize("sources", ["header", (), ("header", "cookie")])
def test_unknown_sources_are_refused(sources: Any) -> None:
    """A wrong place is a mistake of configuration, and the message lists the right ones."""
    with pytest.raises(ValueError, match="'header', 'query', 'message'"):
        checked_sources(sources)
