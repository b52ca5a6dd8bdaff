"""What can be read of objects and classes that other people wrote, with as little of their code run as possible."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

__all__ = ["attribute", "error_name", "field_names", "kind_name", "lineage", "message", "own_text", "static"]

_NAME_LIMIT = 256

_WRITTEN_AS_TEXT = (
    ("uuid", "UUID"),
    ("fractions", "Fraction"),
    ("ipaddress", "IPv4Address"),
    ("ipaddress", "IPv6Address"),
)
"""Types whose text is their value; looked up only where somebody else has imported them."""

# What a class says of itself, past a metaclass that may say otherwise:
_mro = type.__dict__["__mro__"].__get__
_module = type.__dict__["__module__"].__get__
_qualname = type.__dict__["__qualname__"].__get__
_name = type.__dict__["__name__"].__get__
_namespace = type.__dict__["__dict__"].__get__


def lineage(cls: type) -> tuple[type, ...]:
    """Return the class and its bases, in the order in which attributes are looked up."""
    bases: tuple[type, ...] = _mro(cls)
    return bases


def kind_name(cls: type) -> str:
    """Return ``<module.Type>``, what stands for an object that cannot be read."""
    try:
        module, name = _module(cls), _qualname(cls)
    except AttributeError:
        return "<unknown>"
    return f"<{module}.{name}>"[:_NAME_LIMIT] if type(module) is str and type(name) is str else "<unknown>"


def error_name(error: BaseException) -> str:
    """Return the name of an exception's type."""
    return str(_name(type(error)))


def message(error: BaseException) -> str:
    """Return what a traceback says of ``error``: this one ``str`` is wanted. Empty if it fails."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an error that cannot say what it is still has a type
        return ""


def own_text(value: object) -> str | None:
    """Return the text of a value that is written as text by its very type, such as a UUID; None for all others."""
    for module, name in _WRITTEN_AS_TEXT:
        cls = getattr(sys.modules.get(module), name, None)
        if cls is not None and any(base is cls for base in _mro(type(value))):
            return str(cls.__str__(value))
    return None


def static(cls: type, name: str) -> Any:
    """Return a class attribute as it stands in the namespace of the class or a base; None if there is none."""
    return next((_namespace(base)[name] for base in _mro(cls) if name in _namespace(base)), None)


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
