"""The page in a real browser: Debian's Chromium, headless, through its own driver."""

from __future__ import annotations

import base64
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gpuperf.model import Verdict
from pytest_gpuperf.report.page import history_page, page
from tests.unit.report.histories import history
from tests.unit.report.page.reports import HOSTILE, WHEN, reported

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of the dependency group test")
if BROWSER is None or DRIVER is None:
    pytest.skip("needs Debian's packages chromium and chromium-driver", allow_module_level=True)

Show = Callable[[str], "Chrome"]


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    flags = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900"]
    flags += [f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    for flag in flags:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def show(chrome: Chrome, tmp_path: Path) -> Iterator[Show]:
    """Opens a page; whatever its scripts or its policy complain of fails the test."""

    def open_page(text: str) -> Chrome:
        path = tmp_path / "report.html"
        path.write_text(text, encoding="utf-8")
        chrome.get(path.as_uri())
        return chrome

    resize(chrome, 1280)
    complaints(chrome)
    yield open_page
    assert complaints(chrome) == []


def complaints(chrome: Any) -> list[str]:
    """What the browser's console says since it was asked the last time."""
    return [entry["message"] for entry in chrome.get_log("browser")]


def resize(chrome: Chrome, width: int, height: int = 900) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def until(chrome: Chrome, condition: str, *arguments: Any, seconds: float = 10) -> Any:
    """What a condition in the page evaluates to once it is true."""
    deadline = time.monotonic() + seconds
    while not (value := chrome.execute_script(f"return {condition}", *arguments)):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.02)
    return value


def chart(chrome: Chrome, kind: str) -> Any:
    """A drawn chart by its heading's beginning, scrolled into view."""
    find = (
        "[...document.querySelectorAll('.chart')].find(e => e.querySelector('h4').textContent.startsWith(arguments[0]))"
    )
    node = until(chrome, find, kind)
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", node)
    until(chrome, "'drawn' in arguments[0].dataset", node)
    return node


def place(chrome: Chrome, node: Any, index: int) -> tuple[float, float]:
    """Where the chart's ``index``-th stop lies in the window, as the keyboard finds it."""
    press(chrome, node, "Home", *["ArrowRight"] * index)
    at = "(b => [b.x + b.width / 2, b.y + b.height / 2])(arguments[0].querySelector('.focus').getBoundingClientRect())"
    x, y = until(chrome, at, node)
    chrome.execute_script("arguments[0].querySelector('.plot').blur()", node)
    return x, y


def press(chrome: Chrome, node: Any, *keys: str) -> str:
    """Presses keys on a chart's plot; what a screen reader is told then."""
    plot = "arguments[0].querySelector('.plot')"
    chrome.execute_script(f"{plot}.focus()", node)
    for key in keys:
        chrome.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": key, "code": key})
    return str(until(chrome, f"{plot}.getAttribute('aria-valuetext')", node))


def move(chrome: Chrome, x: float, y: float, kind: str = "mouseMoved") -> None:
    chrome.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y})


def tap(chrome: Chrome, x: float, y: float) -> None:
    for kind, places in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
        chrome.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})


def tip(chrome: Chrome, node: Any) -> str:
    return str(until(chrome, "arguments[0].querySelector('.tip')?.innerText", node))


def shown(chrome: Chrome) -> list[str]:
    rows = "[...document.querySelectorAll('.overview tbody tr')].filter(e => e.offsetHeight)"
    return list(chrome.execute_script(f"return {rows}.map(e => e.querySelector('a').textContent)"))


def test_hovering_gives_the_numbers(show: Show) -> None:
    test = reported()
    chrome = show(page([test], generated_utc=WHEN))
    node = chart(chrome, "Latency against")
    x, y = place(chrome, node, 3)
    move(chrome, 5, 5)
    move(chrome, x + 2, y - 3)
    text = tip(chrome, node)
    point, base = test.curves[0].points[3], test.base_curves[0].points[3]
    assert "concurrency 8" in text
    numbers = [float(number) for number in re.findall(r"([\d.]+) ms", text)]
    assert numbers == pytest.approx([base.p90_ms, point.p90_ms], rel=0.006)
    assert "p90 +24% (95% interval +20% to +28%) regressed" in text
    move(chrome, 5, 5)
    until(chrome, "!arguments[0].querySelector('.tip')", node)


