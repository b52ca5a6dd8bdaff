"""What an Amazon Nova Sonic stream says about a call: ``{"event": {name: {...}}}``, or the chunks that carry it.

The agent's text comes twice: as a plan before its audio (SPECULATIVE), and as what was spoken afterwards (FINAL). The
k-th final text belongs to the k-th block of audio. No event has a time.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

from bluejay_ws.integrations.caller_audio import audio_bytes
from bluejay_ws.integrations.tap import KEPT, SERVICE_ERROR, Reply, Tap, forget_oldest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bluejay_ws.integrations.tap import Actions
    from bluejay_ws.recorder import Recorder

__all__ = ["NovaSonicTap"]

_INTERRUPTED = re.compile(r'^\s*\{\s*"interrupted"\s*:\s*true\s*\}\s*$')


class NovaSonicTap(Tap):
    """Turn the events of an Amazon Nova Sonic stream into facts of a recorder; see `Tap`."""

    provider = "nova_sonic"
    audio_field = "event"
    listens = True

    def __init__(self, recorder: Recorder, **options: Any) -> None:
        super().__init__(recorder, **options)
        self._blocks: dict[str, dict[str, Any]] = {}  # what a content block is, by its id
        self._sent_blocks: dict[str, dict[str, Any]] = {}
        self._planned: list[Reply] = []  # this completion's replies, by their audio
        self._finals = 0
        self._before: tuple[int, list[Reply]] = (0, [])  # the turn before, and its replies that had audio
        self._finals_due: list[Reply] = []  # of these, those without a final text
        self._turn = 0

    def _received(self, message: dict[str, Any]) -> None:
        self._dispatch(message, self.received, count=True)

    def _sent(self, message: dict[str, Any]) -> None:
        self._dispatch(message, self.outgoing, count=False)

    def _dispatch(
        self, message: dict[str, Any], actions: Mapping[str, Callable[[Any, Any], None]], *, count: bool
    ) -> None:
        chunk = message.get("chunk")
        if chunk is not None:  # as AWS's own clients give it
            message = json.loads(chunk.get("bytes") or b"{}")
        for name, facts in message.items():
            if name.endswith("Exception"):  # as AWS's streams end
                message_of = facts.get("message") if isinstance(facts, dict) else None
                self._note(SERVICE_ERROR, code=name, message=message_of)
        for name, facts in (message.get("event") or {}).items():
            action = actions.get(name)
            if action is not None:
                action(self, facts)
            elif count and name not in self.quiet:
                self._unknown()

    # -- blocks ------------------------------------------------------------------------------------------------

    def _block(self, facts: dict[str, Any]) -> None:
        extra = facts.get("additionalModelFields")
        extra = json.loads(extra) if isinstance(extra, str) and extra else extra or {}
        kind, role, stage = facts.get("type"), facts.get("role"), extra.get("generationStage") or "FINAL"
        self._blocks[facts["contentId"]] = {"type": kind, "role": role, "stage": stage}
        forget_oldest(self._blocks, 256)
        self._output_format(facts)

    def _output_format(self, facts: dict[str, Any]) -> None:
        rate = (facts.get("audioOutputConfiguration") or {}).get("sampleRateHertz")
        if type(rate) is int and rate > 0:
            self.output_bytes_per_ms = rate * 2 / 1_000

    def _block_ends(self, facts: dict[str, Any]) -> None:
        if facts.get("stopReason") == "INTERRUPTED":
            self._was_interrupted()
        elif facts.get("stopReason") == "END_TURN" and facts.get("type") == "AUDIO" and self._planned:
            self._planned[-1].final = True

    def _text(self, facts: dict[str, Any]) -> None:
        text = facts.get("content") or ""
        block = self._blocks.get(facts.get("contentId", ""), {})
        role, stage = facts.get("role") or block.get("role"), block.get("stage", "FINAL")
        if _INTERRUPTED.match(text):
            self._was_interrupted()
        elif role == "USER":
            self._user_piece(text)
        elif role == "ASSISTANT" and stage == "SPECULATIVE":
            self._plan(text)
        elif role == "ASSISTANT":
            self._final(text)

    # -- the caller --------------------------------------------------------------------------------------------

    def _audio_in(self, payload: dict[str, Any]) -> Any:
        audio = payload.get("audioInput")
        return audio.get("content") if type(audio) is dict else None

    def _user_piece(self, text: str) -> None:
        if self._user is None:
            self._end_turn()
            self._user = self._speech(next(self._numbers))
            self._heard_speech(self._user)
        self._user.text = f"{self._user.text} {text.strip()}".strip()
        self._tell_user(self._user)

    # -- the agent ---------------------------------------------------------------------------------------------

    def _plan(self, text: str) -> None:
        self._user = None
        reply = self._reply(next(self._numbers), self._turn)
        reply.text = text
        self._planned.append(reply)
        if len(self._planned) > KEPT:
            del self._planned[0]
            self._finals = max(0, self._finals - 1)

    def _audio(self, facts: dict[str, Any]) -> None:
        if not self._planned:
            self._plan("")
        self._agent_audio(self._planned[-1], audio_bytes(facts.get("content")) / self.output_bytes_per_ms)

    def _final(self, text: str) -> None:
        if not self._planned and self._finals_due:  # the caller's text came first
            reply = self._finals_due.pop(0)
        else:
            index, self._finals = self._finals, self._finals + 1
            if index >= len(self._planned):
                self._plan(text)
            reply = self._planned[min(index, len(self._planned) - 1)]
        reply.corrected = text.strip()
        self._agent_said(reply, reply.text)

    def _was_interrupted(self) -> None:
        """The caller broke in. A final text tells what was heard; where none came, what had played counts."""
        turn, planned = self._turn, self._planned
        if not planned:
            turn, planned = self._before[0], [one for one in self._before[1] if self._unheard(one)]
        if not planned:
            return
        self._interrupted(turn)
        for reply in planned:
            began = reply.start is not None and reply.plays_from <= self._now()
            self._cut(reply, None if began else 0.0)
        self._cut_the_rest()

    def _unheard(self, reply: Reply) -> bool:
        return reply.start is not None and reply.plays_from + reply.audio_ms > self._now()

    def _end_turn(self) -> None:
        if self._planned:
            self._before = self._turn, [one for one in self._planned if one.start is not None]
            self._finals_due = [one for one in self._planned[self._finals :] if one.start is not None]
        self._planned, self._finals = [], 0
        self._turn += 1
        self._tell_usage()

    def _completion(self, _: dict[str, Any]) -> None:
        if self._finals:
            self._end_turn()

    def _tell_agent(self, reply: Reply) -> None:
        if reply.start is not None or reply.corrected is not None or reply.said is not None or reply.final:
            super()._tell_agent(reply)  # what is only planned has not been said

    # -- tools -------------------------------------------------------------------------------------------------

    def _called(self, facts: dict[str, Any]) -> None:
        self._user = None
        self.tools.begin(facts.get("toolUseId"), facts.get("toolName"), facts.get("content") or "{}")

    def _sent_block(self, facts: dict[str, Any]) -> None:
        tool = facts.get("toolResultInputConfiguration") or {}
        name = facts.get("contentName") or ""
        self._sent_blocks[name] = {**facts, "tool": tool.get("toolUseId")}
        forget_oldest(self._sent_blocks, 256)

    def _answered(self, facts: dict[str, Any]) -> None:
        block = self._sent_blocks.get(facts.get("contentName") or "", {})
        key = block.get("tool") or facts.get("toolUseId")
        self.tools.answered(key, facts.get("content"), failed=facts.get("status") == "error")

    # -- the rest ----------------------------------------------------------------------------------------------

    def _prompt(self, facts: dict[str, Any]) -> None:
        self._output_format(facts)
        tools = (facts.get("toolConfiguration") or {}).get("tools") or ()
        self.tools.describe(tool.get("toolSpec") or {} for tool in tools)

    def _typed_input(self, facts: dict[str, Any]) -> None:
        block = self._sent_blocks.get(facts.get("contentName") or "", {})
        if block.get("role") == "USER" and block.get("interactive") and facts.get("content"):
            self._typed_text(facts["content"])

    def _used(self, facts: dict[str, Any]) -> None:
        total = (facts.get("details") or {}).get("total")
        if total:
            self._usage = total

    def _finish(self) -> None:
        for reply in self._planned:
            if reply.start is None and reply.corrected is None:
                reply.text = ""
        super()._finish()

    received: ClassVar[Actions] = {
        "contentStart": _block,
        "textOutput": _text,
        "audioOutput": _audio,
        "contentEnd": _block_ends,
        "toolUse": _called,
        "usageEvent": _used,
        "completionStart": _completion,
    }
    outgoing: ClassVar[Actions] = {
        "promptStart": _prompt,
        "contentStart": _sent_block,
        "textInput": _typed_input,
        "toolResult": _answered,
    }
    quiet: ClassVar[frozenset[str]] = frozenset({"completionEnd"})
