"""What `bluejay-ws check` costs: a minute in virtual time, and how steady the caller is with 20 calls at once."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.measure import Effort, Result, percentile, spread
from bluejay_ws.cli.dialling import APART
from bluejay_ws.testing.audio import voice, write_wav
from bluejay_ws.testing.caller import DigitalHuman
from bluejay_ws.testing.platform import FakePlatform

__all__ = ["run"]

CALLS = 20
TURNS = 3
GOOD = "a good agent"
CHANGES = {
    GOOD: "=>",
    "one that forgets its tool": "    await book_table(people=4)\n=>",
    "one that has become slow": "sleep(0.9)=>sleep(2.9)",
}
MINUTE = """\
name: A minute
steps: [{steps}]
expect: {{tools: [{{name: book_table, times: 12}}], latency_p95: 0.8}}
"""
AGENT = """\
import asyncio, json, os
from websockets.asyncio.server import serve
from bluejay_ws import current_recorder, record, record_tool
from bluejay_ws.testing.audio import frames, voice

VOICE = list(frames(voice(2_000)))

@record_tool
async def book_table(people):
    return {"booked": True}

async def answer(websocket):
    await asyncio.sleep(0.9)
    await book_table(people=4)
    current_recorder().agent_said("It is booked.")
    due = asyncio.get_running_loop().time()
    for frame in VOICE:
        await websocket.send(frame)
        due += 0.02
        await asyncio.sleep(due - asyncio.get_running_loop().time())

@record
async def agent(websocket):
    answers = set()
    async for message in websocket:
        if isinstance(message, str) and json.loads(message)["type"] == "speech.completed":
            answers.add(asyncio.create_task(answer(websocket)))

async def main():
    async with serve(agent, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()

if __name__ == "__main__":
    asyncio.run(main())
"""


FLOOR = """\
import asyncio
from bluejay_ws.testing.rehearsal import Lateness

async def main():
    lateness = Lateness()
    task = asyncio.create_task(lateness.watch())
    await asyncio.to_thread(input)
    task.cancel()
    print(lateness.p99_ms())

asyncio.run(main())
"""
"""How late this machine wakes a loop that does nothing else, at the same time: nobody can be better than that."""


def _minute(directory: Path) -> tuple[float, float]:
    """Return how long the command takes, from its start to its exit, and how much of that is CPU."""
    steps = ", ".join(["{play: order.wav}"] * 12)
    (directory / "minute.yaml").write_text(MINUTE.format(steps=steps), "utf-8")
    command = [sys.executable, "-m", "bluejay_ws", "check", "minute.yaml", "--app", "check_agent:agent"]
    begun, before = perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)
    took, after = perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


async def _one(url: str, number: int) -> list[float]:
    """Make one call and return how far each pause between two of the caller's frames is from 20 ms."""
    await asyncio.sleep(number * APART)
    times: list[float] = []

    def note(who: str, at_ms: float, _frame: bytes) -> None:
        if who == "caller":
            times.append(at_ms)

    human = DigitalHuman(url, f"local-{number}", on_audio=note, compression=False)  # as `check` and `call -n` do
    await human.call([voice(2_000)] * TURNS)
    return [abs(after - before - 20) for before, after in itertools.pairwise(times)]


async def _crowd(url: str) -> list[float]:
    jitter = await asyncio.gather(*(_one(url, number) for number in range(CALLS)))
    return [one for call in jitter for one in call]


def _in_a_row(directory: Path, change: str) -> tuple[int, int]:
    """Return how many of twenty calls held, and the command's exit code, for an agent that was changed so."""
    before, _, after = change.partition("=>")
    (directory / "changed_agent.py").write_text(AGENT.replace(before, after) if before else AGENT, "utf-8")
    text = "name: Books\nsteps: [{play: order.wav}]\nexpect: {tools: [book_table], latency_p95: 1.5}\n"
    (directory / "books.yaml").write_text(text, "utf-8")
    command = [sys.executable, "-m", "bluejay_ws", "check", "books.yaml", "--app", "changed_agent:agent"]
    done = subprocess.run(
        [*command, "--repeat", str(CALLS), "--json"], cwd=directory, check=False, capture_output=True, text=True
    )
    runs = json.loads(done.stdout.splitlines()[-1])["runs"]
    return sum(one["holds"] for one in runs), done.returncode


def _jitter(directory: Path) -> tuple[list[float], float]:
    """Return the jitter of 20 calls at once to an agent in a process of its own, and this machine's floor meanwhile."""
    with FakePlatform() as platform:
        variables = {"BLUEJAY_API_URL": platform.url, "BLUEJAY_API_KEY": platform.api_key}
        spool = {"BLUEJAY_SPOOL": str(directory / "spool")}
        command = [sys.executable, "check_agent.py"]
        with (
            subprocess.Popen(
                command, cwd=directory, stdout=subprocess.PIPE, text=True, env={**os.environ, **variables, **spool}
            ) as agent,
            subprocess.Popen(
                [sys.executable, "-c", FLOOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as floor,
        ):
            assert agent.stdout is not None
            try:
                jitter = asyncio.run(_crowd(f"ws://127.0.0.1:{int(agent.stdout.readline())}"))
                return jitter, float(floor.communicate("\n")[0])
            finally:
                agent.terminate()


def run(effort: Effort) -> list[Result]:
    """Measure both."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "check_agent.py").write_text(AGENT, "utf-8")
        write_wav(directory / "order.wav", voice(1_500))
        minutes, cpu = zip(*(_minute(directory) for _ in range(effort.few)), strict=True)
        held = {name: _in_a_row(directory, change) for name, change in CHANGES.items()}
        runs = sorted((_jitter(directory) for _ in range(effort.few)), key=lambda one: percentile(one[0], 0.99))
    jitter, floor = runs[len(runs) // 2]
    best, worst = (percentile(runs[at][0], 0.99) for at in (0, -1))
    load = f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    return [
        Result(
            "`check` of a 60 s call in virtual time",
            median(minutes),
            "s",
            spread(minutes),
            f"{median(cpu):.2f} s of it CPU; {load}",
            3.0,
        ),
        Result(
            f"{CALLS} calls at once: jitter of the caller's frames, p99",
            percentile(jitter, 0.99),
            "ms",
            f"median {median(jitter):.2f}, longest {max(jitter):.1f}",
            f"the middle one of {effort.few} runs, {best:.1f} to {worst:.1f}; "
            f"a loop that did nothing else was {floor:.1f} ms late meanwhile; {load}",
            5.0,
        ),
        *(
            Result(
                f"{CALLS} calls in a row to {name}: judged rightly",
                right,
                "calls",
                f"exit code {code}",
                "",
                CALLS,
                at_least=True,
            )
            for name, (count, code) in held.items()
            for right in [count if name == GOOD else CALLS - count]
        ),
    ]
