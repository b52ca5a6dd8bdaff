"""Any Python object as plain data: what the careful path of `values.encode` turns odd values into.

Nothing is asked of an object that can be read without its help: subclasses of the built-in types are read
through the built-in's own methods, classes through ``type``'s, and the ``repr`` and ``str`` of unknown objects are
never called, because they may run code, take for ever, or show what should stay hidden. Iterators are never consumed.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import OrderedDict, deque
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from numbers import Integral, Real
from pathlib import PurePath
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["DEPTH_LIMIT", "Copier", "clean", "snapshot"]

DEPTH_LIMIT = 64
"""How many containers may lie within each other, the outermost included."""

CYCLE = "[cycle]"
TOO_DEEP = "[too deep]"

_LARGEST_NUMBER = 2**1023
"""Whole numbers from here on are beyond a double: they are written as text, which every parser takes."""

_MOST_DIGITS = 4300
"""Where Python itself stops to turn whole numbers into text and back."""

_NAME_LIMIT = 256
_TRIES = 8
_T = TypeVar("_T")

_mro = type.__dict__["__mro__"].__get__
_module = type.__dict__["__module__"].__get__
_qualname = type.__dict__["__qualname__"].__get__
_name = type.__dict__["__name__"].__get__
_namespace = type.__dict__["__dict__"].__get__


def clean(text: str) -> str:
    """Return ``text`` as strict JSON and a database can hold it: lone surrogates and NUL become U+FFFD."""
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


class Copier:
    """Copy any object to exact dicts, lists, strings, numbers, booleans and None. Use it once.

    Args:
        room: bytes of JSON after which the copy stops; what it holds then is a beginning.

    Attributes:
        mapped: something became another value or another type than it was.
        cut: there was more than ``room``.
    """

    __slots__ = ("_path", "cut", "mapped", "room")

    def __init__(self, room: int) -> None:
        self.room = room
        self.mapped = False
        self.cut = False
        self._path: set[int] = set()

    def copy(self, value: object, depth: int = 0) -> Any:
        """Return ``value`` as plain data; what cannot be read becomes the name of its type.

        Args:
            value: anything.
            depth: how many containers it lies in.
        """
        self.room -= 2
        try:
            return _handler(type(value))(self, value, depth)
        except (KeyboardInterrupt, SystemExit):  # somebody ends the process just now: not the value's doing
            raise
        except BaseException:  # noqa: BLE001 - a value's own code failed, and a value must never reach the agent
            return self._unknown(value, depth)

    # -- what may lie in a leaf --------------------------------------------------------------------------------

    def _text(self, value: str, _depth: int = 0) -> str:
        text = str.__str__(value)
        if len(text) > self.room:
            self.cut = True
            text = text[: max(0, self.room)]
        self.room -= len(text)
        cleaned = clean(text)
        self.mapped |= cleaned != text
        return cleaned

    def _mapped(self, text: str) -> str:
        self.mapped = True
        return self._text(text)

    def _itself(self, value: object, _depth: int) -> object:
        return value

    def _int(self, value: int, _depth: int = 0) -> int | str:
        number = int.__int__(value)
        if -_LARGEST_NUMBER < number < _LARGEST_NUMBER:
            self.room -= number.bit_length() // 4
            return number
        digits = number.bit_length() * 30_103 // 100_000 + 1
        if digits > min(_MOST_DIGITS, sys.get_int_max_str_digits() or _MOST_DIGITS):
            return self._mapped(f"[integer of about {digits} digits]")
        return self._mapped(int.__repr__(number))

    def _float(self, value: float, _depth: int = 0) -> float | None:
        number = float.__float__(value)
        if number - number == 0.0:
            return number
        self.mapped = True  # NaN and the infinities are no JSON
        return None

    def _bytes(self, value: bytes | bytearray | memoryview, _depth: int) -> str:
        view = memoryview(value)
        size = view.nbytes
        if size > self.room:
            self.cut = True
            view = view.cast("B")[: max(0, self.room)]
        try:
            return self._mapped(_decoded(bytes(view), partial=view.nbytes < size))
        except UnicodeDecodeError:
            return self._mapped(f"<{size} bytes>")

    def _datetime(self, value: datetime, _depth: int) -> str:
        return self._mapped(datetime.isoformat(value))

    def _date(self, value: date, _depth: int) -> str:
        return self._mapped(date.isoformat(value))

    def _time(self, value: time, _depth: int) -> str:
        return self._mapped(time.isoformat(value))

    def _timedelta(self, value: timedelta, _depth: int) -> float:
        self.mapped = True
        return timedelta.total_seconds(value)

    def _decimal(self, value: Decimal, _depth: int) -> str:
        return self._mapped(Decimal.__str__(value))

    def _path_text(self, value: PurePath, _depth: int) -> str:
        return self._mapped(PurePath.__str__(value))

    def _unknown(self, value: object, _depth: int) -> str:
        try:
            cls = type(value)
            return self._mapped(f"<{_module(cls)}.{_qualname(cls)}>"[:_NAME_LIMIT])
        except Exception:  # noqa: BLE001 - a class may say anything about itself
            return self._mapped("<unknown>")

    # -- containers --------------------------------------------------------------------------------------------

    def _inside(self, value: object, depth: int, read: Callable[[int], Any]) -> Any:
        """Return ``read(depth + 1)``, unless ``value`` lies too deep or within itself."""
        if id(value) in self._path:
            return self._mapped(CYCLE)
        if depth >= DEPTH_LIMIT:
            return self._mapped(TOO_DEEP)
        self._path.add(id(value))
        try:
            return read(depth + 1)
        finally:
            self._path.discard(id(value))

    def _elements(self, value: object, depth: int, source: Callable[[], Iterable[object]]) -> Any:
        return self._inside(value, depth, lambda deeper: self._list(source, deeper))

    def _list(self, source: Callable[[], Iterable[object]], depth: int) -> list[Any]:
        copied: list[Any] = []
        for element in snapshot(source, self.room // 2 + 1):
            if self.room <= 0:
                self.cut = True
                break
            copied.append(self.copy(element, depth))
        return copied

    def _pairs(self, value: object, depth: int, source: Callable[[], Iterable[tuple[object, object]]]) -> Any:
        return self._inside(value, depth, lambda deeper: self._dict(source, deeper))

    def _dict(self, source: Callable[[], Iterable[tuple[object, object]]], depth: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        same: dict[str, int] = {}
        for key, element in snapshot(source, self.room // 4 + 1):
            if self.room <= 0:
                self.cut = True
                break
            text = key if type(key) is str and key.isprintable() and len(key) < self.room else self._key(key, depth)
            if text in copied:
                text = _another(text, copied, same)
                self.mapped = True
            self.room -= len(text) + 3
            copied[text] = self.copy(element, depth)
        return copied

    def _key(self, key: object, depth: int) -> str:
        self.mapped |= not issubclass(type(key), str)
        copied = self.copy(key, depth)
        return copied if isinstance(copied, str) else _key_text(copied)

    def _mapping(self, value: dict[Any, Any], depth: int) -> Any:
        return self._pairs(value, depth, lambda: dict.items(value))

    def _ordered(self, value: OrderedDict[Any, Any], depth: int) -> Any:
        return self._pairs(value, depth, lambda: OrderedDict.items(value))

    def _foreign_mapping(self, value: Mapping[Any, Any], depth: int) -> Any:
        return self._pairs(value, depth, lambda: value.items())

    def _sequence(self, value: list[Any], depth: int) -> Any:
        return self._elements(value, depth, lambda: list.__iter__(value))

    def _tuple(self, value: tuple[Any, ...], depth: int) -> Any:
        names = _static(type(value), "_fields")
        if type(names) is tuple and len(names) == tuple.__len__(value):
            self.mapped = True
            return self._pairs(value, depth, lambda: zip(names, tuple.__iter__(value), strict=True))
        return self._elements(value, depth, lambda: tuple.__iter__(value))

    def _set(self, value: set[Any], depth: int) -> Any:
        self.mapped = True
        return self._elements(value, depth, lambda: set.__iter__(value))

    def _frozenset(self, value: frozenset[Any], depth: int) -> Any:
        self.mapped = True
        return self._elements(value, depth, lambda: frozenset.__iter__(value))

    def _deque(self, value: deque[Any], depth: int) -> Any:
        self.mapped = True
        return self._elements(value, depth, lambda: deque.__iter__(value))

    def _iterable(self, value: Iterable[Any], depth: int) -> Any:
        self.mapped = True
        return self._elements(value, depth, lambda: value)

    def _enum(self, value: Enum, depth: int) -> Any:
        self.mapped = True
        return self._inside(value, depth, lambda deeper: self.copy(object.__getattribute__(value, "_value_"), deeper))

    def _exception(self, value: BaseException, depth: int) -> Any:
        self.mapped = True
        facts = {"error": _name(type(value)), "message": _message(value)}
        return self._pairs(value, depth, lambda: facts.items())

    def _object(self, value: object, depth: int) -> Any:
        """Return what has no built-in base: an object of its fields, a mapping, a number, or the type's name."""
        self.mapped = True
        cls = type(value)
        names = _field_names(cls)
        if names is not None:
            fields = [(name, found) for name in names for found in _attribute(value, name)]
            if _static(cls, "__pydantic_root_model__") is True:
                return self._inside(value, depth, lambda deeper: self.copy(dict(fields).get("root"), deeper))
            extra = next(iter(_attribute(value, "__pydantic_extra__")), None)
            more = list(dict.items(extra)) if type(extra) is dict else []
            return self._pairs(value, depth, lambda: fields + more)
        if issubclass(cls, Mapping):
            return self._foreign_mapping(value, depth)  # type: ignore[arg-type]
        if issubclass(cls, Integral):
            return self._int(int(value))  # type: ignore[call-overload]
        if issubclass(cls, Real) and not hasattr(cls, "numerator"):
            return self._float(float(value))  # type: ignore[arg-type]
        if any(_loaded(module, name) in _mro(cls) for module, name in _WRITTEN_AS_TEXT):
            return self._mapped(str(value))
        return self._unknown(value, depth)


