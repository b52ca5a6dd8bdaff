"""Where a call's id hides when the header is gone."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluejay_ws.wire.ids import checked_sources, ids_in_message, ids_in_query


def encoded(text: str) -> str:
    """Return base64."""
    return base64.b64encode(text.encode()).decode()


def urlsafe(text: str) -> str:
    """Return base64 of the alphabet for URLs, without padding."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


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
        ({"type": "start", "call_id": "c", "metadata": {"simulation_result_id": "7"}}, ["7"]),
        ({"event": "start", "start": {"metadata": '{"mine": {"simulation_result_id": 7}}'}}, ["7"]),
        ({"simulationResultId": "7"}, ["7"]),
        ({"start": {"customParameters": json.dumps({"X-Simulation-Result-Id": "7"})}}, ["7"]),
        ({"start": {"customParameters": "{broken"}}, []),
        ({"start": {"customParameters": "plain"}}, []),
        ({"start": {"customParameters": "simulation_result_id=7"}}, ["7"]),
        ({"event": "start", "extra_headers": "{}"}, []),
        ({"event": "start", "extra_headers": '{"X-PH-simulationResultId": "7"}'}, ["7"]),
        ({"event": "start", "extra_headers": "{X-PH-simulationResultId: 7, X-PH-other: 8}"}, ["7"]),
        ({"event": "start", "extra_headers": "user=1;simulationResultId=7"}, ["7"]),
        ({"event": "start", "extra_headers": "X-PH-X-Simulation-Result-Id=7,user=1"}, ["7"]),
        ({"event": "start", "start": {"extra_headers": {"X-PH-simulationResultId": "7"}}}, ["7"]),
        ({"event": "start", "start": {"custom_parameters": [{"name": "simulation_result_id", "value": "7"}]}}, ["7"]),
        ({"event": "start", "start": {"custom_headers": [{"name": "X-Simulation-Result-Id", "value": "7"}]}}, ["7"]),
        ({"event": "start", "start": {"custom_parameters": [1, {"name": 1, "value": 2}, {"name": "x"}]}}, []),
        ({"event": "start", "start": {"client_state": encoded('{"simulation_result_id": "7"}')}}, ["7"]),
        ({"event": "start", "start": {"client_state": encoded("simulation_result_id=7&x=1")}}, ["7"]),
        ({"event": "start", "start": {"client_state": encoded("720488")}}, []),
        ({"event": "start", "start": {"client_state": "simulation_result_id=7"}}, ["7"]),
        ({"event": "start", "start": {"client_state": "/////w=="}}, []),
        ({"event": "start", "start": {"client_state": None}}, []),
        ({"event": "start", "start": {"client_state": encoded('{"simulation_result_id": "7"}').rstrip("=")}}, ["7"]),
        ({"event": "start", "start": {"client_state": urlsafe('{"x": "~~~???", "simulationResultId": 7}')}}, ["7"]),
        ({"event": "start", "start": {"custom_parameters": [{"key": "simulation_result_id", "value": "7"}]}}, ["7"]),
        ({"event": "start", "start": {"sip_headers": [{"name": "X-Simulation-Result-Id", "value": " 7 "}]}}, ["7"]),
        ({"event": "websocket:connected", "content-type": "audio/l16;rate=8000", "simulation_result_id": "7"}, ["7"]),
        ({"event": "websocket:connected", "headers": {"X-Simulation-Result-Id": "7"}}, ["7"]),
        ({"type": "open", "parameters": {"inputVariables": {"simulation_result_id": "7"}}}, ["7"]),
        ({"type": "open", "parameters": {"customConfig": {"simulation_result_id": "7"}}}, ["7"]),
        ({"type": "open", "parameters": {"customConfig": '{"simulation_result_id": "7"}'}}, ["7"]),
        (
            {"type": "open", "parameters": {"customConfig": {"agent": {"bluejay": {"simulation_result_id": "7"}}}}},
            ["7"],
        ),
        ({"type": "open", "parameters": {"customConfig": json.dumps({"qa": {"simulation_result_id": 7}})}}, ["7"]),
        ({"type": "open", "parameters": {"customConfig": {"qa": json.dumps({"simulationResultId": "7"})}}}, ["7"]),
        ({"type": "open", "parameters": {"customConfig": '[{"qa": [{"simulation-result-id": "7"}]}]'}}, ["7"]),
        ({"type": "open", "parameters": {"inputVariables": {"json": ' {"x": {"simulation_result_id": "7"}}'}}}, ["7"]),
        ({"event": "start", "start": {"customParameters": {"qa": '{"simulation_result_id": "7"}'}}}, ["7"]),
        ({"event": "start", "start": {"client_state": encoded('{"qa": {"simulation_result_id": "7"}}')}}, ["7"]),
        ({"parameters": {"customConfig": {"qa": {"name": "simulation_result_id"}, "x": "{broken", "y": [1]}}}, []),
        ({"parameters": {"customConfig": {"qa": [{"name": "simulation_result_id", "value": "7"}]}}}, ["7"]),
        ({"parameters": {"customConfig": [[[[[[[[[[{"simulation_result_id": "too deep"}]]]]]]]]]]}}, []),
        ({"parameters": {"customConfig": [[1, {"x": 1}] for _ in range(60)], "headers": {"x": 1}}}, []),
        ({"SipHeader_X-Custom-Headers": '{"X-Simulation-Result-Id": "7"}'}, ["7"]),
        ({"start": {"customParameters": {"simulation_result_id": True}}}, []),
        ({"simulation_result_id": ["7"]}, []),
        ({"start": [{"simulation_result_id": "7"}]}, []),
        ({"data": {"data": {"data": {"data": {"data": {"simulation_result_id": "too deep"}}}}}}, []),
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


def test_a_message_with_very_many_objects_costs_a_bounded_search() -> None:
    """What is searched for an id has a limit: the connection waits for it."""
    many: dict[str, Any] = {str(number): {} for number in range(2_000)}
    last = {"parameters": {"customConfig": {**many, "qa": {"simulation_result_id": "7"}}}}
    assert ids_in_message(json.dumps(last)) == []


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


def test_a_name_of_the_user_s_own_is_found_wherever_the_platform_s_is() -> None:
    """It is compared as the platform's: without case, dashes and a carrier's prefix."""
    places = checked_sources(("query", "message"), ("sim_id", "Bluejay-Run", "X-Call-Ref"))
    assert list(places) == ["query", "message"]
    assert "" not in checked_sources(("message",), ("X-", "x-ph-")).names
    prefixed = ("SipHeader_X-Call-Ref", "X-PH-X-Call-Ref", "x-call-ref")
    for name in ("sim_id", "SIM-ID", "simId", "X-PH-sim_id", "bluejay_run", "simulation_result_id", *prefixed):
        assert ids_in_query(f"/?{name}=7", places.names) == ["7"]
        assert ids_in_message(json.dumps({"start": {"customParameters": {name: "7"}}}), places.names) == ["7"]
    assert ids_in_query("/?sim_id=7") == []
    assert ids_in_message('{"sim_id": "7"}', checked_sources(("message",)).names) == []


@pytest.mark.parametrize("names", ["sim_id", ("",), ("--",), (1,)])
def test_names_that_cannot_be_are_refused(names: Any) -> None:
    """A text in the place of a tuple is a mistake of configuration, and so is an empty name."""
    with pytest.raises(ValueError, match="id_names"):
        checked_sources(("message",), names)
