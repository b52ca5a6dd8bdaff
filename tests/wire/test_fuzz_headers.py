"""Connect requests that anybody may send: an id is found where it is, and is nothing but an id."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from starlette.datastructures import Headers
from websockets.datastructures import Headers as SocketHeaders
from websockets.exceptions import InvalidHeader as InvalidHeaderValue

from bluejay_ws.wire.ids import header_values, ids_in_message, ids_in_query, usable_id
from tests.wire.journals import JSON

NAME = "X-Simulation-Result-Id"
NAMES = st.sampled_from([NAME, NAME.lower(), NAME.upper(), "x-simulation-result-id ", "X-Simulation-Result", ""])
LATIN = st.text(st.characters(max_codepoint=255), max_size=10)
VALUES = LATIN | st.sampled_from(["720488", " 720488", "720488\x1b[2J", "\0", "7" * 20_000, "a,b", "../x", "720488\n"])
PAIRS = st.lists(st.tuples(NAMES | LATIN, VALUES), max_size=4)
ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
FIELDS = st.sampled_from(
    [
        *("simulation_result_id", "simulationResultId", "SipHeader_X-Simulation-Result-Id", "X-SIMULATION-RESULT-ID"),
        *("start", "setup", "customParameters", "custom_parameters", "parameters", "data", "headers", "x"),
    ]
)
MESSAGES = st.recursive(
    JSON | st.sampled_from(["720488", 720488, '{"simulation_result_id":"1"}', '{"' * 99, "{" * 60_000, 10**4000]),
    lambda inner: st.dictionaries(FIELDS, inner | inner.map(json.dumps), max_size=3) | st.lists(inner, max_size=2),
    max_leaves=10,
)


@given(PAIRS)
def test_any_headers_give_the_values_of_one_name(pairs: list[tuple[str, str]]) -> None:
    """Pairs of bytes or text, a mapping, or what a framework calls its headers: the same values, in their order."""
    wanted = [value for name, value in pairs if name.lower() == NAME.lower()]
    raw = [(name.lower().encode("latin-1", "ignore"), value.encode("latin-1")) for name, value in pairs]
    assert header_values(pairs, NAME) == wanted
    assert header_values(raw, NAME) == wanted
    assert header_values(Headers(raw=raw), NAME) == wanted
    assert header_values(CIMultiDict(pairs), NAME) == wanted
    sockets = SocketHeaders()
    with contextlib.suppress(InvalidHeaderValue):  # of the library's own; from the wire it takes any
        for name, value in pairs:
            sockets[name] = value
        assert header_values(sockets, NAME) == wanted
    found = usable_id(wanted)
    assert found is None or ID.fullmatch(found)
    assert len(set(wanted)) <= 1 or found is None or found in [value.strip() for value in wanted]


@given(st.lists(st.text(), max_size=3))
def test_an_id_is_safe_in_a_file_name_a_url_and_a_log_line(values: list[str]) -> None:
    """Whatever stands in the header: 1 to 64 letters, digits, ``_`` and ``-``, or no id."""
    found = usable_id(values)
    assert found is None or ID.fullmatch(found)


@given(MESSAGES)
def test_any_message_has_ids_or_none(message: Any) -> None:
    """Objects of any shape and depth, as text and as bytes, with JSON inside of JSON: a list of texts."""
    text = json.dumps(message) if not (isinstance(message, int) and message > 10**300) else "9" * 4400
    for data in (text, text.encode(), bytearray(text.encode()), memoryview(text.encode())):
        found = ids_in_message(data)
        assert all(isinstance(one, str) for one in found)
    assert ids_in_message(text) == ids_in_message(text.encode())


@given(st.lists(st.tuples(FIELDS, st.text(max_size=5)), max_size=3), st.text(max_size=10))
def test_any_target_has_ids_or_none(pairs: list[tuple[str, str]], more: str) -> None:
    """A request target with any query, well formed or not."""
    query = "&".join(f"{name}={value}" for name, value in pairs)
    found = ids_in_query(f"/agent?{query}{more}")
    assert all(isinstance(one, str) for one in found)
