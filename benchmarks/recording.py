"""Recording one tool call: against a bare tuple append, and against an OpenTelemetry span."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from statistics import median
from time import monotonic_ns
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benchmarks.measure import Effort, Result, difference, in_turns, per_call, spread
from bluejay_ws import Bluejay, current_recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from bluejay_ws import Recorder

__all__ = ["run"]

NAME = "freeze_card"
PARAMETERS = {"last4": "4242"}
OUTPUT = {"status": "frozen"}
NUMBER = 1_000


class _Nowhere(SpanExporter):
    """An exporter that costs nothing: only the span itself is measured."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


@contextmanager
def _recorder(client: Bluejay) -> Iterator[Recorder]:
    """Give a fresh call's recorder; nothing of it is sent."""
    with client.call({"X-Simulation-Result-Id": "1"}) as recorder:
        assert recorder.active
        yield recorder
        recorder.discard()


def _tool_calls(client: Bluejay) -> Callable[[], float]:
    def measure() -> float:
        with _recorder(client) as recorder:
            return per_call(lambda: recorder.add_tool_call(NAME, parameters=PARAMETERS, output=OUTPUT), NUMBER)

    return measure


def _utterances(client: Bluejay) -> Callable[[], float]:
    def measure() -> float:
        with _recorder(client) as recorder:
            text = "Hello, how can I help?"
            return per_call(lambda: recorder.agent_said(text, start_offset_ms=100, end_offset_ms=900), NUMBER)

    return measure


def _tuples() -> float:
    kept: list[tuple[int, str, object, object]] = []
    return per_call(lambda: kept.append((monotonic_ns(), NAME, PARAMETERS, OUTPUT)), NUMBER)


def _spans() -> tuple[Callable[[], float], Callable[[], None]]:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Nowhere(), max_queue_size=16 * NUMBER))
    tracer = provider.get_tracer("benchmarks")

    def span() -> None:
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": NAME,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.arguments": json.dumps(PARAMETERS),
        }
        with tracer.start_as_current_span(f"execute_tool {NAME}", attributes=attributes) as one:
            one.set_attribute("gen_ai.tool.call.result", json.dumps(OUTPUT))

    def measure() -> float:
        found = per_call(span, NUMBER)
        provider.force_flush()
        return found

    return measure, provider.shutdown


def _inert() -> float:
    recorder = current_recorder()
    assert not recorder.active
    return per_call(lambda: recorder.add_tool_call(NAME, parameters=PARAMETERS, output=OUTPUT), NUMBER)


def run(effort: Effort) -> list[Result]:
    """Measure one fact's cost on the agent's event loop."""
    spans, shutdown = _spans()
    with (
        tempfile.TemporaryDirectory() as directory,
        Bluejay("benchmark", base_url="http://127.0.0.1:9", spool=directory) as spooled,
        Bluejay("benchmark", base_url="http://127.0.0.1:9", spool=False) as unspooled,
    ):
        cases = {
            "on": _tool_calls(spooled),
            "off": _tool_calls(unspooled),
            "said": _utterances(spooled),
            "tuple": _tuples,
            "span": spans,
            "inert": _inert,
            "call": lambda: per_call(lambda: None, NUMBER),
        }
        found = in_turns(cases, effort.rounds)
    shutdown()
    return _results(found)


def _results(found: dict[str, list[float]]) -> list[Result]:
    net = {name: difference(values, found["call"]) for name, values in found.items()}  # without the loop round it
    floor = median(net["tuple"])
    times = [span / on for span, on in zip(net["span"], net["on"], strict=True)]

    def result(what: str, name: str, limit: float | None) -> Result:
        middle = median(net[name])
        against = f"{middle / floor:.1f} x a tuple append ({floor:.0f} ns)"
        return Result(what, middle / 1e3, "us", spread(net[name], 1e-3), against, limit)

    return [
        result("`add_tool_call`, spool on", "on", 6.0),
        Result(
            "an OpenTelemetry span against that",
            median(times),
            "times",
            spread(times),
            f"span with batch processor: {median(net['span']) / 1e3:.1f} us",
            8.0,
            at_least=True,
        ),
        result("`add_tool_call`, spool off", "off", 2.5),
        result("`agent_said` with offsets, spool on", "said", None),
        result("inert `add_tool_call`", "inert", 0.3),
    ]
