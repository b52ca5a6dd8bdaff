"""The page in a real browser: it opens, can be read and driven, and runs nothing that a report says."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bluejay_ws.timeline.live import LivePage
from bluejay_ws.timeline.page import write_page
from tests.timeline.samples import HOSTILE, good, long, never_answers, slow_tool, talks_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

axe = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"]
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"),
    pytest.mark.timeout(180),
]
RESULT = {
    "status": "COMPLETED",
    "meaning": "the call took place and was evaluated",
    "tool_calls": [{"name": HOSTILE, "kind": "missing", "expected": {"parameters": {"to": HOSTILE}}}],
    "evaluations": [{"goal_success": False, "goal_reasoning": HOSTILE}],
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Give one browser for the tests of this file that run in this process."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")  # takes a while
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def window(browser: Any) -> Any:
    """Give one window for all pages that are opened from a file: a new one takes half a second of the processor."""
    return browser.new_context(offline=True).new_page()


@pytest.fixture
def opened(window: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Give a function that opens the page of a report from its file; complaints of the browser fail the test."""
    complaints: list[str] = []
    listeners = {
        "console": lambda message: complaints.append(message.text),
        "pageerror": lambda error: complaints.append(str(error)),
        "request": lambda request: complaints.extend([request.url][: not request.url.startswith("file:")]),
    }

    def show(report: object, *, theme: str = "light", width: int = 1440, **options: Any) -> Any:
        window.set_viewport_size({"width": width, "height": 900})
        window.emulate_media(media="screen", color_scheme=theme)
        window.goto(write_page(report, tmp_path / "page.html", **options).as_uri())
        until(
            window,
            "document.querySelectorAll('.row').length > 0 || document.querySelector('#count').textContent === '0'",
        )
        return window

    for event, listener in listeners.items():
        window.on(event, listener)
    yield show
    for event, listener in listeners.items():
        window.remove_listener(event, listener)
    assert complaints == []


def until(page: Any, expression: str) -> None:
    """Wait until a JavaScript expression is true; Playwright's own way needs an ``eval``, which the page forbids."""
    deadline = time.monotonic() + 30
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never: {expression}"
        page.wait_for_timeout(10)


