"""A Digital Human: dials an agent as Bluejay does, speaks, listens, barges in, hangs up.

It shares no code with what it judges: wire names, PCM arithmetic and the rules of CHIRP are written out again here.
The connection is `websockets.asyncio`, so it runs on asyncio (uvloop too), not on trio.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import ipaddress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
from websockets.asyncio.client import ClientConnection, connect
from websockets.version import version as websockets_version

from bluejay_ws.testing.audio import caller_pcm, split_utterances
from bluejay_ws.testing.line import Background, CallEvent, CallLog, Habits, Line
from bluejay_ws.testing.protocols import new_protocol
from bluejay_ws.testing.spans import Span

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Callable, Sequence

    from websockets.http11 import Request

__all__ = ["Background", "CallEvent", "CallLog", "DigitalHuman", "Line", "Span"]

ID_HEADER = "X-Simulation-Result-Id"


class DigitalHuman:
    """Dial agents as Bluejay's simulated caller does. One object can make any number of calls.

    Args:
        url: ``ws://`` or ``wss://``.
        simulation_result_id: value of the connect header, or what a carrier's first message has; None leaves it out,
            several values repeat the header.
        user: user name of the Basic authentication; None sends no ``Authorization`` header.
        password: its password.
        pace: seconds that one second of audio takes, spoken and heard: 1.0 is real time, 0.1 ten times faster,
            0 as fast as the connection allows.
        skew_ms: how late ``speech.started`` is against the first frame, and how early ``speech.completed`` is against
            the last one.
        patience: seconds, at any pace, to wait for an agent that says nothing.
        reaction: seconds of silence, at that pace, after which the agent's turn counts as over.
        yields: fall silent when the agent begins to speak over the caller.
        background: what the line carries while the caller says nothing: ``noise`` as Bluejay's does, digital
            ``silence``, or no frames at all (``pauses``). Default: noise in real time, and pauses at any other pace,
            where continuous audio would only be load.
        noise_rms: root mean square of the noise; Bluejay's lies between 60 and 150.
        events: send ``speech.started`` and ``speech.completed``.
        echo: send them for the agent's own voice too, as Bluejay sometimes does.
        on_event: called with each `CallEvent` as it happens.
        on_audio: called with each frame that is heard: ``caller`` or ``agent``, its time in milliseconds since the
            handshake (an agent's frame is heard when those before it have been played), and the PCM.
        protocol: how the call is carried: ``chirp``, ``twilio``, ``plivo``, ``telnyx`` or ``vonage``.
        coding: of a carrier's audio, such as ``l16/16000``; default: the carrier's usual one.
        compression: offer to compress messages. Without it a caller takes less of the machine; no agent sees it.
        headers: further headers of the connect request.
        ssl: for ``wss://``; default: the system's trust store.
        open_timeout: seconds for connecting and the handshake.
        close_timeout: seconds to wait for the agent's part of closing.

    Raises:
        ValueError: there is no such protocol, or it does not carry that coding.
    """

    def __init__(
        self,
        url: str,
        simulation_result_id: str | Sequence[str] | None = "720488",
        *,
        user: str | None = None,
        password: str = "",
        pace: float = 1.0,
        skew_ms: float = 200.0,
        patience: float = 10.0,
        reaction: float = 0.6,
        yields: bool = True,
        background: Background | None = None,
        noise_rms: float = 100.0,
        events: bool = True,
        echo: bool = False,
        on_event: Callable[[CallEvent], None] | None = None,
        on_audio: Callable[[str, float, bytes], None] | None = None,
        protocol: str = "chirp",
        coding: str | None = None,
        compression: bool = True,
        headers: Sequence[tuple[str, str]] = (),
        ssl: ssl.SSLContext | None = None,
        open_timeout: float = 10.0,
        close_timeout: float = 5.0,
    ) -> None:
        self.url = url
        self.habits = Habits(
            pace=pace,
            skew_ms=skew_ms,
            patience=patience,
            reaction=reaction,
            yields=yields,
            background=background or ("noise" if pace == 1.0 else "pauses"),
            noise_rms=noise_rms,
            events=events,
            echo=echo,
            on_event=on_event,
            on_audio=on_audio,
        )
        ids = [simulation_result_id] if isinstance(simulation_result_id, str) else simulation_result_id or []
        self._ids = ids
        self._new_protocol = functools.partial(new_protocol, protocol, coding)
        in_header = self._new_protocol().id_in_header
        self._headers = list(headers)
        if user is not None:
            credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers.append(("Authorization", f"Basic {credentials}"))
        self._options: dict[str, Any] = {"open_timeout": open_timeout, "close_timeout": close_timeout}
        if not compression:
            self._options["compression"] = None
        if not in_header:
            pass  # the carrier's first message has it
        elif all(value.isprintable() for value in ids):
            self._headers += [(ID_HEADER, value) for value in ids]
        else:
            self._options["create_connection"] = functools.partial(_HostileConnection, values=ids)
        if ssl is not None:
            self._options["ssl"] = ssl
        if _is_loopback(url) and int(websockets_version.split(".")[0]) >= 15:
            self._options["proxy"] = None  # a proxy of the environment cannot reach this machine

    @contextlib.asynccontextmanager
    async def dial(self) -> AsyncGenerator[Line]:
        """Connect, and hang up with 1000 on the way out if the call still lasts.

        Raises:
            OSError: the agent cannot be reached (`ssl.SSLError` is one).
            TimeoutError: it did not answer in time.
            websockets.exceptions.InvalidStatus: it refused the upgrade, for example with 401.
            websockets.exceptions.WebSocketException: the URL or the answer is no websocket's.
        """
        connection = await connect(self.url, additional_headers=self._headers, max_size=2**24, **self._options)
        line = Line(connection, self.habits, self._new_protocol())
        tasks = [asyncio.create_task(part()) for part in (line.hear, line.play)]
        try:
            await line.begin(self._ids)
            tasks.append(asyncio.create_task(line.hold()))  # nothing comes before a carrier's first message
            yield line
        finally:
            try:
                await line.hang_up()
                await asyncio.gather(*tasks)
            finally:
                connection.transport.abort()
                for task in tasks:
                    task.cancel()

    async def call(
        self,
        utterances: Sequence[bytes] | None = None,
        *,
        greeting: float = 0.0,
        silence_ms: float = 600.0,
        barge_in_ms: float | None = None,
        seconds: float | None = None,
        close_code: int | None = 1000,
        close_reason: str = "",
    ) -> CallLog:
        """Make one whole call: say each utterance, hear the agent's answer out, hang up.

        Args:
            utterances: what to say, as PCM; default: the shipped caller's two sentences.
            greeting: seconds, at any pace, that the agent may take to speak first.
            silence_ms: silence sent after each utterance, for agents that listen for it, until they answer.
            barge_in_ms: begin the next utterance once that much of each answer has been heard.
            seconds: end the call after that time, whatever has been said.
            close_code: None drops the TCP connection without a close frame.
            close_reason: sent with the code.

        Returns:
            What happened. A call that the agent ends early is no error.
        """
        spoken = split_utterances(caller_pcm()) if utterances is None else utterances
        async with self.dial() as line:
            with anyio.move_on_after(seconds):
                if greeting:
                    await line.listen(patience=greeting)
                for number, pcm in enumerate(spoken, 1):
                    await line.say(pcm)
                    await line.silence(silence_ms, until_heard=True)
                    await line.listen(heard_ms=barge_in_ms if number < len(spoken) else None)
            if close_code is None:
                await line.drop()
            else:
                await line.hang_up(close_code, close_reason)
        return line.log


class _HostileConnection(ClientConnection):
    """Send id headers as they are: the library itself refuses to write what an attacker would."""

    def __init__(self, *args: Any, values: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lines = "".join(f"{ID_HEADER}: {value}\r\n" for value in values).encode()

    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        """Do the handshake, with the lines added to the request as it leaves."""
        send_request = self.protocol.send_request

        def send_with_lines(request: Request) -> None:
            whole = request.serialize().removesuffix(b"\r\n") + self._lines + b"\r\n"
            request.serialize = lambda: whole  # type: ignore[method-assign]
            send_request(request)

        self.protocol.send_request = send_with_lines  # type: ignore[method-assign]
        await super().handshake(*args, **kwargs)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