def test_touching_gives_the_numbers(show: Show) -> None:
    chrome = show(page([reported()], generated_utc=WHEN))
    node = chart(chrome, "Throughput against")
    x, y = place(chrome, node, 1)
    tap(chrome, x, y)
    assert "concurrency 2" in tip(chrome, node)


def test_a_redrawn_chart_shows_the_same_point(show: Show) -> None:
    chrome = show(page([reported()], generated_utc=WHEN))
    node = chart(chrome, "Throughput against")
    x, y = place(chrome, node, 1)
    tap(chrome, x, y)
    assert "concurrency 2" in tip(chrome, node)
    chrome.execute_script("dispatchEvent(new Event('beforeprint')); dispatchEvent(new Event('afterprint'))")
    assert node.find_elements("css selector", ".tip") == []
    tap(chrome, x, y)
    assert "concurrency 2" in tip(chrome, node)


def test_the_keyboard_reaches_every_point(show: Show) -> None:
    test = reported()
    chrome = show(page([test], generated_utc=WHEN))
    node = chart(chrome, "Latency against")
    assert press(chrome, node, "Home").startswith("concurrency 1: p90 ")
    assert press(chrome, node, "ArrowRight", "ArrowRight").startswith("concurrency 4: p90 ")
    assert press(chrome, node, "ArrowLeft").startswith("concurrency 2: p90 ")
    assert ", baseline " in press(chrome, node, "Home")
    plot = node.find_element("css selector", ".plot")
    assert (plot.get_attribute("role"), plot.get_attribute("aria-valuenow")) == ("slider", "0")
    # The candidate's points, then the baseline's.
    assert plot.get_attribute("aria-valuemax") == "11"
    press(chrome, node, "Escape")
    assert node.find_elements("css selector", ".tip") == []


def test_the_budget_line_lies_at_the_budget(show: Show) -> None:
    """Its label stands above it, between the points below and above the budget."""
    test = reported()
    chrome = show(page([test], generated_utc=WHEN))
    node = chart(chrome, "Latency against")
    label = node.find_element("css selector", ".ruled.budget")
    assert label.text == "budget 12 ms"
    heights = {point.concurrency: place(chrome, node, index)[1] for index, point in enumerate(test.curves[0])}
    first, last = test.curves[0].points[0], test.curves[0].points[-1]
    per_ms = (heights[32] - heights[1]) / (last.p90_ms - first.p90_ms)
    line = heights[1] + per_ms * (12.0 - first.p90_ms)
    box = label.rect
    scrolled = chrome.execute_script("return scrollY")
    assert box["y"] - scrolled + box["height"] == pytest.approx(line, abs=4)
    assert "Highest load within p90 ≤ 12 ms: concurrency 4, " in node.text


def test_another_quantile(show: Show) -> None:
    test = reported()
    chrome = show(page([test], generated_utc=WHEN))
    node = chart(chrome, "Latency against")
    chrome.execute_script(
        "const s = arguments[0].querySelector('select'); s.value = '1'; s.dispatchEvent(new Event('change'))", node
    )
    until(chrome, "'drawn' in arguments[0].dataset", node)
    text = press(chrome, node, "End", "Home")
    assert float(re.findall(r"p50 ([\d.]+) ms", text)[0]) == pytest.approx(test.curves[0].points[0].p50_ms, rel=0.006)
    assert node.find_elements("css selector", ".ruled.budget") == []


def test_every_chart_has_a_table(show: Show) -> None:
    test = reported()
    chrome = show(page([test], generated_utc=WHEN))
    for kind, rows in (("Throughput", 6), ("Latency against", 6), ("Where", 6), ("History", 13), ("Latency dist", 40)):
        node = chart(chrome, kind)
        node.find_element("css selector", ".alternative > summary").click()
        until(chrome, "arguments[0].querySelectorAll('.values tbody tr').length === arguments[1]", node, rows)
    cells = chart(chrome, "Throughput").find_elements("css selector", ".values tbody tr:last-child td")
    assert cells[1].text == f"{test.curves[0].points[-1].throughput:.0f} inf/s"