_WRITTEN_AS_TEXT = (
    ("uuid", "UUID"),
    ("fractions", "Fraction"),
    ("ipaddress", "IPv4Address"),
    ("ipaddress", "IPv6Address"),
)
"""Types whose text is their value; looked up only where they are imported already."""

_HANDLERS: dict[int, Callable[[Copier, Any, int], Any]] = {
    id(type(None)): Copier._itself,  # noqa: SLF001 - the table is part of the class
    id(bool): Copier._itself,  # noqa: SLF001
    id(str): Copier._text,  # noqa: SLF001
    id(int): Copier._int,  # noqa: SLF001
    id(float): Copier._float,  # noqa: SLF001
    id(dict): Copier._mapping,  # noqa: SLF001
    id(OrderedDict): Copier._ordered,  # noqa: SLF001
    id(MappingProxyType): Copier._foreign_mapping,  # noqa: SLF001
    id(list): Copier._sequence,  # noqa: SLF001
    id(tuple): Copier._tuple,  # noqa: SLF001
    id(set): Copier._set,  # noqa: SLF001
    id(frozenset): Copier._frozenset,  # noqa: SLF001
    id(deque): Copier._deque,  # noqa: SLF001
    id(range): Copier._iterable,  # noqa: SLF001
    id(type({}.keys())): Copier._iterable,  # noqa: SLF001
    id(type({}.values())): Copier._iterable,  # noqa: SLF001
    id(type({}.items())): Copier._iterable,  # noqa: SLF001
    id(bytes): Copier._bytes,  # noqa: SLF001
    id(bytearray): Copier._bytes,  # noqa: SLF001
    id(memoryview): Copier._bytes,  # noqa: SLF001
    id(datetime): Copier._datetime,  # noqa: SLF001
    id(date): Copier._date,  # noqa: SLF001
    id(time): Copier._time,  # noqa: SLF001
    id(timedelta): Copier._timedelta,  # noqa: SLF001
    id(Decimal): Copier._decimal,  # noqa: SLF001
    id(PurePath): Copier._path_text,  # noqa: SLF001
    id(BaseException): Copier._exception,  # noqa: SLF001
}
"""How to read each built-in type, by the type's id: hashing a class may run its metaclass's code."""


