"""`record` on ``websockets.trio`` servers: the shared table of what handler and caller can do to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bluejay_ws import Bluejay, record
from tests.servers import behaviours
from tests.support import report_of

trio = pytest.importorskip("trio")
pytest.importorskip("websockets.trio", reason="this release of websockets has no trio server")

from tests.servers import behaviours_trio  # noqa: E402 - only where there is a trio server

if TYPE_CHECKING:
    from bluejay_ws.testing.platform import FakePlatform


@pytest.mark.parametrize("name", behaviours_trio.BEHAVIOURS)
def test_nobody_can_tell_a_recorded_call_from_a_bare_one(name: str, client: Bluejay, platform: FakePlatform) -> None:
    """Handler and caller see the same of each other with the decorator and without it."""
    row = behaviours_trio.BEHAVIOURS[name]
    bare = trio.run(behaviours_trio.run, *row, lambda handler: handler)
    recorded = trio.run(behaviours_trio.run, *row, record(client=client))
    assert recorded == bare
    assert not [counted for counted in client.stats() if counted.startswith("internal_error")]
    report_of(platform)


def test_it_is_the_same_table() -> None:
    """What is asked of the servers on asyncio is asked of trio's."""
    assert behaviours_trio.BEHAVIOURS.keys() == behaviours.BEHAVIOURS.keys()
