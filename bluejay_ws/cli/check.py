"""`bluejay-ws check`: try an agent with scenarios, and fail when it gets worse."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import math
import re
import statistics
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from websockets.exceptions import WebSocketException

from bluejay_ws.cli.agentprocess import started
from bluejay_ws.cli.arguments import count, new_parser, port, port_number
from bluejay_ws.cli.conversation import new_id
from bluejay_ws.cli.dialling import APART, check_url, problem_of
from bluejay_ws.cli.inprocess import hosted, served
from bluejay_ws.cli.platform import local_platform
from bluejay_ws.cli.terminal import Problem, Terminal, check_writable, clean, plural, writing
from bluejay_ws.testing.judging import judge, percentile
from bluejay_ws.testing.platform import FakePlatform
from bluejay_ws.testing.rehearsal import TRUSTED_MS, Lateness, prepare, rehearse
from bluejay_ws.testing.reports import CallReport
from bluejay_ws.testing.scenarios import Scenario, ScenarioError, StepError, line_of_step, load
from bluejay_ws.testing.virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from bluejay_ws.cli.arguments import Commands
    from bluejay_ws.testing.line import CallEvent
    from bluejay_ws.testing.platform import AcceptedReport

    Serving = AbstractAsyncContextManager[str]
    Ended = Callable[[], str]  # that the agent's process has ended, in words; `str` for one that is not ours: ""

HOLDS, FAILED, UNUSABLE, UNTRUSTED = 0, 1, 2, 3
PLATFORM_PORT = 8766
START_SECONDS = 60.0
STOP_SECONDS = 15.0
REPORT_SECONDS, LOOKS = 15.0, 100
TOO_SLOW = "this machine was too slow to measure"
NO_REPORT = {
    True: "no report came: is the agent's handler under @record?",
    False: 'no report came: is the agent\'s handler under @record(id_from=("header", "message"))?',
}
"""By whether the id stands in the connect header."""
FLOOR_MS, FLOOR_SHARE = 150.0, 0.25
"""A p95 is worse than last time's only beyond both: calls differ by themselves."""
TEXT = """\
A scenario is a YAML file: who calls, what the caller says and when, and what must
hold. See docs/check.md; --schema prints its JSON schema for editors.

exit codes:
  0    every expectation holds
  1    an expectation failed, or answers are slower
       than in the baseline
  2    a scenario or the agent is unusable
  3    only times are wrong, and this machine was too
       slow to measure them
  130  stopped by Ctrl-C; 143 by SIGTERM
"""


@dataclass
class Run:
    """One call of one scenario, and what came of it. Steps have their PCM in ``sounds``; repetitions count from 1."""

    scenario: Scenario
    path: Path
    voice: str
    seed: int
    repetition: int
    call: str
    sounds: dict[int, bytes] = field(repr=False)
    faults: list[str] = field(default_factory=list)
    timed_only: bool = True
    late_ms: float = 0.0
    trusted: bool = True
    duration_ms: float = 0.0
    latencies: list[float] = field(default_factory=list)
    events: list[CallEvent] = field(default_factory=list, repr=False)
    report: dict[str, Any] | None = None
    page: Path | None = None

    @property
    def is_unknown(self) -> bool:
        """Return whether only times are wrong, and this machine could not measure them."""
        return bool(self.faults) and self.timed_only and not self.trusted

    @property
    def name(self) -> str:
        """Return the scenario's name, with what tells this run from others of it."""
        extra = [word for word, shown in (
            (self.voice, len(self.scenario.caller.voices) > 1),
            (f"seed {self.seed}", len(self.scenario.caller.seeds) > 1),
        ) if shown]  # fmt: skip
        return f"{self.scenario.name} ({', '.join(extra)})" if extra else self.scenario.name

    def to_json(self) -> dict[str, Any]:
        """Return what a script wants to know."""
        return {
            "name": self.name,
            "file": str(self.path),
            "call": self.call,
            "repetition": self.repetition,
            **({} if self.page is None else {"page": str(self.page)}),
            "holds": not self.faults,
            "trusted": self.trusted,
            "faults": self.faults,
            "latency_p95_ms": round(percentile(self.latencies, 0.95)) if self.latencies else None,
            "duration_ms": round(self.duration_ms),
            "caller_late_p99_ms": round(self.late_ms, 1),
        }