def _handler(cls: type) -> Callable[[Copier, Any, int], Any]:
    found = _HANDLERS.get(id(cls))
    if found is not None:
        return found
    bases = _mro(cls)
    if any(base is Enum for base in bases):  # before str and int, which an enum may also be
        return Copier._enum  # noqa: SLF001
    return next((_HANDLERS[id(base)] for base in bases if id(base) in _HANDLERS), Copier._object)  # noqa: SLF001


def _decoded(data: bytes, *, partial: bool) -> str:
    """Return ``data`` as text; a ``partial`` one may end within a character."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if partial and error.start >= len(data) - 3:
            return data[: error.start].decode()
        raise


def _key_text(copied: object) -> str:
    from pydantic_core import to_json  # noqa: PLC0415 - only odd keys need it

    return to_json(copied).decode()


def _another(text: str, taken: dict[str, Any], same: dict[str, int]) -> str:
    """Return ``text`` with the first number behind it that makes it another key."""
    number = same.get(text, 1)
    found = text
    while found in taken:
        number += 1
        found = f"{text} ({number})"
    same[text] = number
    return found


def _message(error: BaseException) -> str:
    """Return what a traceback would say of ``error``: this one ``str`` is wanted, and may fail."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an error that cannot say what it is still has its type's name
        return ""


def _static(cls: type, name: str) -> object:
    """Return a class attribute as it stands in the class's or a base's namespace, or None."""
    return next((_namespace(base)[name] for base in _mro(cls) if name in _namespace(base)), None)


def _attribute(value: object, name: str) -> tuple[object, ...]:
    """Return the attribute in a tuple of one, past any ``__getattr__`` of the class; an empty one if it is not set."""
    try:
        return (object.__getattribute__(value, name),)
    except AttributeError:
        return ()


def _field_names(cls: type) -> list[str] | None:
    """Return the names of the fields of a dataclass, pydantic model, attrs class or msgspec struct, or None."""
    if _static(cls, "__pydantic_validator__") is not None and _static(cls, "__dataclass_fields__") is None:
        fields: Any = _static(cls, "__pydantic_fields__") or cls.model_fields  # type: ignore[attr-defined]
        return [name for name, field in fields.items() if not field.exclude]
    if _static(cls, "__dataclass_fields__") is not None:
        return [field.name for field in dataclasses.fields(cls)]
    attributes: Any = _static(cls, "__attrs_attrs__")
    if attributes is not None:
        return [attribute.name for attribute in attributes]
    names: Any = _static(cls, "__struct_fields__")
    if names is not None:
        return list(names)
    return None


def _loaded(module: str, name: str) -> object:
    return getattr(sys.modules.get(module), name, None)
