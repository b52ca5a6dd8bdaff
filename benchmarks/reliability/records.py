"""What the agents of the fault runs record: made up from the call's id and a number, so that anybody can check it."""

from __future__ import annotations

import json
import random

__all__ = ["TOOL", "record_bytes", "values"]

TOOL = "step"
_LETTERS = 'abc "\\/\n\t\x01é語🙂<>&\x7f'


def values(identity: str, number: int) -> tuple[dict[str, object], object]:
    """Return parameters and output of a call's record with this number.

    Args:
        identity: the call's id.
        number: 0 for the first record; also its ``start_offset_ms``.
    """
    source = random.Random(f"{identity}/{number}")
    text = "".join(source.choices(_LETTERS, k=source.randrange(40)))
    return {"number": number, "text": text}, [text[::-1], source.randrange(10**9), None, True]


def record_bytes(identity: str, number: int) -> bytes:
    """Return the bytes that this record must have in the body that the platform accepts."""
    parameters, output = values(identity, number)
    item = {"start_offset_ms": number, "name": TOOL, "parameters": parameters, "output": output}
    return json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
