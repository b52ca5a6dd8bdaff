"""Values that nobody should hand to a recorder, and everybody does some day."""

from __future__ import annotations

import json
import math
from collections import ChainMap, OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, Flag, IntEnum, StrEnum
from pathlib import PurePosixPath, PureWindowsPath
from types import MappingProxyType, SimpleNamespace
from typing import Any, NoReturn

import attrs
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr


def strict(data: bytes) -> Any:
    """Return what strict JSON says; fail on constants, double keys, NUL, lone surrogates, numbers beyond a double."""
    loaded = json.loads(data.decode(), parse_constant=_refuse, object_pairs_hook=_distinct, parse_int=_usual)
    assert "\0" not in json.dumps(loaded, ensure_ascii=False)
    json.dumps(loaded, ensure_ascii=False, allow_nan=False).encode()
    return loaded


def _refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    assert len(found) == len(pairs), "a key stands twice"
    return found


def _usual(digits: str) -> int:
    assert math.isfinite(float(digits)), "a number beyond a double"
    return int(digits)


class Fatal(BaseException):
    """What no ``except Exception`` catches."""


ERRORS = (ValueError, KeyError, AttributeError, RuntimeError, RecursionError, StopIteration, MemoryError, GeneratorExit)
METHODS = (
    *(
        "__repr__",
        "__str__",
        "__iter__",
        "__eq__",
        "__hash__",
        "__len__",
        "__bool__",
        "__getattr__",
        "__getattribute__",
    ),
    *("__getitem__", "__contains__", "__int__", "__index__", "__float__", "__format__", "__bytes__", "__fspath__"),
    *("__call__", "__dir__", "__reduce__", "__sizeof__", "__complex__", "__trunc__", "__next__", "__enter__"),
    *("keys", "values", "items", "get", "isoformat", "model_dump", "dict", "_asdict", "to_dict", "encode", "decode"),
)


def trap(base: type, error: type[BaseException]) -> type:
    """Return a subclass of ``base`` that raises ``error`` from whatever is asked of it, and lies about its class."""

    def spring(*_: object, **__: object) -> NoReturn:
        raise error

    return type("Trap", (base,), {**dict.fromkeys(METHODS, spring), "__class__": property(spring)})


class Lying(Mapping[str, int]):
    """A mapping whose methods contradict each other."""

    def __getitem__(self, key: str) -> int:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(["a", "b"])

    def __len__(self) -> int:
        return -1  # noqa: PLE0303 - a lie


