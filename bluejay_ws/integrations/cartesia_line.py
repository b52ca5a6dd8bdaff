"""What Cartesia Line says about a call, on either of its two sockets.

The agent's side (Cartesia dials your app): ``message`` is what the caller said, ``agent_speech`` what was spoken. The
caller's side (``/agents/stream/...``): ``turn_started`` and ``turn_ended``, with the tool calls of a turn at its end.
The events of the Line SDK are those of the agent's side under other names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from bluejay_ws.integrations.tap import SERVICE_ERROR, Reply, Tap, noting

if TYPE_CHECKING:
    from bluejay_ws.integrations.tap import Actions
    from bluejay_ws.recorder import Recorder

__all__ = ["CartesiaLineTap"]

_OF_THE_SDK: dict[Any, dict[str, Any]] = {
    "user_turn_started": {"type": "user_state", "value": "speaking"},
    "user_turn_ended": {"type": "user_state", "value": "idle"},
    "user_text_sent": {"type": "message"},
    "user_dtmf_sent": {"type": "dtmf"},
    "agent_turn_started": {"type": "agent_state", "value": "speaking"},
    "agent_turn_ended": {"type": "agent_state", "value": "idle"},
    "agent_text_sent": {"type": "agent_speech"},
}
_ERROR = noting(SERVICE_ERROR, message="content message")
_TRANSFER = noting("The agent transferred the call", target="target_phone_number target")


class CartesiaLineTap(Tap):
    """Turn the messages of a Cartesia Line socket into facts of a recorder; see `Tap`."""

    provider = "cartesia"

    def __init__(self, recorder: Recorder, **options: Any) -> None:
        super().__init__(recorder, **options)
        self._broken: Reply | None = None  # what the caller has just broken in on; its words may still come
        self._planned: list[str] = []
        self._agent_speaks = False
        self._committed = False  # the platform tells what was spoken

    def _received(self, message: dict[str, Any]) -> None:
        if "type" not in message and "event" in message:
            message = {**message, "type": message["event"]}
        elif message.get("type") in _OF_THE_SDK:
            message = {**message, **_OF_THE_SDK[message["type"]]}
        super()._received(message)

    # -- the caller --------------------------------------------------------------------------------------------

    def _user_state(self, message: dict[str, Any]) -> None:
        if message.get("value") == "speaking":
            self._user_began()
            return
        speech, told, now = self._user, _told(message), self._now()
        if speech is not None:
            speech.end = now
        if told and (speech is None or not speech.text):
            self._user_text({"content": told})
        elif speech is not None and speech.said is not None:
            self._user = None
            if speech.start is not None:
                speech.said.lasts(ms=now - speech.start)

    def _user_began(self) -> None:
        if self._user is None or self._user.end is not None or self._user.text:
            self._user = self._speech(next(self._numbers))
            self._user.start = None if self._observed() else self._stamp(self._now())
        if self._agent_speaks:
            self._agent_speaks = False
            self._interrupted(next(self._numbers))
            self._lasted_until_now()
            self._broken = self._agent
            self._end_reply()

    def _user_text(self, message: dict[str, Any]) -> None:
        """Take what the caller said, in one message or in several before the end of speech."""
        speech = self._user
        if speech is None:
            speech = self._speech(next(self._numbers))
            speech.start = None if self._observed() else self._stamp(self._now())
        elif speech.end is not None:
            self._user = None
        self._end_reply()
        self._user_said(speech, f"{speech.text} {message.get('content') or ''}")

    # -- the agent ---------------------------------------------------------------------------------------------

    def _agent_state(self, message: dict[str, Any]) -> None:
        self._agent_speaks, spoke = message.get("value") == "speaking", self._agent_speaks
        if not self._agent_speaks:
            if self._agent is not None and not self._agent.text and (told := _told(message)):
                self._spoken_text({"content": told})
            return self._lasted_until_now() if spoke else None
        if self._agent is not None and self._agent.text:
            self._end_reply()
        reply = self._begin_reply()  # perhaps planned before it is heard
        reply.plays_from = float(self._now())
        reply.start = self._stamp(reply.plays_from)
        return None

    def _lasted_until_now(self) -> None:
        if self._agent is not None:
            self._agent.audio_ms = max(0.0, self._now() - self._agent.plays_from)

    def _begin_reply(self) -> Reply:
        if self._agent is None:
            self._broken = None
            self._agent = self._reply(next(self._numbers))
            self._agent.plays_from = float(self._now())
            self._agent.start = self._stamp(self._agent.plays_from)
        return self._agent

    def _spoken_text(self, message: dict[str, Any]) -> None:
        reply, text = self._agent or self._broken or self._begin_reply(), message.get("content") or ""
        if not reply.final:  # else it is the next piece
            reply.text, reply.final, self._committed = "", True, True
        glue = " " if reply.text and text and not (reply.text[-1].isspace() or text[0].isspace()) else ""
        reply.text += glue + text
        if reply is not self._broken:
            self._lasted_until_now()
        self._tell_agent(reply)

    def _end_reply(self) -> None:
        reply, self._agent = self._agent, None
        if reply is None:
            return
        if not self._committed:  # only the plan is known
            reply.text = "".join(self._planned)
        self._planned = []
        self._tell_agent(reply)

    def _planned_text(self, message: dict[str, Any]) -> None:
        if not self._committed:
            self._begin_reply()
            self._planned.append(message.get("content") or message.get("text") or "")

    # -- tools -------------------------------------------------------------------------------------------------

    def _called(self, message: dict[str, Any]) -> None:
        key, name, result = message.get("id"), message.get("name"), message.get("result")
        waits = key is None and any(one.name == name for one in self.tools.open())
        if result is None or not waits:
            self.tools.begin(key, name, message.get("arguments") or {})
        if result is not None:
            self.tools.answered(key, result, name)

    def _called_by_sdk(self, message: dict[str, Any]) -> None:
        key, name = message.get("tool_call_id"), message.get("tool_name")
        self.tools.begin(key, name, message.get("tool_args") or {})
        if message["type"] == "agent_tool_returned":
            self.tools.answered(key, message.get("result"), name)

    # -- the caller's side -------------------------------------------------------------------------------------

    def _turn_started(self, message: dict[str, Any]) -> None:
        role = (message.get("turn_started") or {}).get("role")
        if role == "user":
            self._user_began()
        else:
            self._agent_speaks = True
            self._begin_reply()

    def _turn_ended(self, message: dict[str, Any]) -> None:
        facts = message.get("turn_ended") or {}
        for call in facts.get("tool_calls") or ():
            known = {"id": ("of a turn", call.get("name"), str(call.get("arguments")))}  # told twice after a handoff
            self._called(call if call.get("id") is not None else {**call, **known})
        text = facts.get("text") or ""
        if facts.get("role") == "user":
            if self._user is not None:
                self._user.end = self._now()
            if text:
                self._user_text({"content": text})
        else:
            self._agent_speaks = False
            reply = self._begin_reply()
            reply.audio_ms = max(0.0, self._now() - reply.plays_from)
            self._agent = None
            self._agent_said(reply, text)

    def _cleared(self, _: dict[str, Any]) -> None:
        if self._agent_speaks:
            self._interrupted(next(self._numbers))
        self._agent_speaks = False

    def _finish(self) -> None:
        self._end_reply()
        super()._finish()

    received: ClassVar[Actions] = {
        "user_state": _user_state,
        "agent_state": _agent_state,
        "message": _user_text,
        "agent_speech": _spoken_text,
        "turn_started": _turn_started,
        "turn_ended": _turn_ended,
        "clear": _cleared,
        "agent_tool_called": _called_by_sdk,
        "agent_tool_returned": _called_by_sdk,
        "dtmf": noting("DTMF", key="button dtmf"),
        "error": _ERROR,
    }
    outgoing: ClassVar[Actions] = {
        "message": _planned_text,
        "agent_send_text": _planned_text,
        "tool_call": _called,
        "agent_tool_called": _called_by_sdk,
        "agent_tool_returned": _called_by_sdk,
        "transfer": _TRANSFER,
        "agent_transfer_call": _TRANSFER,
        "end_call": noting("The agent ended the call"),
        "error": _ERROR,
    }
    quiet: ClassVar[frozenset[str]] = frozenset({
        *("start", "ack", "media_output", "custom", "end", "media_input"),
        *("call_started", "call_ended", "agent_handed_off", "agent_dtmf_sent", "user_custom_sent"),
    })  # fmt: skip


def _told(message: dict[str, Any]) -> str:
    """Return the words that the SDK's event at the end of a turn repeats, or tells alone."""
    return " ".join(one["content"] for one in message.get("content") or () if one.get("content"))
