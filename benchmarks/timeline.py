"""How fast the timeline page is, in headless Chromium.

For each size of call: the file's size, the first paint, and the longest task while the picture is zoomed and dragged,
the list is scrolled to its end and searched. A task of more than 100 ms is felt.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.measure import Effort, Result, spread
from bluejay_ws.timeline.page import render

SIZES = (500, 5_000, 20_000)
WATCH = """
window.longest = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
}).observe({ type: "longtask", buffered: true });
"""
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


def report(items: int) -> dict[str, Any]:
    """Return a ten-minute call of so many items."""
    step = 600_000 / items
    times = [int(at * step) for at in range(items)]
    return {
        "simulation_result_id": "720491",
        "tool_calls": [
            {"name": f"tool_{n % 7}", "start_offset_ms": at, "parameters": {"n": n}, "output": {"value": n}}
            for n, at in enumerate(times[::4])
        ],
        "events": [{"title": f"Event {n}", "start_offset_ms": at} for n, at in enumerate(times[1::4])],
        "recorded_transcript": [
            {
                "speaker": ("USER", "AGENT")[n % 2],
                "start_offset_ms": at,
                "end_offset_ms": at + int(step),
                "utterance": f"This is sentence number {n} of the call.",
            }
            for n, at in enumerate(sorted(times[2::4] + times[3::4]))
        ],
    }


def measure(browser: Any, path: Path) -> tuple[float, float, float]:
    """Return the first paint, the longest task of opening, and the longest of using the page, in milliseconds."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.add_init_script(WATCH)
    page.goto(path.as_uri())
    page.wait_for_timeout(500)
    paint = page.evaluate(
        "performance.getEntriesByType('paint').find((one) => one.name === 'first-contentful-paint').startTime"
    )
    opening = page.evaluate("window.longest")
    page.evaluate("window.longest = 0")
    _use(page)
    using = page.evaluate("window.longest")
    page.close()
    return paint, opening, using


def _use(page: Any) -> None:
    for key in "+++++-----":
        page.keyboard.press(key)
        page.wait_for_timeout(30)
    for key in ["+"] * 6 + ["ArrowRight"] * 10 + ["j"] * 10:
        page.keyboard.press(key)
        page.wait_for_timeout(20)
    page.evaluate("document.querySelector('#list').scrollTop = 1e7")
    page.wait_for_timeout(100)
    page.keyboard.press("/")
    page.keyboard.type("number 42", delay=60)
    page.wait_for_timeout(300)


def run(effort: Effort) -> list[Result]:
    """Measure pages of each size; nothing where there is no Chromium, or nothing to drive it."""
    chromium = shutil.which("chromium")
    if chromium is None or find_spec("playwright") is None:
        print("timeline: not measured, it needs chromium and playwright", file=sys.stderr)
        return []
    from playwright.sync_api import sync_playwright

    found: list[Result] = []
    with sync_playwright() as started, tempfile.TemporaryDirectory() as directory:
        browser = started.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        for items in SIZES:
            path = Path(directory, f"{items}.html")
            path.write_text(render(report(items)), "utf-8")
            runs = [measure(browser, path) for _ in range(effort.few)]
            found += _results(items, path.stat().st_size, runs)
        browser.close()
    return found


def _results(items: int, size: int, runs: list[tuple[float, float, float]]) -> list[Result]:
    """Return the lines of one size; only the page of 500 items has figures to reach."""
    load = f"file: {size / 1000:.0f} kB; load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    names = ("first paint", "longest task of opening", "longest task of zooming, scrolling and searching")
    limits: tuple[float | None, ...] = (1_000.0, 100.0, 100.0) if items == SIZES[0] else (None, None, None)
    return [
        Result(f"page of {items:,} items: {name}", statistics.median(column), "ms", spread(column), load, limit)
        for name, limit, column in zip(names, limits, zip(*runs, strict=True), strict=True)
    ]
