"""Reading the id header out of whatever a server calls its headers."""

from __future__ import annotations

from email.message import Message
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from websockets.datastructures import Headers

from bluejay_ws.wire.ids import as_list, header_values
from bluejay_ws.wire.platform import ID_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable

ONE = ("x-simulation-result-id", "720488")
TWO = ("X-Simulation-Result-Id", "720489")
OTHER = ("Authorization", "Basic c2VjcmV0")


def _email(*pairs: tuple[str, str]) -> Message:
    message = Message()
    for name, value in pairs:
        message[name] = value
    return message


def _aiohttp(*pairs: tuple[str, str]) -> object:
    return pytest.importorskip("multidict").CIMultiDict(pairs)


def _starlette(*pairs: tuple[str, str]) -> object:
    return pytest.importorskip("starlette.datastructures").Headers(raw=_asgi(*pairs))


def _asgi(*pairs: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in pairs]


KINDS: dict[str, Callable[..., Any]] = {
    "websockets": lambda *pairs: Headers(pairs),
    "email": _email,
    "aiohttp": _aiohttp,
    "starlette": _starlette,
    "asgi": _asgi,
    "pairs": lambda *pairs: iter(pairs),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pairs", [(), (OTHER,), (OTHER, ONE), (ONE, OTHER, TWO), (ONE, ONE)])
def test_every_value_is_found_in_every_kind_of_headers(kind: str, pairs: tuple[tuple[str, str], ...]) -> None:
    """None, one or several values, whatever the case of the name, in their order."""
    expected = [value for name, value in pairs if name != "Authorization"]
    assert header_values(KINDS[kind](*pairs), ID_HEADER) == expected


@pytest.mark.parametrize(
    ("headers", "values"),
    [
        (None, []),
        ({}, []),
        ({"X-SIMULATION-RESULT-ID": "1"}, ["1"]),
        (MappingProxyType({b"x-simulation-result-id": b"1"}), ["1"]),
        ([(bytearray(b"X-Simulation-Result-Id"), bytearray(b"\xff"))], ["\xff"]),
        ({"X-Simulation-Result-Id": 720488}, ["720488"]),
    ],
)
def test_mappings_and_odd_values_are_read_as_text(headers: Any, values: list[str]) -> None:
    """Bytes are Latin-1 as HTTP has it; a number that someone put into a dict is its digits."""
    assert header_values(headers, ID_HEADER) == values


class Listing(dict[str, str]):
    """Headers of Tornado and httpx: one method more than a mapping, and its `get` joins values."""

    def get_list(self, name: str) -> list[str]:
        return [self[name]] if name in self else []


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-simulation-result-id": ["720488"]}, ["720488"]),
        ({"X-SIMULATION-RESULT-ID": ("1", b"2")}, ["1", "2"]),
        ({"X-Simulation-Result-Id": None}, []),
        ({"REQUEST_METHOD": "GET", "HTTP_X_SIMULATION_RESULT_ID": "720488", "HTTP_HOST": "localhost"}, ["720488"]),
        (Listing({ID_HEADER: "720488"}), ["720488"]),
        (Listing(), []),
        ([("X-Simulation-Result-Id", ["720488"])], ["720488"]),
        ({"X-Simulation-Result-Id": {"720488"}}, ["720488"]),
        ([(memoryview(b"x-simulation-result-id"), memoryview(b"720488"))], ["720488"]),
        ({"type": "websocket", "headers": [(b"x-simulation-result-id", b"720488")]}, ["720488"]),
        (SimpleNamespace(headers={"x-simulation-result-id": "720488"}), ["720488"]),
        ({"headers": "not ours", "x-simulation-result-id": "720488"}, ["720488"]),
        ({None: "1", 7: "2", "X-Simulation-Result-Id": object()}, []),
    ],
    ids=[
        *(
            "lists",
            "tuples",
            "None",
            "environ",
            "get_list",
            "get_list without",
            "pairs of lists",
            "sets",
            "memoryviews",
        ),
        *("ASGI scope", "request", "header of that name", "no values"),
    ],
)
def test_headers_of_any_server_are_understood(headers: Any, expected: list[str]) -> None:
    """`bluejay.call(headers)` takes what the server has; a missing value is no id called None."""
    assert header_values(headers, ID_HEADER) == expected


class Tornado(dict[str, str]):
    """Its ``get_all`` takes no name, and yields all headers."""

    def get_all(self) -> Any:
        return self.items()

    def get_list(self, name: str) -> list[str]:
        return [value for key, value in self.items() if key.lower() == name.lower()]


@pytest.mark.parametrize(
    "headers",
    [
        Tornado({"x-simulation-result-id": "720488"}),
        pytest.importorskip("multidict").MultiDict([("x-simulation-result-id", "720488")]),
        pytest.importorskip("starlette.datastructures").ImmutableMultiDict([("x-simulation-result-id", "720488")]),
    ],
    ids=["Tornado", "multidict", "Starlette's multidict"],
)
def test_methods_that_take_the_name_as_it_is_written_are_not_believed(headers: Any) -> None:
    """Dictionaries of several values mind the case, headers must not."""
    assert header_values(headers, ID_HEADER) == ["720488"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["720488"], ["720488"]),
        ([" 720488\t"], ["720488"]),
        (["720488, 720488"], ["720488", "720488"]),
        (["720488,720489", "1"], ["720488", "720489", "1"]),
        ([""], [""]),
        ([None, 7], []),
    ],
)
def test_values_are_read_one_by_one(values: list[object], expected: list[str]) -> None:
    """WSGI, Tornado and proxies join what was sent twice, and blanks around a value are not part of it."""
    assert as_list(values) == expected
