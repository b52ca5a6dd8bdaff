"""The errors: what they say, what they carry, and that they survive a pickle."""

from __future__ import annotations

import pickle

import pytest

from bluejay_ws import exceptions
from bluejay_ws.exceptions import BluejayError, ConfigurationError, DeliveryError, ResultError, SpoolError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigurationError("base_url", "is not a URL", "write it out"), "base_url is not a URL; write it out"),
        (
            DeliveryError({"waiting": 2, "held": 0, "parked": 1}, "no route"),
            "not every report was delivered (2 waiting, 1 parked): no route",
        ),
        (DeliveryError({"waiting": 0}, "no route"), "not every report was delivered (none counted): no route"),
        (ResultError("call 7", "is not known", "check the id"), "call 7 is not known; check the id"),
        (SpoolError("/x y", "is full", "empty it"), "spool '/x y' is full; empty it"),
    ],
)
def test_an_error_names_the_thing_the_reason_and_the_way_out(error: BluejayError, text: str) -> None:
    """The sentence is built from the facts, without full stop."""
    assert str(error) == text


def test_errors_carry_their_facts_as_attributes() -> None:
    """Nobody has to parse a sentence."""
    configuration = ConfigurationError("a", "b", "c")
    assert (configuration.setting, configuration.reason, configuration.remedy) == ("a", "b", "c")
    delivery = DeliveryError({"held": 1}, "b")
    assert (delivery.undelivered, delivery.reason) == ({"held": 1}, "b")
    spool = SpoolError("a", "b", "c")
    assert (spool.path, spool.reason, spool.remedy) == ("a", "b", "c")


@pytest.mark.parametrize("name", exceptions.__all__)
def test_every_error_is_caught_by_the_one_base_class(name: str) -> None:
    """`except BluejayError` catches all of them."""
    assert issubclass(getattr(exceptions, name), BluejayError)


def test_a_wrong_setting_is_also_a_value_error() -> None:
    """Code that catches ValueError around its configuration continues working."""
    assert issubclass(ConfigurationError, ValueError)


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("a", "b", "c"),
        DeliveryError({"held": 1}, "b"),
        ResultError("a", "b", "c"),
        SpoolError("a", "b", "c"),
    ],
)
def test_an_error_crosses_process_boundaries(error: BluejayError) -> None:
    """Pools of processes pickle exceptions: type, text and facts arrive."""
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
