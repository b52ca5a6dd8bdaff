"""The published JSON schema itself: a second opinion on what the fake platform takes and answers."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from jsonschema import Draft202012Validator

COMPONENTS = json.loads((Path(__file__).parent / "published_schema.json").read_text("utf-8"))["components"]
REPORT = "src__api__update_simulation_result__UpdateSimulationRequest"


@functools.cache
def validator(name: str) -> Draft202012Validator:
    """Return the validator of one published schema."""
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": COMPONENTS})


def problems(value: object, name: str = REPORT) -> list[str]:
    """Return what the published schema ``name`` has against ``value``."""
    return [f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(value)]