class Endless(Mapping[str, int]):
    """A mapping without an end."""

    def __getitem__(self, key: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield str(number)

    def __len__(self) -> int:
        return 0


class Deep(Mapping[str, Any]):
    """A mapping that holds another one of its kind, and so on."""

    def __getitem__(self, key: str) -> Deep:
        return Deep()

    def __iter__(self) -> Iterator[str]:
        return iter(["in"])

    def __len__(self) -> int:
        return 1


class Colour(Enum):
    RED = "red"
    PAIR = ("a", 1)


class Word(StrEnum):
    YES = "yes"


class Level(IntEnum):
    HIGH = 3


class Rights(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Card:
    last4: str
    inner: Any = None


@dataclass(slots=True, frozen=True)
class Slotted:
    value: Any


@attrs.define
class Ticket:
    number: Any


class Model(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    name: str = "x"
    inner: Any = None
    secret: SecretStr = SecretStr("hunter2")
    hidden: str = Field(default="not for others", exclude=True)


class Root(RootModel[Any]):
    pass


Point = namedtuple("Point", ["x", "y"])  # noqa: PYI024 - an old one without types


class SubDict(dict[Any, Any]):
    pass


class SubStr(str):
    __slots__ = ()


class Odd:
    """An unknown object that wants not to be looked at."""

    def __repr__(self) -> str:
        raise AssertionError("repr was called")

    __str__ = __repr__


class Hasher(type):
    """A metaclass whose classes cannot be hashed, compared or asked for their names."""

    def __hash__(cls) -> int:
        raise ValueError

    def __eq__(cls, other: object) -> bool:
        raise ValueError

    def __getattribute__(cls, name: str) -> Any:
        raise ValueError(name)

    def mro(cls) -> list[type]:
        return list(type.mro(cls))


Unhashable = Hasher("Unhashable", (), {})


def numbers() -> Iterator[int]:
    """Give one number, to the first who asks."""
    yield 1


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    """Choose one of ``values``, none of which is ever shown, hashed or compared."""
    return st.integers(0, len(values) - 1).map(lambda number: values[number])


LETTERS = 'ab1 "\\/\n\x7f\u2028é\ufffd\U0001f600'  # few: for all of Unicode, hypothesis builds a table
TEXTS = st.text(LETTERS + "\0\ud83d\ude00", max_size=12)
HASHABLE = st.one_of(
    TEXTS,
    st.sampled_from(["", "a", "1", "null", "true", "a (2)", "1 (2)", Word.YES, Level.HIGH, SubStr("a")]),
    st.integers(-3, 3),
    st.booleans(),
    st.none(),
    st.floats(),
    st.binary(max_size=3),
    st.tuples(st.integers(0, 2), st.sampled_from("ab")),
    one_of(Colour.RED, 2**70, 10**5000, Fatal, Slotted(1), frozenset({1}), timedelta(1)),
)
SCALARS = st.one_of(
    HASHABLE,
    st.integers(),
    one_of(2**63, -(2**63), 2**1023, 10**400, -(10**4000), 10**5000, 1e300, 5e-324, -0.0, 1e16, 1e18),
    st.binary(max_size=40),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.complex_numbers(),
    st.ip_addresses(),
    one_of(PurePosixPath("/a/\udcff"), PureWindowsPath("C:/x"), Ellipsis, NotImplemented, int, Card, math),
    one_of(Colour.PAIR, Rights.READ | Rights.WRITE, SecretStr("hunter2"), bytearray(b"ab"), memoryview(b"a")),
    st.builds(trap, st.sampled_from([object, str, int, float, dict, list, set]), st.sampled_from([*ERRORS, Fatal])).map(
        lambda cls: cls()
    ),
    st.builds(trap, st.sampled_from([ValueError, OSError, ExceptionGroup]), st.sampled_from(ERRORS)).map(
        lambda cls: cls("x", [KeyError(1)])
    ),
    st.builds(ValueError, TEXTS),
    one_of(numbers, Odd, Lying, Deep).map(lambda make: make()),
    st.builds(lambda: (number for number in [1])),
    st.builds(lambda: map(len, [""])),
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, max_size=5)
    mapping = st.dictionaries(HASHABLE, inner, max_size=5)
    return st.one_of(
        several,
        st.lists(st.integers(0, 9) | inner, min_size=16, max_size=40),
        st.dictionaries(TEXTS | st.integers(0, 9), st.integers(0, 9) | inner, min_size=16, max_size=20),
        mapping,
        several.map(tuple),
        several.map(deque),
        mapping.map(OrderedDict),
        mapping.map(SubDict),
        mapping.map(lambda value: defaultdict(int, value)),
        mapping.map(MappingProxyType),
        mapping.map(UserDict),
        mapping.map(lambda value: ChainMap(value, {"z": 1})),
        mapping.map(lambda value: value.keys()),
        mapping.map(lambda value: value.items()),
        st.frozensets(HASHABLE, max_size=5),
        st.sets(HASHABLE, max_size=5),
        st.builds(Card, TEXTS, inner),
        st.builds(Slotted, inner),
        st.builds(Ticket, inner),
        st.builds(Point, inner, inner),
        st.builds(Root, inner),
        st.builds(lambda value: Model.model_construct(inner=value, more=value), inner),
        st.builds(lambda value: SimpleNamespace(value=value), inner),
        st.builds(lambda value: ValueError("x", value), inner),
        st.builds(_cyclic, inner),
    )


def _cyclic(value: object) -> list[object]:
    cycle: list[object] = [value]
    cycle.append({"again": cycle})
    return cycle


ANYTHING = st.recursive(SCALARS, _containers, max_leaves=20)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(-1e17, 1e17) | st.text(LETTERS, max_size=12),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(LETTERS, max_size=5), inner, max_size=20),
    max_leaves=25,
)
