"""Make the call of a scenario: the caller's steps, its voice, its bad line, and how far its times can be trusted."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import math
import random
import struct
from typing import TYPE_CHECKING, Any

from websockets.exceptions import ConnectionClosed

from bluejay_ws.testing.audio import SAMPLE_RATE, hold_noise, read_wav, silence
from bluejay_ws.testing.caller import CallEvent, DigitalHuman
from bluejay_ws.testing.scenarios import ScenarioError, StepError
from bluejay_ws.testing.speech import speak

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

    from bluejay_ws.testing.line import CallLog, Line
    from bluejay_ws.testing.protocols import Protocol
    from bluejay_ws.testing.scenarios import Network, Scenario, Step

SILENCE_MS = 600.0
DTMF = {key: (row, column) for row, keys in ((697, "123A"), (770, "456B"), (852, "789C"), (941, "*0#D"))
        for key, column in zip(keys, (1209, 1336, 1477, 1633), strict=True)}  # fmt: skip
TRUSTED_MS = 50.0  # a caller whose loop is later than this too often cannot say whether the agent was late


def prepare(scenario: Scenario, directory: Path, voice: str) -> dict[int, bytes]:
    """Return the PCM of each step that has sound, by its number, before the call: nothing is made while it lasts.

    Raises:
        StepError: a file cannot be used, or espeak-ng is not there or does not know the voice.
    """
    sounds = {}
    for number, step in enumerate(scenario.steps):
        try:
            pcm = _sound(step, directory, step.voice or voice)
        except ScenarioError as error:
            raise StepError(str(error), number) from None
        if pcm is not None:
            sounds[number] = pcm
    return sounds


def _sound(step: Step, directory: Path, voice: str) -> bytes | None:
    if step.say is not None:
        try:
            return speak(step.say, voice=voice)
        except (OSError, ValueError) as error:
            raise ScenarioError(f"cannot say {step.say!r}: {error}") from None
    if step.play is not None:
        try:
            return read_wav(directory / step.play)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ScenarioError(f"cannot play {step.play!r}: {reason}") from None
    if step.dtmf is not None:
        return b"".join(_keys(key) for key in step.dtmf)
    if step.noise is not None:
        return hold_noise(step.noise * 1000)
    return None


def _keys(key: str) -> bytes:
    low, high = DTMF[key]
    times = (number / SAMPLE_RATE for number in range(SAMPLE_RATE // 10))
    tones = (round(8_000 * (math.sin(math.tau * low * at) + math.sin(math.tau * high * at))) for at in times)
    return struct.pack(f"<{SAMPLE_RATE // 10}h", *tones) + silence(100)


class Lateness:
    """Measure how late this machine wakes the callers of one loop: the floor below which their times say nothing."""

    def __init__(self) -> None:
        self._late: list[float] = []

    async def watch(self) -> None:
        """Measure until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            before = clock()
            await asyncio.sleep(0.02)
            self._late.append((clock() - before - 0.02) * 1000)

    def mark(self) -> int:
        """Return a mark for this moment, for `p99_ms`."""
        return len(self._late)

    def p99_ms(self, mark: int = 0) -> float:
        """Return what 99 % of the frames since a mark were not later than; 0 where nothing was measured."""
        ordered = sorted(self._late[mark:])
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else 0.0


async def rehearse(
    scenario: Scenario, sounds: dict[int, bytes], url: str, simulation_result_id: str, *, seed: int = 0, **options: Any
) -> CallLog:
    """Make the scenario's call once, with the sounds that `prepare` made, and return its log.

    ``options`` are more of `bluejay_ws.testing.caller.DigitalHuman`.

    Raises:
        OSError: the agent cannot be reached.
        TimeoutError: it did not answer in time.
        websockets.exceptions.InvalidStatus: it refused the call.
    """
    caller = scenario.caller
    human = DigitalHuman(
        url,
        simulation_result_id,
        patience=caller.patience,
        background=caller.background,
        skew_ms=caller.skew_ms,
        yields=caller.yields,
        protocol=scenario.protocol,
        coding=scenario.coding,
        compression=False,
        **options,
    )
    async with human.dial() as line, _bad(line, scenario.network, seed):
        left_out = await _take_all(scenario, sounds, line)
        await line.hang_up()
    line.log.events += left_out
    return line.log


