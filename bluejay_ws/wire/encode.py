"""Any Python value as strict JSON: one look and one call where it is plain already, a careful copy where it is not.

The careful path asks nothing of an object that can be read without its help: subclasses of the built-in types are read
through the built-in's own methods. The ``repr`` and ``str`` of unknown objects are never called: they may run code,
take for ever, or show what should stay hidden. Iterators are never consumed.
"""

# ruff: noqa: SLF001 - the table of handlers is the writer's other half
from __future__ import annotations

import dataclasses
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from importlib import import_module
from itertools import chain, islice
from numbers import Integral, Real
from pathlib import PurePath
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple, TypeVar

from pydantic_core import SchemaSerializer, from_json, to_json

from bluejay_ws.interrupts import of_a_value

__all__ = ["DEPTH_LIMIT", "ITEM_LIMIT", "Encoded", "clean", "cut_json", "cut_text", "encode", "finite", "strict_json"]

_T = TypeVar("_T")
_Read = TypeVar("_Read", bound="Callable[..., None]")

import_module("uuid")  # else the encoder does so at its first use, on an agent's loop

ITEM_LIMIT = 256 * 1024
"""Bytes of JSON that one item may take."""


class Encoded(NamedTuple):
    """One value as JSON, and what was done to it on the way.

    Attributes:
        json: strict JSON, UTF-8.
        mapped: something in it became another value or type than it was.
        cut: it is a string that holds only a beginning.
    """

    json: bytes
    mapped: bool = False
    cut: bool = False


_UNREADABLE = Encoded(b'"[unreadable]"', mapped=True)  # made while there is stack and memory to make it


def encode(value: object, *, limit: int = ITEM_LIMIT) -> Encoded:
    """Return any Python object as strict JSON; never raises, never consumes an iterator.

    A value over the limit becomes a string that holds its beginning (that of its JSON, if it is no text) and a
    marker such as ``...[cut: 10485760 bytes]``. The work done is in the order of ``limit``, whatever the value's size.

    Args:
        value: anything.
        limit: bytes that the JSON may take; only one too small for the marker is overstepped.
    """
    try:
        data = plain_json(value, limit)
        return _careful(value, limit) if data is None else Encoded(data)
    except Exception:  # noqa: BLE001 - nothing is left to try: the stack or the memory is at its end
        return _UNREADABLE


def _careful(value: object, limit: int) -> Encoded:
    writer = Writer(limit)
    writer.write(value)
    data = b"".join(writer.parts)
    if len(data) <= limit and not writer.cut:
        return Encoded(data, writer.mapped)
    text = from_json(data) if data.startswith(b'"') else data.decode()
    size = writer.size or (f"more than {limit} bytes" if writer.cut else f"{len(data)} bytes")
    return Encoded(cut_text(text, limit, size), writer.mapped, cut=True)


