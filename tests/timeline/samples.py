"""Reports of calls, good and bad, for the tests and the pictures of the timeline page."""

from __future__ import annotations

from typing import Any

Report = dict[str, Any]
HOSTILE = "</script><script>window.hacked = true</script><img src=x onerror='window.hacked = true'>"


def said(speaker: str, start: int, end: int, text: str) -> dict[str, Any]:
    """Return an utterance."""
    return {"speaker": speaker, "start_offset_ms": start, "end_offset_ms": end, "utterance": text}


def event(title: str, start: int, end: int | None = None, **metadata: Any) -> dict[str, Any]:
    """Return an event."""
    item = {"title": title, "start_offset_ms": start, "end_offset_ms": end}
    return {**item, "metadata": metadata} if metadata else item


def closed(start: int, outcome: str = "completed", code: int = 1000, **more: Any) -> dict[str, Any]:
    """Return the event that stands at the end of each report of the library's."""
    return event("Connection closed", start, bluejay_ws={"outcome": outcome, "close_code": code, **more})


def good() -> Report:
    """Return a call in which nothing went wrong."""
    return {
        "simulation_result_id": "720487",
        "tool_calls": [
            {"name": "find_table", "start_offset_ms": 5_950, "parameters": {"people": 4}, "output": {"table": 7}},
            {"name": "book_table", "start_offset_ms": 12_450, "parameters": {"table": 7}, "output": {"booked": True}},
        ],
        "events": [
            event("Response latency", 5_900, 6_700, latency_ms=800),
            event("Response latency", 12_400, 13_100, latency_ms=700),
            closed(17_500),
        ],
        "recorded_transcript": [
            said("AGENT", 70, 2_217, "Good evening, Da Mario. How can I help you?"),
            said("USER", 2_816, 5_900, "Hi, a table for four at seven, please."),
            said("AGENT", 6_700, 10_300, "There is one by the window. Shall I book it?"),
            said("USER", 10_900, 12_400, "Yes, please."),
            said("AGENT", 13_100, 16_900, "It is booked. We look forward to seeing you."),
        ],
    }


def slow_tool() -> Report:
    """Return a call in which a tool hung, the caller waited, and the connection broke."""
    return {
        "simulation_result_id": "720488",
        "tags": ["v2.3"],
        "tool_calls": [
            {"name": "find_table", "start_offset_ms": 6_100, "parameters": {"people": 4}, "output": {"table": 7}},
            {
                "name": "book_table",
                "start_offset_ms": 16_000,
                "parameters": {"table": 7, "name": "Rossi"},
                "output": {"status": "failed", "error": "TimeoutError", "message": "no answer in 8 s"},
            },
        ],
        "events": [
            event("Response latency", 5_900, 6_700, latency_ms=800),
            event("Response latency", 15_800, 25_100, latency_ms=9_300),
            event("Long silence", 15_800, 25_100, duration_ms=9_300),
            *[event("Heartbeat", at) for at in range(0, 27_000, 1_000)],
            closed(27_900, "connection_lost", 1006),
        ],
        "recorded_transcript": [
            said("AGENT", 70, 2_217, "Good evening, Da Mario. How can I help you?"),
            said("USER", 2_816, 5_900, "Hi, a table for four at seven, please."),
            said("AGENT", 6_700, 11_100, "I found one table for four people by the window. Shall I book it?"),
            said("USER", 13_000, 15_800, "Yes, book it. My name is Rossi."),
            said("AGENT", 25_100, 27_800, "I am sorry, something went"),
        ],
    }


def talks_over() -> Report:
    """Return a call in which both talk over each other, and a tool is called twice."""
    booking = {"name": "book_table", "parameters": {"table": 7}, "output": {"booked": True}}
    return {
        "simulation_result_id": "720489",
        "tool_calls": [{**booking, "start_offset_ms": 9_900}, {**booking, "start_offset_ms": 13_400}],
        "events": [
            event("Agent interrupted the caller", 4_300, 6_200, overlap_ms=1_900),
            event("Caller interrupted the agent", 8_000, 9_700, overlap_ms=1_700, reaction_ms=400, queued_ms=2_600),
            event("Agent interrupted the caller", 12_300, 13_500, overlap_ms=1_200),
            event("Response latency", 9_700, 10_500, latency_ms=800),
            closed(18_000),
        ],
        "recorded_transcript": [
            said("AGENT", 100, 2_000, "Da Mario, hello!"),
            said("USER", 2_600, 6_200, "Hi, I would like a table for tonight, for four people, and"),
            said("AGENT", 4_300, 10_600, "We have a table for two at six, at seven, at half past seven, and at eight."),
            said("USER", 8_000, 9_700, "No, for four. At seven."),
            said("USER", 11_200, 13_500, "My name is Rossi, and my number"),
            said("AGENT", 12_300, 17_300, "It is booked. It is booked for four people at seven."),
        ],
    }


def never_answers() -> Report:
    """Return a call in which the agent forgot a tool, and says nothing to the caller's last words."""
    return {
        "simulation_result_id": "720490",
        "tool_calls": [],
        "events": [
            event("Response latency", 5_900, 8_400, latency_ms=2_500),
            event("Session error from the platform", 9_000, None, code="INVALID_AUDIO_FRAME", message="odd length"),
            event("Long silence", 15_000, 30_000, duration_ms=15_000),
            closed(30_000, invalid_frames=3),
        ],
        "recorded_transcript": [
            said("AGENT", 70, 2_217, "Good evening, Da Mario. How can I help you?"),
            said("USER", 2_816, 5_900, "Hi, a table for four at seven, please."),
            said("AGENT", 8_400, 10_900, "Let me see what I can do for you."),
            said("USER", 13_000, 15_000, "Hello? Is it booked?"),
        ],
    }


def long(items: int) -> Report:
    """Return a ten-minute call of so many items."""
    step = 600_000 / items
    return {
        "simulation_result_id": "720491",
        "tool_calls": [
            {"name": f"tool_{at % 7}", "start_offset_ms": int(at * step), "parameters": {"n": at}, "output": at}
            for at in range(0, items, 4)
        ],
        "events": [event(f"Event {at}", int(at * step)) for at in range(1, items, 4)],
        "recorded_transcript": [
            said("AGENT" if at % 4 == 2 else "USER", int(at * step), int((at + 1) * step), f"Sentence number {at}.")
            for at in range(items)
            if at % 4 > 1
        ],
    }
