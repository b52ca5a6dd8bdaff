"""`bluejay_ws.cli.demo_agent`: the agent of the demo, on its own."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from bluejay_ws.cli import demo_agent
from bluejay_ws.testing.audio import tone
from bluejay_ws.testing.caller import DigitalHuman
from tests.testing.agents import serving

if TYPE_CHECKING:
    import pytest


def test_it_greets_and_answers_every_utterance_with_its_whole_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It speaks first, answers what it expects and what it does not, and its marks come back."""
    monkeypatch.setattr(demo_agent, "THINKING", 0.01)

    async def main() -> None:
        async with serving(functools.partial(demo_agent.agent, pace=0.0)) as url:
            human = DigitalHuman(url, None, pace=0)
            log = await human.call([tone(60)] * 3, greeting=10)
        assert len(log.of("agent.speech.completed")) == len(log.of("mark.echoed")) == 4
        assert not log.of("interrupted")
        assert not log.of("error.sent")
        assert log.heard_ms > 4_000
        assert log.close_code == 1000

    asyncio.run(main())