def add_parser(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = new_parser(commands, "check", "try an agent with scenarios; fail when it gets worse", TEXT)
    add = parser.add_argument
    add("scenarios", nargs="*", metavar="FILE", type=Path, help="scenarios, YAML")
    add("--url", metavar="URL", help="of a running agent that reports to the local platform")
    add("--run", metavar="COMMAND", dest="command", help='start the agent: --run "python agent.py"')
    add("--app", metavar="MODULE:OBJECT", help="run the agent in this process: --app agent:handler")
    which = "virtual (with --app, and its default): nobody waits; real"
    add("--time", metavar="WHICH", choices=("virtual", "real"), help=which)
    add("--port", metavar="N", type=port_number, help="of the agent that --run starts; default: the one that it opens")
    add("--path", metavar="PATH", default="", help="of the agent that --run or --app starts, such as /media")
    add("--user", metavar="NAME", help="for Basic authentication")
    add("--password", metavar="WORD", default="", help="for Basic authentication")
    with_url = f"with --url: of the platform ({PLATFORM_PORT})"
    add("--platform-port", metavar="N", type=port, default=PLATFORM_PORT, help=with_url)
    add("-n", "--calls", metavar="N", type=count, default=1, help="make so many calls at once (1)")
    add("--repeat", metavar="N", type=count, default=1, help="make each call so often (1)")
    add("--baseline", metavar="FILE", type=Path, help="what --save wrote last time: fail where latencies are worse")
    add("--save", metavar="FILE", type=Path, help="write the results for the next --baseline")
    add("--junit", metavar="FILE", type=Path, help="write the results as JUnit XML")
    add("--html", metavar="DIRECTORY", type=Path, help="write each call's page into this directory")
    add("--schema", action="store_true", help="print the JSON schema of a scenario")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Make all calls and judge them; return the exit code.

    Raises:
        Problem: a scenario or the agent is unusable.
    """
    if args.schema:
        schema = Scenario.model_json_schema()
        terminal.say(json.dumps(schema, indent=2))
        terminal.document(schema)
        return HOLDS
    with terminal.waiting("preparing what the callers say"):
        runs = _runs(args)
    before = _baseline(args.baseline)
    check_writable(args.save, args.junit)
    with writing():
        if args.html:
            args.html.mkdir(parents=True, exist_ok=True)
    with _agent(args, terminal) as (runner, serving, platform, ended):
        runner.run(_make_all(runs, serving, platform, ended, args, terminal))
    faults = worse(runs, before)
    code = verdict_of(runs, faults)
    _write(args, runs, faults, terminal)
    if args.baseline and (new := sorted(_p95s(runs).keys() - before.keys())):
        terminal.wrapped("      new  ", f"not in the baseline, so not compared: {', '.join(new)}")
    _sum_up(runs, faults, code, terminal)
    return code


def _runs(args: argparse.Namespace) -> list[Run]:
    """Read the scenarios and prepare every call, so that nothing but calls is left to do."""
    if not args.scenarios:
        raise Problem("which scenarios?", "give one YAML file or several", exit_code=UNUSABLE)
    if [args.url, args.command, args.app].count(None) != 2:
        how = 'give one of --url, --run "python agent.py" and --app agent:handler'
        raise Problem("which agent?", how, exit_code=UNUSABLE)
    if args.time == "virtual" and args.app is None:
        reason = "virtual time cannot be had with an agent in another process: that has a time of its own"
        raise Problem(reason, "give the agent as --app agent:handler", exit_code=UNUSABLE)
    if args.url is not None and args.path:
        raise Problem("both --url and --path are given", "write the path into the URL", exit_code=UNUSABLE)
    try:
        scenarios = [(path, scenario) for path in args.scenarios for scenario in load(path)]
        _refuse_equal_names(scenarios)
        return [
            Run(scenario, path, voice, seed, repetition, new_id(), _sounds(scenario, path, voice))
            for path, scenario in scenarios
            for voice in scenario.caller.voices
            for seed in scenario.caller.seeds
            for repetition in range(1, args.repeat + 1)
        ]
    except ImportError:
        raise Problem("PyYAML is not installed", "pip install 'bluejay_ws[check]'", exit_code=UNUSABLE) from None
    except ScenarioError as error:
        raise Problem(str(error), exit_code=UNUSABLE) from None
    except OSError as error:
        raise Problem(f"cannot read a scenario: {error.filename}: {error.strerror}", exit_code=UNUSABLE) from None


def _sounds(scenario: Scenario, path: Path, voice: str) -> dict[int, bytes]:
    """Return the sound of each step.

    Raises:
        ScenarioError: with the file and the step's line.
    """
    try:
        return prepare(scenario, path.parent, voice)
    except StepError as error:
        raise ScenarioError(f"{path}:{line_of_step(path, scenario.name, error.number)}: {error}") from None


def _refuse_equal_names(scenarios: Sequence[tuple[Path, Scenario]]) -> None:
    known: dict[str, Path] = {}
    for path, scenario in scenarios:
        if scenario.name in known:
            where = f"in {known[scenario.name]} and in {path}"
            reason = f"two scenarios are called {scenario.name!r}, {where}: baselines and JUnit go by the name"
            raise Problem(reason, "give each a name of its own", exit_code=UNUSABLE)
        known[scenario.name] = path


def _baseline(path: Path | None) -> Mapping[str, float]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_bytes())
        values = {str(name): float(value) for name, value in found["latency_p95_ms"].items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise Problem(f"no baseline in {str(path)!r}: {error}", "write one with --save", exit_code=UNUSABLE) from None
    if not all(0 <= value < math.inf for value in values.values()):  # nothing would ever be worse than NaN
        reason = f"no baseline in {str(path)!r}: a latency in it is no length of time"
        raise Problem(reason, "write one with --save", exit_code=UNUSABLE)
    return values


@contextlib.contextmanager
def _agent(
    args: argparse.Namespace, terminal: Terminal
) -> Iterator[tuple[asyncio.Runner, Serving, FakePlatform, Ended]]:
    """Give the calls' loop, what gives the agent's URL in it, the agent's platform, and what says that it has ended."""
    if args.url is not None:
        remedy = "give another one: --platform-port"
        with local_platform(args.platform_port, remedy) as platform, asyncio.Runner() as runner:
            terminal.say(f"The agent must have BLUEJAY_API_URL={platform.url} BLUEJAY_API_KEY={platform.api_key}")
            yield runner, contextlib.nullcontext(check_url(args.url)), platform, str
        return
    with FakePlatform() as platform:
        variables = {"BLUEJAY_API_URL": platform.url, "BLUEJAY_API_KEY": platform.api_key}
        if args.app is not None:
            with hosted(variables, virtual=args.time != "real") as runner:
                yield runner, served(args.app), platform, str
        else:
            with _started(args, variables, terminal) as (url, ended), asyncio.Runner() as runner:
                yield runner, contextlib.nullcontext(url), platform, ended


@contextlib.contextmanager
def _started(args: argparse.Namespace, variables: dict[str, str], terminal: Terminal) -> Iterator[tuple[str, Ended]]:
    """Start the agent's process; give its URL, and what says that it has ended."""
    variables |= {"PORT": str(args.port)} if args.port is not None else {}
    try:
        with started(args.command, variables, terminal, stop_seconds=STOP_SECONDS) as agent:
            found = agent.wait_for_port(args.port, START_SECONDS, terminal)
            yield f"ws://127.0.0.1:{found}", agent.ended
    except Problem as problem:
        problem.exit_code = UNUSABLE
        raise


async def _make_all(
    runs: Sequence[Run],
    serving: Serving,
    platform: FakePlatform,
    ended: Ended,
    args: argparse.Namespace,
    terminal: Terminal,
) -> None:
    free, lateness = asyncio.Semaphore(args.calls), Lateness()

    async def make(one: Run, url: str) -> None:
        async with free:
            try:
                await _make(one, url, platform, ended, lateness, user=args.user, password=args.password)
            except Problem as problem:
                if not any(other.events for other in runs):  # what is unusable once is so for all
                    raise
                one.faults, one.timed_only = [problem.message], False
        _show(one, terminal)

    async with serving as base, _watched(lateness):
        url = f"{base}/{args.path.lstrip('/')}" if args.path else base
        try:
            async with asyncio.TaskGroup() as calls:
                for number, one in enumerate(runs):
                    await asyncio.sleep(APART if 0 < number < args.calls else 0)
                    calls.create_task(make(one, url))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None


@contextlib.asynccontextmanager
async def _watched(lateness: Lateness) -> AsyncIterator[None]:
    """Measure how late this machine is; in virtual time it never is."""
    if isinstance(asyncio.get_running_loop(), VirtualTimeLoop):
        yield
        return
    watch = asyncio.create_task(lateness.watch())
    try:
        yield
    finally:
        watch.cancel()


async def _make(
    one: Run, url: str, platform: FakePlatform, ended: Ended, lateness: Lateness, **credentials: str | None
) -> None:
    began = lateness.mark()
    try:
        log = await rehearse(one.scenario, one.sounds, url, one.call, seed=one.seed, close_timeout=2.0, **credentials)
    except (OSError, TimeoutError, WebSocketException) as error:
        if words := ended():
            raise Problem(f"the agent at {url} cannot be called: {words}", exit_code=UNUSABLE) from None
        problem = problem_of(error, url)
        raise Problem(problem.message, problem.remedy, exit_code=UNUSABLE) from None
    one.late_ms, one.duration_ms, one.events = lateness.p99_ms(began), log.duration_ms, log.events
    one.trusted = one.late_ms <= TRUSTED_MS
    try:
        accepted = await _report_of(one.call, platform, ended)
    except TimeoutError:
        one.faults, one.timed_only = [ended() or NO_REPORT[one.scenario.protocol == "chirp"]], False
        return
    report = CallReport.of(accepted, log)
    one.report, one.latencies = report.report, report.latencies
    found = judge(one.scenario.expect, report)
    one.faults = [fault.text for fault in found]
    one.timed_only = all(fault.timed for fault in found)


async def _report_of(call: str, platform: FakePlatform, ended: Ended) -> AcceptedReport:
    """Wait for a call's report; a process that has ended sends no more.

    In virtual time a short wait alternates with what the agent still has to do: a thread would make time real for the
    other calls.

    Raises:
        TimeoutError: none came.
    """
    look = functools.partial(platform.wait_for, 1, REPORT_SECONDS / LOOKS, simulation_result_id=call)
    for _ in range(LOOKS):
        with contextlib.suppress(TimeoutError):
            if not isinstance(asyncio.get_running_loop(), VirtualTimeLoop):
                return (await asyncio.to_thread(look))[0]
            await asyncio.sleep(0.1)
            return look()[0]
        if ended():
            break
    raise TimeoutError


def worse(runs: Sequence[Run], before: Mapping[str, float]) -> list[str]:
    """Return where the median p95 of a scenario is beyond the noise of the baseline's."""
    faults = []
    for name, value in _p95s(runs).items():
        last = before.get(name)
        if last is not None and value > last + max(FLOOR_MS, FLOOR_SHARE * last):
            faults.append(f"{name}: answers take {value:.0f} ms (p95); in the baseline {last:.0f} ms")
    silent = {one.name for one in runs} - _p95s(runs).keys()
    return faults + [f"{name}: no answer was timed; in the baseline {before[name]:.0f} ms (p95)"
                     for name in sorted(silent & before.keys())]  # fmt: skip


def _p95s(runs: Sequence[Run]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for one in runs:
        if one.latencies:
            found.setdefault(one.name, []).append(percentile(one.latencies, 0.95))
    return {name: statistics.median(values) for name, values in found.items()}


def verdict_of(runs: Sequence[Run], slower: Sequence[str]) -> int:
    """Return the exit code: what failed for sure, before what could not be measured."""
    failed = [one for one in runs if one.faults]
    if not all(one.is_unknown for one in failed):
        return FAILED
    trusted = all(one.trusted for one in runs)
    if slower and trusted:
        return FAILED
    return UNTRUSTED if failed or slower else HOLDS


def _show(one: Run, terminal: Terminal) -> None:
    mark, style = ("fails", "red") if one.faults else ("holds", "green")
    mark, style = ("unclear", "yellow") if one.is_unknown else (mark, style)
    terminal.wrapped(f"  {mark}  ", f"{one.name}  [{one.duration_ms / 1000:.1f} s]", style=style)
    for fault in one.faults:
        terminal.wrapped("           ", fault)
    if not one.trusted:
        words = f"{TOO_SLOW}: it woke the caller {one.late_ms:.0f} ms late (p99). This call's times say nothing"
        terminal.wrapped("           ", words)


def _write(args: argparse.Namespace, runs: Sequence[Run], slower: Sequence[str], terminal: Terminal) -> None:
    with writing():
        if args.save:
            measured = _p95s([one for one in runs if one.trusted])
            args.save.write_text(json.dumps({"latency_p95_ms": measured}, indent=1) + "\n", "utf-8")
        if args.junit:
            args.junit.write_bytes(junit(runs, slower))
    if args.html:
        _write_pages(args.html, runs, terminal)


def _write_pages(directory: Path, runs: Sequence[Run], terminal: Terminal) -> None:
    """Write each call's page; where no report came, what the caller noticed stands in for it."""
    from bluejay_ws.cli.pages import write_report_page  # noqa: PLC0415 - a quarter of all that is imported
    from bluejay_ws.timeline.live import noticed  # noqa: PLC0415

    for one in runs:
        words = "-".join(re.findall(r"\w+", one.name.lower()))[:60]
        one.page = directory / f"{words}-{one.call}.html"
        report = one.report or noticed(one.call, one.events)
        delivery = {"state": "accepted" if one.report else "not received"}
        write_report_page(report, one.page, terminal, expected=_expected(one.scenario) or None, delivery=delivery)


def _expected(scenario: Scenario) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for tool in scenario.expect.wanted:
        found.setdefault(tool.name, []).extend([{}] * (tool.times or 1))
    return found


def junit(runs: Sequence[Run], slower: Sequence[str]) -> bytes:
    """Return the results as JUnit XML."""
    failures = sum(bool(one.faults) and not one.is_unknown for one in runs) + len(slower)
    counts = {"tests": len(runs) + len(slower), "failures": failures, "errors": 0}
    counts["skipped"] = sum(one.is_unknown for one in runs)
    suite = ET.Element("testsuite", {"name": "bluejay-ws check"} | {name: str(value) for name, value in counts.items()})
    for one in runs:
        seconds = f"{one.duration_ms / 1000:.3f}"
        case = ET.SubElement(
            suite, "testcase", classname=_xml(one.path), name=_xml(f"{one.name} #{one.repetition}"), time=seconds
        )
        if one.is_unknown:
            ET.SubElement(case, "skipped", message=_xml(f"{TOO_SLOW}: {one.faults[0]}"))
        elif one.faults:
            ET.SubElement(case, "failure", message=_xml(one.faults[0])).text = _xml("\n".join(one.faults))
    for fault in slower:
        case = ET.SubElement(suite, "testcase", classname="baseline", name=_xml(fault.partition(":")[0]))
        ET.SubElement(case, "failure", message=_xml(fault))
    written: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return written


def _xml(value: object) -> str:
    """Return text without what XML cannot hold."""
    return clean(str(value)).encode("utf-8", "replace").decode()


def _sum_up(runs: Sequence[Run], slower: Sequence[str], code: int, terminal: Terminal) -> None:
    for fault in slower:
        terminal.wrapped("  slower  ", fault, style="red")
    unclear = sum(one.is_unknown for one in runs)
    failed = sum(bool(one.faults) for one in runs) - unclear
    terminal.say()
    terminal.say(f"{plural(len(runs), 'call')}, {failed} failed{f', {unclear} unclear' if unclear else ''}.")
    if code == UNTRUSTED:
        terminal.say("Only times are wrong, and this machine was too slow to measure them: try again on a quiet one.")
    terminal.document({"exit_code": code, "slower": list(slower), "runs": [one.to_json() for one in runs]})
