"""Calls as telephone carriers bring them: real recorded agents for each carrier, and what the caller makes of them."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.server import serve

from bluejay_ws import Bluejay, record
from bluejay_ws.testing.audio import CODINGS, mulaw, silence, tone, voice
from bluejay_ws.testing.caller import DigitalHuman
from bluejay_ws.testing.judging import judge
from bluejay_ws.testing.platform import FakePlatform
from bluejay_ws.testing.protocols import PROTOCOLS, FrameError, new_protocol
from bluejay_ws.testing.rehearsal import rehearse
from bluejay_ws.testing.reports import CallReport
from bluejay_ws.testing.scenarios import Expect, Scenario
from bluejay_ws.testing.virtual_time import VirtualTimeLoop
from tests.testing.carrier_agents import AGENTS, LATENCY, CarrierAgent

if TYPE_CHECKING:
    from pathlib import Path

    from bluejay_ws.testing.line import CallLog

every_carrier = pytest.mark.parametrize("carrier", list(AGENTS))


def recorded_call(
    carrier: str, steps: list[dict[str, Any]], tmp_path: Path, *, burst: bool = False, **more: Any
) -> tuple[CallLog, CallReport, CarrierAgent]:
    """Make the call of these steps in virtual time; return its log, its report and the agent."""
    agents: list[CarrierAgent] = []
    facts = {"name": "x", "protocol": carrier, "steps": steps, "caller": {"greeting": 0}, **more}
    scenario = Scenario.model_validate(facts)

    async def main(client: Bluejay) -> CallLog:
        client.clock = asyncio.get_running_loop().clock_ns  # type: ignore[attr-defined]

        @record(client=client, id_from=("header", "message"))
        async def handler(connection: Any) -> None:
            agents.append(AGENTS[carrier](connection.send, burst=burst))
            await agents[0].run(connection)

        async with serve(handler, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/media"
            sounds = {number: voice(900) for number, step in enumerate(scenario.steps) if step.speaks}
            return await rehearse(scenario, sounds, url, "local-7")

    with FakePlatform() as platform:
        client = Bluejay(platform.api_key, base_url=platform.url, spool=tmp_path)
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            log = runner.run(main(client))
        client.close()
        (accepted,) = platform.accepted
    return log, CallReport.of(accepted, log), agents[0]


@every_carrier
def test_an_agent_for_a_carrier_is_called_and_reports(carrier: str, tmp_path: Path) -> None:
    """The id stands where the carrier puts it, both sides are heard, marks come back, and the end is announced."""
    log, report, agent = recorded_call(carrier, [{"say": "a"}, {"say": "b"}], tmp_path)
    assert report.simulation_result_id == "local-7"
    assert [round(span.end_ms - span.start_ms, -2) for span in log.agent_spans] == [1_500, 1_500]
    assert report.latencies == pytest.approx([LATENCY * 1000] * 2, abs=60)
    expect = Expect(agent_says=["booked"], latency_p95=0.6, interruptions=0, close=1000, outcome="completed")
    assert judge(expect, report) == []
    assert [event.detail["name"].strip('{}"')[-2:] for event in log.of("mark.echoed")] == ["m1", "m2"]
    assert [one for one in agent.got if one["event"] == agent.mark_back] != []
    if carrier != "vonage":
        assert agent.got[-1]["event"] == "stop"


@every_carrier
def test_a_caller_who_breaks_in_hears_no_more_once_the_queue_is_cleared(carrier: str, tmp_path: Path) -> None:
    """Unlike on CHIRP. The caller's log and the report agree on it."""
    log, report, agent = recorded_call(
        carrier, [{"say": "a"}, {"say": "b", "interrupt_after": 0.5}], tmp_path, burst=True
    )
    assert len(log.of("barge_in")) == 1
    (cleared,) = log.of("cleared")
    assert 500 < cleared.detail["dropped_ms"] < 1_000
    assert log.dropped_ms == pytest.approx(cleared.detail["dropped_ms"])
    first = log.agent_spans[0]
    assert first.end_ms - first.start_ms == pytest.approx(500, abs=100)
    spoken = next(line for line in report.transcript if line["speaker"] == "AGENT")
    assert spoken["end_offset_ms"] == pytest.approx(first.end_ms, abs=100)
    echoed, dropped = ([event.detail["name"] for event in log.of(f"mark.{what}")] for what in ("echoed", "dropped"))
    if PROTOCOLS[carrier].clear_returns_marks:
        assert (echoed, dropped) == (["m1", "m2"], [])
    else:
        assert (len(echoed), len(dropped)) == (1, 1)
        assert [one for one in agent.got if "cleared" in one["event"]] != []


@every_carrier
def test_keys_are_messages_of_the_carrier(carrier: str, tmp_path: Path) -> None:
    """And no tones."""
    log, _, agent = recorded_call(carrier, [{"dtmf": "1#"}], tmp_path)
    keys = [one.get("digit") or one["dtmf"]["digit"] for one in agent.got if one["event"].endswith("dtmf")]
    assert keys == ["1", "#"]
    assert [event.detail["key"] for event in log.of("user.key")] == ["1", "#"]
    assert log.user_spans == []


@pytest.mark.parametrize(
    ("name", "coding"), [(one.name, coding) for one in PROTOCOLS.values() for coding in one.codings]
)
def test_audio_of_every_coding_sounds_the_same(name: str, coding: str) -> None:
    """A tone comes through loud and of its length, at every rate; silence stays silent."""
    carried = new_protocol(name, coding)
    assert carried.is_audio(carried.audio(tone(20)))
    there = carried.coding.encode(tone(1_000, hertz=300))
    back = carried.coding.decode(there)
    assert len(back) == 32_000
    wrong = sum(abs(a - b) for a, b in zip(_samples(back), _samples(tone(1_000, hertz=300)), strict=True)) / 16_000
    assert wrong < 600  # of a tone whose samples are 6,000 on average
    assert max(map(abs, _samples(carried.coding.decode(carried.coding.encode(silence(20)))))) == 0