async def _take_all(scenario: Scenario, sounds: dict[int, bytes], line: Line) -> list[CallEvent]:
    """Do the steps; return those that nothing answered, and the first that could not be done, with the reason."""
    found: list[CallEvent] = []
    began, steps, number = asyncio.get_running_loop().time(), scenario.steps, 0
    limit = asyncio.timeout(scenario.seconds)
    try:
        async with limit:
            await line.listen(patience=scenario.caller.greeting, heard_ms=_heard_ms(steps[0]))
            for number, step in enumerate(steps):
                if line.closed:
                    return [*found, _left_out("missed", number, step, began, reason="the call was over")]
                following = steps[number + 1] if number + 1 < len(steps) else None
                if await _take(step, sounds.get(number), line, began, following):
                    continue
                if step.dtmf is None and not _leaves(following):  # a key may be one of many; a goodbye wants no answer
                    found.append(_left_out("unanswered", number, step, began, seconds=scenario.caller.patience))
                if scenario.caller.hangs_up_impatiently:
                    over = "the caller's patience was over"
                    missed = following and _left_out("missed", number + 1, following, began, reason=over)
                    return [*found, missed] if missed else found
    except TimeoutError:
        if not limit.expired():
            raise
        over = f"{scenario.seconds:g} s were over"
        found.append(_left_out("missed", number, steps[number], began, reason=over))
    return found


def _leaves(step: Step | None) -> bool:
    """Return whether this step is the caller's end of the call."""
    return step is not None and (step.hang_up is not None or step.drop is True)


def _left_out(what: str, number: int, step: Step, began: float, **detail: Any) -> CallEvent:
    at_ms = (asyncio.get_running_loop().time() - began) * 1000
    return CallEvent(at_ms, f"step.{what}", {"number": number + 1, "step": step.in_words, **detail})


def _heard_ms(following: Step | None) -> float | None:
    """Return how much of an answer is heard before the following step begins; None for all of it."""
    return None if following is None or following.interrupt_after is None else following.interrupt_after * 1000


async def _take(step: Step, pcm: bytes | None, line: Line, began: float, following: Step | None) -> bool:
    """Do one step; return False if it wants an answer and none came."""
    if step.at is not None:
        await asyncio.sleep(max(0.0, began + step.at - asyncio.get_running_loop().time()))
    if step.silence is not None:
        await line.sound(silence(step.silence * 1000))
    elif step.noise is not None:
        await line.sound(pcm or b"")
    elif step.listen is not None:
        await line.listen(patience=step.listen, heard_ms=_heard_ms(following))
    elif step.hang_up is not None:
        await line.hang_up(step.hang_up)
    elif step.drop:
        await line.drop()
    else:
        await (line.say(pcm or b"") if step.dtmf is None else line.press(step.dtmf, pcm or b""))
        return await _hear(line, following)
    return True


async def _hear(line: Line, following: Step | None) -> bool:
    """Hear the answer out, or as much of it as the next step wants; return whether there was one, or the call ended."""
    if following is not None and following.at is not None:
        return True
    await line.silence(SILENCE_MS, until_heard=True)
    return await line.listen(heard_ms=_heard_ms(following)) or line.closed


@contextlib.asynccontextmanager
async def _bad(line: Line, network: Network, seed: int) -> AsyncIterator[None]:
    """Put a bad network between the caller and the agent, where one is wanted."""
    if not (network.loss or network.delay_ms or network.jitter_ms):
        yield
        return
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    worse = _BadNetwork(line.connection, line.protocol, network, chance)
    line.connection = worse  # type: ignore[assignment] # it has what a line uses
    task = asyncio.create_task(worse.carry())
    try:
        yield
    finally:
        task.cancel()


class _BadNetwork:
    """Lose and delay what the caller sends. Messages keep their order, as they do on TCP."""

    def __init__(
        self, connection: ClientConnection, protocol: Protocol, network: Network, chance: random.Random
    ) -> None:
        self._connection = connection
        self._protocol = protocol
        self._network = network
        self._chance = chance
        self._waiting: collections.deque[tuple[float, bytes | str]] = collections.deque()
        self._news = asyncio.Event()
        self._arrived = asyncio.Event()
        self._hanging_up = False
        self._clock = asyncio.get_running_loop().time

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __aiter__(self) -> AsyncIterator[bytes | str]:
        return self._connection.__aiter__()

    async def send(self, message: bytes | str) -> None:
        if self._hanging_up or self._connection.protocol.close_code is not None:
            raise ConnectionClosed(None, None)
        if self._protocol.is_audio(message) and self._chance.random() < self._network.loss:
            return
        late = self._network.delay_ms + self._chance.random() * self._network.jitter_ms
        self._waiting.append((self._clock() + late / 1000, message))
        self._news.set()

    async def close(self, code: int, reason: str) -> None:
        """Close when all that is on its way has arrived; the line's noise ends here."""
        self._hanging_up = True
        while self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        await self._connection.close(code, reason)

    async def carry(self) -> None:
        while True:
            while self._waiting:
                due, message = self._waiting[0]
                await asyncio.sleep(max(0.0, due - self._clock()))
                with contextlib.suppress(ConnectionClosed):  # the line notes the end
                    await self._connection.send(message)
                self._waiting.popleft()
                self._arrived.set()
            self._news.clear()
            await self._news.wait()
