"""``--html``, ``--audio`` and ``--live``: the page of a call that a command makes, or of the reports it takes."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluejay_ws.cli.terminal import check_writable, writing
from bluejay_ws.timeline.live import LiveCall, LivePage
from bluejay_ws.timeline.page import write_page
from bluejay_ws.timeline.sound import Sound

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from bluejay_ws.cli.terminal import Terminal
    from bluejay_ws.testing.caller import CallEvent
    from bluejay_ws.testing.platform import AcceptedReport

SHOWN_EVERY = 0.25  # seconds between two states of a live call


def add_page_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that makes or takes calls."""
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the call's page to this file")
    parser.add_argument("--audio", action="store_true", help="keep the call's sound in the page, to be played there")
    parser.add_argument("--live", action="store_true", help="serve the page on this machine while the call lasts")


class Watch:
    """Follow calls, and show them as pages. Its methods are called from several threads.

    Without ``html`` no page is written; of several calls each has the file's name with its id.
    """

    def __init__(self, html: Path | None, live: LivePage | None, *, playable: bool = False) -> None:
        self._html = html
        self._live = live
        self._playable = playable
        self._lock = threading.Lock()
        self._call: LiveCall | None = None
        self._sound: dict[str, list[tuple[float, bytes]]] = {"caller": [], "agent": []}
        self._reports: dict[str, dict[str, Any]] = {}
        self._shown = 0.0

    def begin(self, simulation_result_id: str) -> None:
        """Follow this call of the local caller's from now on."""
        self._call = LiveCall(simulation_result_id)
        self._show()

    def event(self, event: CallEvent) -> None:
        """Take one event of the local caller's."""
        if self._call is None:
            return
        with self._lock:
            self._call.add(event)
        if event.kind == "closed" or time.monotonic() - self._shown > SHOWN_EVERY:
            self._show()

    def audio(self, who: str, at_ms: float, pcm: bytes) -> None:
        """Take a frame that ``caller`` or ``agent`` was heard with."""
        self._sound[who].append((at_ms, pcm))

    def accepted(self, accepted: AcceptedReport) -> None:
        """Take a report that the local platform has accepted."""
        identity = accepted.simulation_result_id
        with self._lock:
            self._reports[identity] = accepted.report
        if self._live is not None:
            self._live.show(identity, accepted.report, **self._options(identity, "accepted"))

    def _show(self) -> None:
        self._shown = time.monotonic()
        if self._live is None or self._call is None or self._call.simulation_result_id in self._reports:
            return
        with self._lock:
            report = self._call.report()
        self._live.show(self._call.simulation_result_id, report, live=True)

    def _options(self, identity: str, state: str) -> dict[str, Any]:
        options: dict[str, Any] = {"delivery": {"state": state}}
        if self._call is not None and self._call.simulation_result_id == identity:
            tracks = {who: list(pieces) for who, pieces in self._sound.items()}
            options["sound"] = Sound(**tracks, playable=self._playable)
        return options

    def write(self) -> list[Path]:
        """Write the pages; where no report came, what the caller noticed stands in for it."""
        if self._html is None:
            return []
        reports = dict(self._reports)
        states = dict.fromkeys(reports, "accepted")
        if self._call is not None and self._call.simulation_result_id not in reports:
            reports[self._call.simulation_result_id] = self._call.report()
            states[self._call.simulation_result_id] = "not received"
        paths = [
            self._html if len(reports) == 1 else self._html.with_stem(f"{self._html.stem}-{name}") for name in reports
        ]
        return [
            write_page(report, path, **self._options(name, states[name]))
            for path, (name, report) in zip(paths, reports.items(), strict=True)
        ]


@contextlib.contextmanager
def watching(args: argparse.Namespace, terminal: Terminal) -> Iterator[Watch | None]:
    """Give what follows the calls; on the way out write the page, and keep a live one until Ctrl-C.

    Gives None where neither a page nor a live one is wanted: then nothing is kept.

    Raises:
        Problem: the page cannot be written.
    """
    check_writable(args.html)
    if args.html is None and not args.live:
        yield None
        return
    with contextlib.ExitStack() as stack:
        live = stack.enter_context(LivePage()) if args.live else None
        if live is not None:
            terminal.wrapped("page       ", live.url)
        watch = Watch(args.html, live, playable=args.audio)
        try:
            yield watch
        finally:
            with writing():
                for path in watch.write():
                    terminal.wrapped("page       ", str(path))
        if live is not None and sys.stdout.isatty():
            terminal.say("The page stays until you press Ctrl-C.")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()


def write_report_page(report: object, path: Path, terminal: Terminal, **options: Any) -> None:
    """Write one report's page, and say where it is.

    Raises:
        Problem: it cannot be written.
    """
    with writing():
        terminal.wrapped("page       ", str(write_page(report, path, **options)))