def cut_text(text: str, limit: int, size: str) -> bytes:
    """Return a JSON string of at most ``limit`` bytes: the beginning of ``text``, and how much there was.

    Args:
        text: at least its first ``limit`` characters.
        limit: bytes, quotes included; one too small for the marker is overstepped.
        size: how much there was, in words.
    """
    marker = f"...[cut: {size}]"
    room = max(0, limit - len(marker) - 2)
    head = clean(text[:room])
    data = to_json(head)
    while len(data) - 2 > room:  # escapes, and characters of several bytes
        head = head[: len(head) * room // (len(data) - 2)]
        data = to_json(head)
    return data[:-1] + marker.encode() + b'"'


def cut_json(data: bytes, limit: int) -> bytes:
    """Return JSON of at most ``limit`` bytes in place of the JSON ``data``: itself, or a string of its beginning."""
    if len(data) <= limit:
        return data
    text = from_json(data) if data.startswith(b'"') else data[: max(0, limit)].decode(errors="ignore")
    return cut_text(text, limit, f"{len(data)} bytes")


# -- plain values: one look, one call ------------------------------------------------------------------------------

DEPTH_LIMIT = 64
"""How many containers may lie within each other, the outermost included."""

NUL = b"\\u0000"
"""How a NUL looks in JSON (or a backslash before the text ``u0000``: the careful path tells them apart)."""

strict_json = SchemaSerializer({"type": "any"}, {"ser_json_inf_nan": "null"}).to_json
"""Write JSON as `to_json` does, and null for NaN and the infinities; made once, it takes a tenth less."""

_BACKSLASH = 0x5C
_NUMBER_LIMIT = 1e18  # larger numbers take the careful path, and are none the worse for it


def plain_json(value: object, limit: int, depth: int = DEPTH_LIMIT) -> bytes | None:
    """Return the JSON of a value that is plain already and within the limits, else None.

    Args:
        value: anything.
        limit: bytes that the JSON may take.
        depth: how many containers may lie within each other.
    """
    try:
        if room_left(value, limit, depth) < 0:
            return None
        data = strict_json(value)  # another thread may put a NaN in at this very moment
    except Exception:  # noqa: BLE001 - a lone surrogate, a dict changed meanwhile: the careful path sees what it is
        return None
    return data if len(data) <= limit and (_BACKSLASH not in data or NUL not in data) else None


def room_left(value: Any, room: int, depth: int) -> int:  # noqa: C901 - see the comment in it
    """Return what a plain value leaves of ``room`` bytes, at most; below zero if it is not plain or does not fit.

    Plain are exact dicts with exact strings for keys, lists, tuples, strings, integers and floats of usual size,
    booleans and None.

    Args:
        value: anything.
        room: bytes of JSON that it may take.
        depth: how many containers may lie within each other.

    Raises:
        LookupError, RuntimeError: a dict was changed meanwhile, by another thread.
    """
    # On the agent's event loop, in the middle of speech: in one piece, and strings, the usual case, without a call.
    if type(value) is dict:
        room -= len(value)
        if room < 0 or depth <= 0:
            return -1
        for key in value:
            if type(key) is not str:
                return -1
            element = value[key]
            if type(element) is str:
                room -= len(key) + len(element)
            else:
                room = room_left(element, room - len(key), depth - 1)
        return room
    if type(value) is int or type(value) is float:
        return room if -_NUMBER_LIMIT < value < _NUMBER_LIMIT else -1
    if type(value) is list or type(value) is tuple:
        room -= 2 * len(value)
        if room < 0 or depth <= 0:
            return -1
        for element in value:
            room = room - len(element) if type(element) is str else room_left(element, room, depth - 1)
        return room
    if type(value) is str:
        return room - len(value)
    return room if value is None or type(value) is bool else -1


# -- the careful path ----------------------------------------------------------------------------------------------

CYCLE = "[cycle]"
TOO_DEEP = "[too deep]"

_LARGEST_NUMBER = 2**1023
"""Whole numbers from here on are beyond a double: they are written as text, which every parser takes."""

_MOST_DIGITS = 4300
"""Where Python itself refuses to turn whole numbers into text and back."""

_BLOCK = 256
"""Elements of a container that are tried on the fast path together."""

_SMALLEST_BLOCK = 16
"""So few are not worth the try."""

_TRIES = 8
_OPENINGS = (b"[", b"{")

_handlers: dict[type, Callable[[Writer, Any, int], None]] = {}
"""How to read each built-in type."""


def clean(text: str) -> str:
    """Return ``text`` as strict JSON and databases can hold it: lone surrogates and NUL become U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # by way of UTF-16, which makes one character of a pair of surrogates
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def snapshot(source: Callable[[], Iterable[_T]], count: int) -> list[_T]:
    """Return the first ``count`` elements of a container that another thread may be changing.

    Args:
        source: starts the iteration, once for each try.
        count: how many elements are wanted at most.

    Raises:
        RuntimeError: the container changed during each of several tries.
    """
    for _ in range(_TRIES - 1):
        try:
            return list(islice(source(), count))
        except RuntimeError:
            continue
    return list(islice(source(), count))


def _reads(*types: type) -> Callable[[_Read], _Read]:
    """Note that the decorated method reads instances of ``types`` and of their subclasses."""

    def note(read: _Read) -> _Read:
        _handlers.update((cls, read) for cls in types)
        return read

    return note


class Writer:
    """Write any object as JSON. Use it once.

    Args:
        room: bytes of JSON after which it stops; what is written then is a beginning.

    Attributes:
        parts: the JSON.
        mapped: something became another value or another type than it was.
        cut: there was more than ``room``.
        size: how much a text had that was cut and is the whole value, in words; None otherwise.
    """

    __slots__ = ("_path", "_room", "cut", "mapped", "parts", "size")

    def __init__(self, room: int) -> None:
        self.parts: list[bytes] = []
        self.mapped = False
        self.cut = False
        self.size: str | None = None
        self._room = room
        self._path: set[int] = set()

    def write(self, value: object, depth: int = 0) -> None:
        """Write ``value``; of what cannot be read, the name of its type.

        Args:
            value: anything.
            depth: how many containers it lies in.
        """
        written, room, around = len(self.parts), self._room, id(value) in self._path
        try:
            _handler(type(value))(self, value, depth)
        except BaseException as error:
            if not of_a_value(error):
                raise
            del self.parts[written:]
            self._room = room
            self._leave(value, around=around)
            self._map(kind_name(type(value)))

    def _put(self, data: bytes) -> None:
        self.parts.append(data)
        self._room -= len(data)

    # -- leaves ------------------------------------------------------------------------------------------------

    @_reads(type(None), bool)
    def _constant(self, value: object, _depth: int) -> None:
        self._put(to_json(value))

    @_reads(str)
    def _text(self, value: str, depth: int) -> None:
        self._put(to_json(self._shortened(value)))
        if depth == 0:
            self.size = f"{str.__len__(value)} {'bytes' if str.isascii(value) else 'characters'}"

    @_reads(int)
    def _int(self, value: int, _depth: int) -> None:
        number = int.__int__(value)
        if -_LARGEST_NUMBER < number < _LARGEST_NUMBER:
            return self._put(to_json(number))
        digits = number.bit_length() * 30_103 // 100_000 + 1
        if digits > min(_MOST_DIGITS, sys.get_int_max_str_digits() or _MOST_DIGITS):
            return self._map(f"[integer of about {digits} digits]")
        return self._map(int.__repr__(number))

    @_reads(float)
    def _float(self, value: float, _depth: int) -> None:
        number = float.__float__(value)
        self.mapped |= number - number != 0.0  # NaN and the infinities are no JSON
        self._put(strict_json(number))

    @_reads(bytes, bytearray, memoryview)
    def _bytes(self, value: bytes | bytearray | memoryview, depth: int) -> None:
        view = memoryview(value).cast("B")
        head = bytes(view[: max(4, self._room)])
        text = _decoded(head, partial=len(head) < len(view))
        if text is None:
            return self._map(f"<{len(view)} bytes>")
        self._map(text)
        self.cut |= len(head) < len(view)
        self.size = f"{len(view)} bytes" if depth == 0 else None
        return None

    @_reads(timedelta)
    def _timedelta(self, value: timedelta, depth: int) -> None:
        self.mapped = True
        self._float(timedelta.total_seconds(value), depth)

    def _map(self, text: str) -> None:
        """Write ``text`` in place of what is no text."""
        self.mapped = True
        self._put(to_json(self._shortened(text)))

    def _shortened(self, value: str) -> str:
        """Return as much of a text as there is room for, clean."""
        text = str.__getitem__(value, slice(max(0, self._room)))
        cleaned = clean(text)
        self.cut |= len(text) < str.__len__(value)
        self.mapped |= cleaned != text
        return cleaned

    # -- containers --------------------------------------------------------------------------------------------

    @_reads(MappingProxyType)
    def _mapping(self, value: Mapping[Any, Any], depth: int) -> None:
        self.mapped = True
        self._object(value, depth, value.items)

    @_reads(tuple)
    def _tuple(self, value: tuple[Any, ...], depth: int) -> None:
        names = static(type(value), "_fields")
        if type(names) is not tuple or len(names) != tuple.__len__(value):
            return self._array(value, depth, lambda: tuple.__iter__(value))
        self.mapped = True
        return self._object(value, depth, lambda: zip(names, tuple.__iter__(value), strict=True))

    @_reads(SimpleNamespace)
    def _simple_namespace(self, value: SimpleNamespace, depth: int) -> None:
        self.mapped = True
        self._object(value, depth, object.__getattribute__(value, "__dict__").items)

    @_reads(BaseException)
    def _exception(self, value: BaseException, depth: int) -> None:
        self.mapped = True
        self._object(value, depth, {"error": error_name(value), "message": message(value)}.items)

    def _enum(self, value: Enum, depth: int) -> None:
        self.mapped = True
        self.write(object.__getattribute__(value, "_value_"), depth)

    def _other(self, value: Any, depth: int) -> None:
        """Write an object without a built-in base: its fields, items or number, else the name of its type."""
        self.mapped = True
        cls = type(value)
        names = field_names(cls)
        if names is not None:
            return self._fields(value, depth, names)
        if issubclass(cls, Mapping):
            return self._mapping(value, depth)
        if issubclass(cls, Integral):
            return self._int(int(value), depth)
        text = own_text(value)
        if text is None and issubclass(cls, Real):
            return self._float(float(value), depth)
        return self._map(kind_name(cls) if text is None else text)

    def _fields(self, value: object, depth: int, names: list[str]) -> None:
        if static(type(value), "__pydantic_root_model__") is True:
            return self.write(attribute(value, "root")[0], depth)
        fields = [(name, found) for name in names for found in attribute(value, name)]
        extra = next(iter(attribute(value, "__pydantic_extra__")), None)
        more: dict[str, object] = extra if type(extra) is dict else {}
        return self._object(value, depth, lambda: chain(fields, more.items()))

    # -- what containers share ---------------------------------------------------------------------------------

    def _array(self, value: object, depth: int, source: Callable[[], Iterable[object]]) -> None:
        if not self._enter(value, depth):
            return
        self._put(b"[")
        for block in _blocks(snapshot(source, max(1, self._room // 2 + 2))):
            if not self._put_plain(block, depth):
                self._put_elements(block, depth + 1)
        self._put(b"]")
        self._leave(value)

    def _put_elements(self, elements: list[object], depth: int) -> None:
        for element in elements:
            if self._room <= 0:
                self.cut = True
                break
            self._separate()
            self.write(element, depth)

    def _object(self, value: object, depth: int, source: Callable[[], Iterable[tuple[Any, Any]]]) -> None:
        if not self._enter(value, depth):
            return
        self._put(b"{")
        taken: dict[str, int] = {}
        for block in _blocks(snapshot(source, max(1, self._room // 4 + 2))):
            members = _named(block, taken)
            if self._put_plain(members, depth):
                self.mapped |= any(type(key) is int for key, _ in block)
                taken.update(dict.fromkeys(members, 1))
            else:
                self._put_members(block, taken, depth + 1)
        self._put(b"}")
        self._leave(value)

    def _put_members(self, pairs: list[tuple[Any, Any]], taken: dict[str, int], depth: int) -> None:
        for key, element in pairs:
            if self._room <= 0:
                self.cut = True
                break
            self._separate()
            self._put(to_json(self._distinct(self._key(key, depth), taken)) + b":")
            self.write(element, depth)

    def _put_plain(self, block: list[Any] | dict[str, Any], depth: int) -> bool:
        """Write many plain elements or members at once; return False where they are few, or not plain."""
        data = plain_json(block, self._room, DEPTH_LIMIT - depth) if len(block) >= _SMALLEST_BLOCK else None
        if data is None:
            return False
        self._separate()
        self._put(data[1:-1])
        return True

    def _key(self, key: object, depth: int) -> str:
        """Return a key as text; that of its JSON, if it is no text."""
        if issubclass(type(key), str):
            return self._shortened(key)  # type: ignore[arg-type]
        self.mapped = True
        if type(key) is int and -_LARGEST_NUMBER < key < _LARGEST_NUMBER:
            return int.__repr__(key)
        writer = Writer(self._room)
        writer.write(key, depth)
        self.cut |= writer.cut
        data = b"".join(writer.parts)
        return str(from_json(data)) if data.startswith(b'"') else data.decode()

    def _distinct(self, name: str, taken: dict[str, int]) -> str:
        """Return a key with the first number behind it, if need be, that makes it unlike the others."""
        found = name
        while found in taken:
            self.mapped = True
            taken[name] += 1
            found = f"{name} ({taken[name]})"
        taken[found] = 1
        return found

    def _separate(self) -> None:
        if self.parts[-1] not in _OPENINGS:
            self._put(b",")

    def _enter(self, value: object, depth: int) -> bool:
        """Note that ``value`` is being read; write what stands for it where it lies too deep or within itself."""
        if id(value) in self._path:
            self._map(CYCLE)
            return False
        if depth >= DEPTH_LIMIT:
            self._map(TOO_DEEP)
            return False
        self._path.add(id(value))
        return True

    def _leave(self, value: object, *, around: bool = False) -> None:
        if not around:  # else it lies in itself, and is still being read further out
            self._path.discard(id(value))


def _as_text(text_of: Callable[[Any], str]) -> Callable[[Writer, Any, int], None]:
    """Return what reads values that have one text, past what a subclass says of itself."""
    return lambda writer, value, _depth: writer._map(text_of(value))


def _as_array(elements: Callable[[Any], Iterable[Any]], *, mapped: bool = True) -> Callable[[Writer, Any, int], None]:
    """Return what reads containers of elements; ``mapped`` says that JSON makes another type of them."""

    def read(writer: Writer, value: Any, depth: int) -> None:
        writer.mapped |= mapped
        writer._array(value, depth, lambda: elements(value))

    return read


def _as_object(members: Callable[[Any], Iterable[tuple[Any, Any]]]) -> Callable[[Writer, Any, int], None]:
    """Return what reads containers of keys and values."""
    return lambda writer, value, depth: writer._object(value, depth, lambda: members(value))


_handlers |= {
    datetime: _as_text(datetime.isoformat),
    date: _as_text(date.isoformat),
    time: _as_text(time.isoformat),
    Decimal: _as_text(Decimal.__str__),
    PurePath: _as_text(PurePath.__str__),
    list: _as_array(list.__iter__, mapped=False),
    set: _as_array(set.__iter__),
    frozenset: _as_array(frozenset.__iter__),
    deque: _as_array(deque.__iter__),
    dict: _as_object(dict.items),
    OrderedDict: _as_object(OrderedDict.items),
} | dict.fromkeys((range, type({}.keys()), type({}.values()), type({}.items())), _as_array(lambda view: view))


_NUMBER_TEXT = 64
"""Characters of a text that may be a number; longer ones are none, and take long to read."""


def finite(value: object) -> float | None:
    """Return any value that says it is a number, or a text of one, as a float; None for others, NaN and infinities.

    Takes no time to speak of, whatever the size of the number: a huge one is an infinity, and so is none.
    """
    kind = type(value)
    try:
        if issubclass(kind, str):
            number = float(value) if str.__len__(value) <= _NUMBER_TEXT else None  # type: ignore[arg-type]
        else:
            number = float(value) if static(kind, "__float__") or static(kind, "__index__") else None  # type: ignore[arg-type]
    except BaseException as error:  # an `OverflowError`, or the value's own code
        if not of_a_value(error):
            raise
        return None
    return number if number is not None and number - number == 0.0 else None


def _handler(cls: type) -> Callable[[Writer, Any, int], None]:
    found = _handlers.get(cls)
    if found is not None:
        return found
    if issubclass(cls, Enum):  # before str and int, which an enum may be as well
        return Writer._enum
    return next((_handlers[base] for base in cls.__mro__ if base in _handlers), Writer._other)


def _blocks(elements: list[_T]) -> Iterator[list[_T]]:
    return (elements[start : start + _BLOCK] for start in range(0, len(elements), _BLOCK))


def _named(block: list[tuple[Any, Any]], taken: dict[str, int]) -> dict[str, Any]:
    """Return the members of a block with usual keys; none where a key is odd, stands twice or is taken."""
    members = {
        key if type(key) is str else str(key): element
        for key, element in block
        if type(key) is str or (type(key) is int and -_LARGEST_NUMBER < key < _LARGEST_NUMBER)
    }
    return members if len(members) == len(block) and taken.keys().isdisjoint(members) else {}


def _decoded(data: bytes, *, partial: bool) -> str | None:
    """Return ``data`` as text, or None if it is none; a ``partial`` one may end within a character."""
    if b"\0" in data:  # text in name only: silence, for one, is nothing but these
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return data[: error.start].decode() if partial and error.start >= len(data) - 3 else None


# -- what other people's classes say of themselves -----------------------------------------------------------------

_NAME_LIMIT = 256

_WRITTEN_AS_TEXT = (
    ("uuid", "UUID"),
    ("fractions", "Fraction"),
    ("ipaddress", "IPv4Address"),
    ("ipaddress", "IPv6Address"),
)
"""Types whose text is their value; looked up only where somebody else has imported them."""


def kind_name(cls: type) -> str:
    """Return ``<module.Type>``, what stands for an object that cannot be read."""
    try:
        module, name = cls.__module__, cls.__qualname__
    except Exception:  # noqa: BLE001 - a class that cannot say what it is
        return "<unknown>"
    return f"<{module}.{name}>"[:_NAME_LIMIT] if type(module) is str and type(name) is str else "<unknown>"


def error_name(error: BaseException) -> str:
    """Return the name of an exception's type."""
    return type(error).__name__


def message(error: BaseException, otherwise: str = "") -> str:
    """Return what a traceback says of ``error``, ``otherwise`` where it cannot say it: this one ``str`` is wanted."""
    try:
        return str(error)
    except BaseException as worse:  # an error that cannot say what it is still has a type
        if not of_a_value(worse):
            raise
        return otherwise


def own_text(value: object) -> str | None:
    """Return the text of a value that is written as text by its very type, such as a UUID; None for all others."""
    for module, name in _WRITTEN_AS_TEXT:
        cls = getattr(sys.modules.get(module), name, None)
        if cls is not None and isinstance(value, cls):
            return str(cls.__str__(value))
    return None


def static(cls: type, name: str) -> Any:
    """Return a class attribute as it stands in the namespace of the class or a base; None if there is none."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def attribute(value: object, name: str) -> tuple[object, ...]:
    """Return an attribute, past any ``__getattr__`` of the class, as a tuple of one; an empty one if it is not set."""
    try:
        return (object.__getattribute__(value, name),)
    except AttributeError:
        return ()


def field_names(cls: type) -> list[str] | None:
    """Return the names of the fields of a dataclass, pydantic model, attrs class or msgspec struct; None for others.

    Fields that a pydantic model excludes from its own JSON are left out.
    """
    if static(cls, "__dataclass_fields__") is not None:
        return [field.name for field in dataclasses.fields(cls)]
    if static(cls, "__pydantic_validator__") is not None:
        fields = static(cls, "__pydantic_fields__")
        known = static(cls, "model_fields") if fields is None else fields  # where pydantic kept them before 2.10
        return [name for name, field in known.items() if not field.exclude]
    attributes = static(cls, "__attrs_attrs__")
    if attributes is not None:
        return [attribute.name for attribute in attributes]
    names = static(cls, "__struct_fields__")
    return None if names is None else list(names)
