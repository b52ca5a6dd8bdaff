"""The careful path of `values.encode`: any Python object as strict JSON, piece by piece.

Nothing is asked of an object that can be read without its help: subclasses of the built-in types are read through
the built-in's own methods, classes through those of ``type``. The ``repr`` and ``str`` of unknown objects are never
called, because they may run code, take for ever, or show what should stay hidden. Iterators are never consumed.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import chain, islice
from numbers import Integral, Real
from pathlib import PurePath
from types import MappingProxyType, SimpleNamespace
from typing import Any, TypeVar

from pydantic_core import from_json, to_json

from bluejay_ws.wire.foreign import attribute, error_name, field_names, kind_name, lineage, message, own_text, static
from bluejay_ws.wire.plain import DEPTH_LIMIT, plain_json

__all__ = ["Writer", "clean", "snapshot"]

_T = TypeVar("_T")
_Read = TypeVar("_Read", bound="Callable[..., None]")

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

_handlers: dict[int, Callable[[Writer, Any, int], None]] = {}
"""How to read each built-in type, by the type's id: to hash a class may run its metaclass's code."""


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
        _handlers.update((id(cls), read) for cls in types)
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
        except (KeyboardInterrupt, SystemExit):  # somebody ends the process just now: that is not the value's doing
            raise
        except BaseException:  # noqa: BLE001 - a value's own code failed; it must not reach the agent, whatever it is
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
        self._put(to_json(number, inf_nan_mode="null"))

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

    @_reads(datetime)
    def _datetime(self, value: datetime, _depth: int) -> None:
        self._map(datetime.isoformat(value))

    @_reads(date)
    def _date(self, value: date, _depth: int) -> None:
        self._map(date.isoformat(value))

    @_reads(time)
    def _time(self, value: time, _depth: int) -> None:
        self._map(time.isoformat(value))

    @_reads(timedelta)
    def _timedelta(self, value: timedelta, depth: int) -> None:
        self.mapped = True
        self._float(timedelta.total_seconds(value), depth)

    @_reads(Decimal)
    def _decimal(self, value: Decimal, _depth: int) -> None:
        self._map(Decimal.__str__(value))

    @_reads(PurePath)
    def _pure_path(self, value: PurePath, _depth: int) -> None:
        self._map(PurePath.__str__(value))

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

    @_reads(dict)
    def _dict(self, value: dict[Any, Any], depth: int) -> None:
        self._object(value, depth, lambda: dict.items(value))

    @_reads(OrderedDict)
    def _ordered(self, value: OrderedDict[Any, Any], depth: int) -> None:
        self._object(value, depth, lambda: OrderedDict.items(value))

    @_reads(MappingProxyType)
    def _mapping(self, value: Mapping[Any, Any], depth: int) -> None:
        self.mapped = True
        self._object(value, depth, value.items)

    @_reads(list)
    def _list(self, value: list[Any], depth: int) -> None:
        self._array(value, depth, lambda: list.__iter__(value))

    @_reads(tuple)
    def _tuple(self, value: tuple[Any, ...], depth: int) -> None:
        names = static(type(value), "_fields")
        if type(names) is not tuple or len(names) != tuple.__len__(value):
            return self._array(value, depth, lambda: tuple.__iter__(value))
        self.mapped = True
        return self._object(value, depth, lambda: zip(names, tuple.__iter__(value), strict=True))

    @_reads(set)
    def _set(self, value: set[Any], depth: int) -> None:
        self.mapped = True
        self._array(value, depth, lambda: set.__iter__(value))

    @_reads(frozenset)
    def _frozenset(self, value: frozenset[Any], depth: int) -> None:
        self.mapped = True
        self._array(value, depth, lambda: frozenset.__iter__(value))

    @_reads(deque)
    def _deque(self, value: deque[Any], depth: int) -> None:
        self.mapped = True
        self._array(value, depth, lambda: deque.__iter__(value))

    @_reads(range, type({}.keys()), type({}.values()), type({}.items()))
    def _view(self, value: Iterable[Any], depth: int) -> None:
        self.mapped = True
        self._array(value, depth, lambda: value)

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


def _handler(cls: type) -> Callable[[Writer, Any, int], None]:
    found = _handlers.get(id(cls))
    if found is not None:
        return found
    bases = lineage(cls)
    if any(base is Enum for base in bases):  # before str and int, which an enum may be as well
        return Writer._enum  # noqa: SLF001 - the table of handlers is the class's other half
    return next((_handlers[id(base)] for base in bases if id(base) in _handlers), Writer._other)  # noqa: SLF001


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