def _samples(pcm: bytes) -> memoryview:
    return memoryview(pcm).cast("h")


PAYLOAD = base64.b64encode(mulaw(silence(10))).decode()
L16 = {"contentType": "audio/x-l16;rate=8000", "sampleRate": 8000}


@pytest.mark.parametrize(
    ("carrier", "message", "words"),
    [
        ("twilio", b"\0\0", "twilio takes text frames only"),
        ("twilio", "[", "twilio takes JSON objects only"),
        ("twilio", "[]", "twilio takes JSON objects only"),
        ("twilio", {"event": "media", "media": {"payload": PAYLOAD}}, "media needs the stream's streamSid"),
        ("twilio", {"event": "clear", "streamSid": "MZ-of-another"}, "clear needs the stream's streamSid"),
        ("telnyx", {"event": "playAudio"}, "telnyx knows no 'playAudio' message"),
        ("telnyx", {"event": "media"}, "media needs base64"),
        ("telnyx", {"event": "media", "media": {"payload": "ä"}}, "media needs base64"),
        ("telnyx", {"event": "media", "media": {"payload": ""}}, "0 bytes are not"),
        ("telnyx", {"event": "mark"}, "mark needs a name"),
        ("plivo", {"event": "media", "media": {"payload": PAYLOAD}}, "plivo knows no 'media' message"),
        ("plivo", {"event": "playAudio", "media": {"payload": PAYLOAD}}, "plivo plays no 'None' of None Hz"),
        ("plivo", {"event": "playAudio", "media": {**L16, "payload": "AAAA"}}, "3 bytes are not"),
        ("plivo", {"event": "checkpoint", "name": "m"}, "checkpoint needs the stream's streamId"),
        ("vonage", b"\0", "1 bytes are not"),
        ("vonage", {"event": "clear"}, "vonage knows no 'None' message"),
    ],
)
def test_what_a_carrier_does_not_take_says_why(carrier: str, message: Any, words: str) -> None:
    """So that an agent that would be silent on the telephone fails at home."""
    with pytest.raises(FrameError, match=words):
        new_protocol(carrier).read(json.dumps(message) if isinstance(message, dict) else message)


def test_a_refused_message_is_noted_and_fails_the_scenario() -> None:
    """A carrier answers nothing; the log says it, and so does the check."""

    async def forgetful(connection: Any) -> None:
        await connection.send(json.dumps({"event": "media", "media": {"payload": PAYLOAD}}))
        async for _ in connection:
            pass

    async def main() -> CallLog:
        async with serve(forgetful, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            async with DigitalHuman(url, protocol="twilio").dial() as line:
                await line.silence(200)
        return line.log

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        log = runner.run(main())
    (fault,) = judge(Expect(), CallReport("7", b"{}", 0.0, log=log))
    assert fault.text == "there was 1 error: the carrier refused a message: media needs the stream's streamSid"


def test_plivo_plays_what_each_message_says() -> None:
    """Its coding is the message's own."""
    audio = base64.b64encode(CODINGS["l16/16000"].encode(tone(20))).decode()
    media = {"contentType": "audio/x-l16", "sampleRate": "16000", "payload": audio}
    assert new_protocol("plivo").read(json.dumps({"event": "playAudio", "media": media})).pcm == tone(20)


@every_carrier
def test_a_call_without_an_id_says_none(carrier: str) -> None:
    """As production traffic does."""
    assert "imulation" not in "".join(new_protocol(carrier).opening([]))


def test_an_unknown_protocol_or_coding_names_the_known_ones() -> None:
    """Before anything is dialled."""
    with pytest.raises(ValueError, match="no protocol 'sip': give one of chirp, twilio"):
        DigitalHuman("ws://x", protocol="sip")
    with pytest.raises(ValueError, match="twilio does not carry 'l16/8000': give one of mulaw/8000"):
        Scenario.model_validate({"name": "x", "steps": [{"drop": True}], "protocol": "twilio", "coding": "l16/8000"})


def test_a_caller_on_a_carrier_yields_to_an_agent_that_speaks_over_it() -> None:
    """Carriers have no speech events: the caller hears it. The key pressed after the call's end is nobody's."""

    async def rude(connection: Any) -> None:
        agent = AGENTS["telnyx"](connection.send)
        heard = 0
        async for message in connection:
            heard += json.loads(message)["event"] == "media"
            if heard == 20:
                await agent.say(voice(1_000))

    async def main() -> CallLog:
        async with serve(rude, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            async with DigitalHuman(url, protocol="telnyx", background="pauses").dial() as line:
                assert not await line.say(voice(2_000))
            assert not await line.press("1", b"")
        return line.log

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        log = runner.run(main())
    assert len(log.of("interrupted")) == 1
    assert log.user_spans[0].end_ms < 1_000
    assert log.of("user.key") == []


def test_a_bad_network_loses_audio_of_a_carrier_and_nothing_else(tmp_path: Path) -> None:
    """What is on its way when the caller hangs up still arrives, in order, and `stop` comes last."""
    bad = {"loss": 0.5, "delay_ms": 300, "jitter_ms": 50}
    log, _, agent = recorded_call("twilio", [{"say": "a"}, {"dtmf": "1"}], tmp_path, network=bad)
    assert [one["event"] for one in agent.got if one["event"] != "mark"] == ["connected", "start", "dtmf", "stop"]
    assert agent.media < 0.7 * log.frames_sent
