"""Reading other people's objects without running their code."""

from __future__ import annotations

import uuid
from dataclasses import InitVar, dataclass
from fractions import Fraction
from ipaddress import ip_address
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from bluejay_ws.wire.encode import attribute, error_name, field_names, kind_name, message, own_text, static
from tests.wire.hostile import Card, Model, Odd, Point, Root, Slotted, Ticket, trap


class Guarded:
    """An object whose attributes cost a fight."""

    def __init__(self) -> None:
        self.kept = 1

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(name)


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (Odd, "<tests.wire.hostile.Odd>"),
        (int, "<builtins.int>"),
        (type("Nowhere", (), {"__module__": 7}), "<unknown>"),
        (eval("type('Nameless', (), {})", {}), "<unknown>"),
        (type("Long", (), {"__qualname__": "x" * 999}), f"<tests.wire.test_foreign.{'x' * 231}"[:256]),
        (type("Mute", (), {"__module__": trap(object, ValueError)()}), "<unknown>"),
    ],
)
def test_an_unreadable_object_is_called_by_its_type(cls: type, name: str) -> None:
    """The name is short, whatever the class says of itself."""
    assert kind_name(cls) == name


def test_an_error_is_told_by_its_type_and_its_words() -> None:
    """The words are those of a traceback; an error that cannot say them has none."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert (error_name(KeyError("x")), message(KeyError("x"))) == ("KeyError", "'x'")
    assert (error_name(MuteError()), message(MuteError())) == ("MuteError", "")


def test_some_types_are_their_text() -> None:
    """A UUID, a fraction and an address are written as people write them; other objects have no text."""

    class Loud(uuid.UUID):
        def __str__(self) -> str:
            raise AssertionError("a subclass's text was asked for")

    assert own_text(Loud(int=1)) == "00000000-0000-0000-0000-000000000001"
    assert own_text(Fraction(1, 3)) == "1/3"
    assert own_text(ip_address("::1")) == "::1"
    assert own_text(Odd()) is None


def test_attributes_are_read_past_what_the_class_says() -> None:
    """Class attributes come from the namespaces, an instance's from its own; what is not there is not invented."""
    assert static(Guarded, "__init__") is Guarded.__dict__["__init__"]
    assert static(Guarded, "missing") is None
    assert attribute(Guarded(), "kept") == (1,)
    assert attribute(Guarded(), "missing") == ()


def test_the_fields_of_records_are_known() -> None:
    """Dataclasses, models, attrs classes and structs name their fields; other classes have none."""

    @dataclass
    class Partial:
        kept: int
        shared: ClassVar[int] = 1
        given: InitVar[int] = 2

    struct = type("Struct", (), {"__struct_fields__": ("a", "b")})
    assert field_names(Partial) == ["kept"]
    assert field_names(Card) == ["last4", "inner"]
    assert field_names(Slotted) == ["value"]
    assert field_names(Ticket) == ["number"]
    assert field_names(Model) == ["name", "inner", "secret"]
    assert field_names(Root) == ["root"]
    assert field_names(struct) == ["a", "b"]
    assert field_names(Point) is None
    assert field_names(Odd) is None


def test_a_model_of_an_older_pydantic_names_its_fields() -> None:
    """Before 2.10 the fields stood in the class itself."""
    fields = dict(Model.__pydantic_fields__ if hasattr(Model, "__pydantic_fields__") else Model.model_fields)
    older = type("Older", (), {"__pydantic_validator__": object(), "model_fields": fields})
    assert field_names(older) == ["name", "inner", "secret"]


def test_a_model_without_fields_has_none() -> None:
    """An empty model is an empty object, not an unknown one."""

    class Empty(BaseModel):
        pass

    assert field_names(Empty) == []
