"""The recipe for LiveKit in the page on providers, with LiveKit's own session and a model of ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from bluejay_ws import Bluejay, record_tool

if TYPE_CHECKING:
    from bluejay_ws.testing.platform import FakePlatform

agents = pytest.importorskip("livekit.agents", reason="livekit-agents is not installed")

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"


class Model(agents.llm.LLM):  # type: ignore[misc, name-defined]
    """Asks for the weather if the caller does, and says what a tool answered."""

    def chat(self, *, chat_ctx: Any, tools: Any = None, **_: Any) -> Any:
        options = agents.types.DEFAULT_API_CONNECT_OPTIONS
        return _Answer(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=options)


class _Answer(agents.llm.LLMStream):  # type: ignore[misc, name-defined]
    async def _run(self) -> None:
        llm, last = agents.llm, self._chat_ctx.items[-1]
        if last.type == "function_call_output":
            delta = llm.ChoiceDelta(role="assistant", content=f"It is {last.output}.")
        else:
            call = llm.FunctionToolCall(name="weather", arguments='{"city": "London"}', call_id="c1")
            delta = llm.ChoiceDelta(role="assistant", tool_calls=[call])
        self._event_ch.send_nowait(llm.ChatChunk(id="1", delta=delta))


class Agent(agents.Agent):  # type: ignore[misc, name-defined]
    """Has one tool, recorded as the page says."""

    @agents.function_tool  # type: ignore[untyped-decorator]
    @record_tool
    async def weather(self, context: agents.RunContext, city: str) -> str:  # type: ignore[name-defined]
        """Tell the weather."""
        return f"foggy in {city}"


def recipe(platform: FakePlatform) -> dict[str, Any]:
    """Return the names that the page's first block on LiveKit defines, with a client for the local platform."""
    page = PAGE.read_text("utf-8").partition("## LiveKit")[2]
    source = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0].replace("bluejay = Bluejay()", "")
    names: dict[str, Any] = {"bluejay": Bluejay("test-key", base_url=platform.url, spool=False)}
    exec(source, names)
    return names


def test_the_recipe_for_livekit_reports_words_tools_and_leaves_handoffs_out(platform: FakePlatform) -> None:
    """The session begins with the handoff to its agent, which nobody said."""
    names = recipe(platform)

    async def session() -> None:
        session = agents.AgentSession(llm=Model())
        names["report"](session, "720488")
        await session.start(Agent(instructions="Help."))
        await session.run(user_input="What is the weather?")
        await session.aclose()
        await names["bluejay"].aclose()

    anyio.run(session)
    (report,) = platform.wait_for(1)
    body = json.loads(report.body)
    said = [(one["speaker"], one["utterance"]) for one in body["recorded_transcript"]]
    assert said == [("USER", "What is the weather?"), ("AGENT", "It is foggy in London.")]
    (call,) = body["tool_calls"]
    assert (call["name"], call["parameters"], call["output"]) == ("weather", {"city": "London"}, "foggy in London")


def test_without_an_id_the_recipe_for_livekit_records_nothing(platform: FakePlatform) -> None:
    """A production call: the session works, and nothing is sent or said."""
    names = recipe(platform)

    async def session() -> None:
        session = agents.AgentSession(llm=Model())
        names["report"](session, None)
        await session.start(Agent(instructions="Help."))
        await session.run(user_input="What is the weather?")
        await session.aclose()

    anyio.run(session)
    assert names["bluejay"].stats()["recorded"] == 0
    names["bluejay"].close()
    assert platform.reports_for("720488") == []