def violations(page: Any, part: str = "html", **options: object) -> list[str]:
    """Return what axe-core finds wrong with a part of a page, in short; the options are its own."""
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(next(Path(axe.__file__).parent.rglob("axe.min.js")).read_text("utf-8"))
    run = "([part, options]) => axe.run(part, {resultTypes: ['violations'], ...options})"
    found = page.evaluate(run, [part, options])["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def test_the_page_is_readable_for_everybody(opened: Callable[..., Any]) -> None:
    """On a phone in the light, and on a wide screen in the dark: axe-core finds no fault, nothing is over the edge."""
    report = slow_tool()
    report["tool_calls"][0]["description"] = "mocked: find_table"
    page = opened(report, against=good(), expected={"send_sms": [{}]}, result=RESULT)
    page.locator(".row.tool").first.click()
    page.emulate_media(color_scheme="dark")
    until(page, "document.documentElement.dataset.theme === 'dark'")
    assert violations(page, runOnly=["color-contrast"]) == []  # all else is the same in the light
    page.emulate_media(color_scheme="light")
    until(page, "document.documentElement.dataset.theme === 'light'")
    page.set_viewport_size({"width": 360, "height": 900})
    until(page, "document.documentElement.scrollWidth <= 360")
    page.locator(".row.agent").first.click()
    page.locator(".row.caller").first.hover()
    assert violations(page) == []
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert violations(page, "#help") == []


def test_a_stand_in_is_told_from_a_tool(opened: Callable[..., Any]) -> None:
    """A tool call that `simulated_tools` answered is marked in the list, in the details and in the figures."""
    report = good()
    report["tool_calls"][0]["description"] = "mocked: find_table"
    page = opened(report)
    page.locator(".row.tool").first.click()
    assert page.locator(".row .mock").count() == 1
    assert "A stand-in ran" in page.locator("#details").text_content()
    assert "2, 1 mocked" in page.locator("#figures").text_content()


@pytest.mark.parametrize("make", [pytest.param(slow_tool, marks=pytest.mark.nightly), talks_over, never_answers])
def test_the_verdict_can_be_read_without_scrolling(opened: Callable[..., Any], make: Callable[[], object]) -> None:
    """What went wrong stands at the top of a phone's screen, and leads to its place."""
    page = opened(make(), width=360)
    assert page.locator("#headline").bounding_box()["y"] < 200
    first = page.locator("#findings li:not(.still) button").first
    first.click()
    assert page.locator("#clock").text_content() != "0:00.0"


def test_nothing_that_a_report_says_is_run(opened: Callable[..., Any]) -> None:
    """Markup in every field is shown as text: in the list, the details and the title."""
    report = slow_tool() | {"simulation_result_id": HOSTILE, "tags": [HOSTILE], "metadata": {HOSTILE: HOSTILE}}
    for call in report["tool_calls"]:
        call |= {"name": HOSTILE, "output": {"error": HOSTILE, HOSTILE: HOSTILE}, "parameters": {HOSTILE: 1}}
    for line in report["recorded_transcript"]:
        line["utterance"] = HOSTILE
    for one in report["events"]:
        one["title"] = one["title"] + HOSTILE
    page = opened(
        report, delivery={"state": HOSTILE, "reason": HOSTILE}, expected={HOSTILE: [{"parameters": {"a": 1}}]}
    )
    for number in range(5):
        page.locator(".row").nth(number).click()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert HOSTILE in page.locator("#details").text_content()


def test_the_keyboard_drives_the_page(opened: Callable[..., Any]) -> None:
    """Every key of the help does what it says."""
    page = opened(slow_tool(), against=good())

    def press(*keys: str) -> None:
        for key in keys:
            page.keyboard.press(key)

    def clock() -> str:
        text: str = page.locator("#clock").text_content()
        return text.partition(" /")[0]

    press("n")
    assert "book_table" in page.locator("#details").text_content() or "Wait" in page.locator(".chosen").text_content()
    press("p", "Home")
    assert clock() == "0:00.0"
    press("ArrowRight", "Shift+ArrowRight", "ArrowLeft")
    assert clock() == "0:05.0"
    press("End")
    assert clock() == "0:27.9"
    press("Home", "j", "j", "k")
    assert page.locator(".chosen").count() == 1
    press("+", "+", "-", "0", "t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    press("c")
    assert page.locator("#other-call").get_attribute("aria-pressed") == "true"
    press("c", "/")
    page.keyboard.type("rossi")
    until(page, "document.querySelector('#count').textContent.includes(' of ')")
    assert page.locator("#count").text_content() == "2 of 12"
    press("Escape")
    until(page, "document.querySelector('#count').textContent === '12'")
    press("Home", " ")
    until(page, "!document.querySelector('#clock').textContent.startsWith('0:00.0')")
    press(" ")
    assert page.locator("#play").text_content() == "▶"


def test_the_picture_can_be_dragged_zoomed_and_clicked(opened: Callable[..., Any]) -> None:
    """A click chooses what lies there, ctrl and the wheel zoom, dragging moves, the strip above leads anywhere."""
    page = opened(good())
    box = page.locator("#lanes").bounding_box()

    def at(share: float, y: float) -> tuple[float, float]:
        return box["x"] + box["width"] * share, box["y"] + y

    page.mouse.click(*at(0.25, 46 + 30))
    assert "table for four" in page.locator("#details").text_content()
    page.mouse.move(*at(0.5, 100))
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    before = page.locator("#clock").text_content()
    page.mouse.down()
    page.mouse.move(*at(0.3, 100), steps=4)
    page.mouse.up()
    assert page.locator("#clock").text_content() == before
    page.mouse.click(*at(0.9, 36))
    assert page.locator("#clock").text_content() != before
    page.mouse.click(*at(0.5, 10))
    page.mouse.wheel(40, 0)


def test_tools_that_run_at_once_have_a_row_each(opened: Callable[..., Any]) -> None:
    """Each can be seen and chosen, and the events stand below all of them."""
    tools = [{"name": f"tool_{at}", "start_offset_ms": at, "end_offset_ms": 9_000} for at in range(3)]
    page = opened({"tool_calls": tools, "events": [{"title": "Sale", "start_offset_ms": 100, "end_offset_ms": 9_000}]})
    box = page.locator("#lanes").bounding_box()
    first = 46 + 58 + 58 + 34 + 14  # what stands above the tools
    places = [first + 11, first + 24 + 11, first + 48 + 11, first + 48 + 24 + 22]
    for place, name in zip(places, ["tool_0", "tool_1", "tool_2", "Sale"], strict=True):
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + place)
        until(page, f"document.querySelector('#details').textContent.includes('{name}')")


def test_a_call_of_thousands_of_items_has_few_elements(opened: Callable[..., Any]) -> None:
    """Only what can be seen exists, wherever the list is scrolled to, and the search looks through everything."""
    page = opened(long(5_000))
    assert page.locator("#count").text_content() == "5000"
    page.evaluate("document.querySelector('#list').scrollTop = 100000")
    until(page, "document.querySelector('.row').id !== 'row-0'")
    assert page.locator(".row").count() < 60
    page.fill("#search", "number 3002.")
    until(page, "document.querySelector('#count').textContent.startsWith('1 of')")


def test_the_printed_page_has_every_row_in_light_colours(opened: Callable[..., Any]) -> None:
    """Printing needs no scrolling: all rows are there, and are gone again after it."""
    page = opened(long(200), theme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".row").count() == 200
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator(".row").count() < 200
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_an_empty_report_is_a_page_too(opened: Callable[..., Any]) -> None:
    """It says that nothing was recorded."""
    page = opened({})
    assert "Nothing was recorded" in page.locator("#headline").text_content()


def test_a_live_page_follows_the_calls(window: Any) -> None:
    """A call that continues, its report, and the next call, as they come; the reader may go back to the first."""
    page = window
    complaints: list[str] = []

    def note(message: Any) -> None:
        complaints.append(message.text)

    page.context.set_offline(False)
    with LivePage() as live:
        page.on("console", note)
        page.goto(live.url)
        until(page, "document.querySelector('#headline').textContent === 'Waiting for a call.'")
        live.show("720487", {"simulation_result_id": "720487"}, live=True)
        until(page, "document.querySelector('#verdict').className === 'verdict live'")
        live.show("720487", good())
        until(page, "document.querySelector('#headline').textContent.startsWith('Nothing looks wrong')")
        live.show("720488", slow_tool())
        until(page, "document.querySelector('#headline').textContent.includes('book_table')")
        page.locator("#calls button").first.click()
        until(page, "document.querySelector('#title').textContent === 'Call 720487'")
        assert page.locator("#lost").is_hidden()
        assert complaints == []
        page.remove_listener("console", note)
    until(page, "!document.querySelector('#lost').hidden")
    page.goto("about:blank")  # it tries again for ever
    page.context.set_offline(True)