def test_filters(show: Show) -> None:
    members = [
        reported("t.py::test_bert[fp16]", Verdict.REGRESSED),
        reported("t.py::test_bert[fp32]", Verdict.IMPROVED),
        reported("t.py::test_yolo", Verdict.UNCHANGED),
    ]
    chrome = show(page(members, generated_utc=WHEN))
    assert len(shown(chrome)) == 3
    search = chrome.find_element("id", "search")
    search.send_keys("BERT 16")
    assert shown(chrome) == ["t.py::test_bert[fp16]"]
    assert chrome.find_element("id", "shown").text == "1 of 3 tests"
    assert [node.is_displayed() for node in chrome.find_elements("css selector", "details.test")] == [
        True,
        False,
        False,
    ]
    search.clear()
    search.send_keys("b")
    search.send_keys("\ue003")
    button = chrome.find_element("css selector", '.filter[data-verdict="improved"]')
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert shown(chrome) == ["t.py::test_bert[fp32]"]
    chrome.find_element("css selector", '.filter[data-verdict="unchanged"]').click()
    assert shown(chrome) == ["t.py::test_bert[fp32]", "t.py::test_yolo"]


def test_a_link_opens_its_test(show: Show) -> None:
    members = [reported(f"t.py::test_{index}", Verdict.UNCHANGED) for index in range(12)]
    chrome = show(page(members, generated_utc=WHEN))
    assert chrome.find_elements("css selector", "details.test[open]") == []
    assert chrome.find_elements("css selector", ".chart canvas") == []
    chrome.find_element("css selector", '.overview a[href="#t7"]').click()
    until(chrome, "document.querySelector('#t7').open && document.querySelector('#t7 canvas')")


def test_light_and_dark(show: Show) -> None:
    text = page([reported()], generated_utc=WHEN)
    chrome = show(text)
    scheme = {"name": "prefers-color-scheme", "value": "dark"}
    background = "getComputedStyle(document.body).backgroundColor"
    assert chrome.execute_script(f"return {background}") == "rgb(255, 255, 255)"
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    until(chrome, f"{background} === 'rgb(20, 23, 26)'")
    chrome.find_element("id", "theme").click()
    until(chrome, f"{background} === 'rgb(255, 255, 255)'")
    assert chrome.find_element("id", "theme").text == "Theme: light"
    chrome.execute_script("localStorage.clear()")
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(show: Show, chrome: Chrome, width: int) -> None:
    resize(chrome, width)
    name = "tests/a/very/long/" + "path_and_name_" * 12 + "[" + "precision=fp16-" * 8 + "]"
    show(page([reported(name), reported(verdict=Verdict.INCONCLUSIVE)], generated_utc=WHEN))
    chart(chrome, "Latency against")
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width


def test_nothing_in_a_name_runs(show: Show) -> None:
    test = reported(HOSTILE, error=HOSTILE)
    record = replace(test.record, environment={"branch": "](javascript:1)"}, commit=HOSTILE)
    curves = tuple(replace(curve, name=HOSTILE) for curve in test.curves)
    text = page([replace(test, record=record, curves=curves), reported()], title=HOSTILE, generated_utc=WHEN)
    chrome = show(text)
    for kind in ("Latency against", "History"):
        node = chart(chrome, kind)
        press(chrome, node, "Home", "ArrowRight")
        node.find_element("css selector", ".alternative > summary").click()
    assert chrome.execute_script("return document.querySelectorAll('img').length") == 0
    assert HOSTILE in chrome.find_element("css selector", "tbody th").text.replace("\u200b", "")


def test_the_policy_stops_what_should_ever_get_through(chrome: Chrome, tmp_path: Path) -> None:
    text = page([reported()], generated_utc=WHEN)
    path = tmp_path / "report.html"
    path.write_text(text.replace("<main>", "<main><script>document.title = 'owned'</script><b onclick='1'>x</b>"))
    chrome.get(path.as_uri())
    assert chrome.title != "owned"
    assert "Content Security Policy" in " ".join(complaints(chrome))


def test_it_prints(show: Show) -> None:
    chrome = show(page([reported()], generated_utc=WHEN))
    printed = chrome.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    chrome.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert chrome.execute_script("return document.querySelectorAll('.chart canvas').length") == 8


def test_ten_thousand_points_are_drawn_soon(show: Show) -> None:
    """3 s is what is promised."""
    random = Random(1)
    text = history_page([history(*[random.gauss(4e6, 1e5) for _ in range(10_000)])])
    drawn_s, answered_s = [], []
    # Other work on the machine only ever adds.
    for _ in range(3):
        begun = time.monotonic()
        chrome = show(text)
        node = chart(chrome, "p50 of serving")
        drawn_s.append(time.monotonic() - begun)
        begun = time.monotonic()
        assert press(chrome, node, "Home", "End").count("record") == 1
        answered_s.append(time.monotonic() - begun)
    assert min(drawn_s) < 3
    assert min(answered_s) < 1
