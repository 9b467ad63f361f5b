from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from random import Random

import pytest

from pytest_gpuperf.model import Change, LoadPoint, Verdict
from pytest_gpuperf.report.comparison_table import deciding_row
from pytest_gpuperf.report.page import history_page, page
from pytest_gpuperf.report.page.overview import entries, headline
from tests.unit import factories
from tests.unit.report.histories import STEP, history
from tests.unit.report.page.reports import HOSTILE, WHEN, reported

_UNCLOSED = {"meta", "input", "wbr", "td", "th", "tr", "li", "line", "circle"}


class Page(HTMLParser):
    """Elements, what refers to somewhere else, handlers, and the text that people see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.policy = ""
        self.data = ""
        self.text = ""
        self._type = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action", "data")]
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        if own.get("http-equiv") == "Content-Security-Policy":
            self.policy = own["content"] or ""
        self._type = own.get("type") or ""
        if tag not in _UNCLOSED:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _UNCLOSED:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            if self._type == "application/json":
                self.data += data
            else:
                self.scripts.append(data)
        elif self.open and self.open[-1] == "style":
            self.styles.append(data)
        else:
            self.text += data


def test_the_page_is_self_contained() -> None:
    text = page([reported()], generated_utc=WHEN)
    parsed = Page(text)
    assert parsed.open == []
    assert parsed.handlers == []
    assert set(parsed.links) <= {"#t0"}
    assert not re.search(r"@import|url\(|<link|<img|<iframe", text)


def test_only_the_scripts_of_the_page_may_run() -> None:
    parsed = Page(page([reported()], generated_utc=WHEN))
    allowed = set(re.findall(r"'sha256-[^']+'", parsed.policy))
    assert "unsafe" not in parsed.policy
    assert parsed.policy.startswith("default-src 'none'")
    for block in (*parsed.scripts, *parsed.styles):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'" in allowed
    assert len(parsed.scripts) == 5


def test_names_are_text() -> None:
    test = reported(HOSTILE, changes=(Change(HOSTILE, HOSTILE, HOSTILE, HOSTILE),), error=HOSTILE)
    record = replace(
        test.record,
        commit="](javascript:1)",
        environment={HOSTILE: HOSTILE, "branch": "](javascript:1)"},
        key={**test.record.key, "device": HOSTILE},
        under_test={HOSTILE: {HOSTILE: HOSTILE}},
    )
    curves = tuple(replace(curve, name=HOSTILE) for curve in test.curves)
    plain = Page(page([test], generated_utc=WHEN))
    text = page([replace(test, record=record, curves=curves, path=HOSTILE)], title=HOSTILE, generated_utc=HOSTILE)
    parsed = Page(text)
    assert parsed.seen.count("script") == plain.seen.count("script")
    assert not {"img", "iframe"} & set(parsed.seen)
    assert parsed.handlers == []
    assert set(parsed.links) <= {"#t0"}
    assert text.count("<script") == text.count("</script>") == 6
    assert HOSTILE in parsed.text
    assert "](javascript:1)" in parsed.text


def test_an_inconclusive_test_shows_what_may_be_worse() -> None:
    points = [factories.row(Verdict.INCONCLUSIVE, ratio=ratio) for ratio in (0.6, 1.2, 1.1)]
    chosen = deciding_row(points)
    assert chosen is not None
    assert chosen.ratio == 1.2


def test_the_worst_comes_first() -> None:
    verdicts = [Verdict.UNCHANGED, Verdict.IMPROVED, Verdict.REGRESSED, Verdict.INCONCLUSIVE, Verdict.NO_BASELINE]
    members = entries([reported(f"t.py::{test.name}", test) for test in verdicts])
    assert [test.test for test in members] == [
        "t.py::REGRESSED",
        "t.py::NO_BASELINE",
        "t.py::INCONCLUSIVE",
        "t.py::IMPROVED",
        "t.py::UNCHANGED",
    ]
    assert headline(members) == "1 of 5 tests regressed"


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([], "No tests"),
        ([Verdict.NO_BASELINE] * 2, "Nothing to compare with yet"),
        ([Verdict.UNCHANGED], "No regression"),
        ([Verdict.UNCHANGED, Verdict.NO_BASELINE], "No regression; 1 of 2 tests not compared"),
        ([Verdict.UNCHANGED, Verdict.IMPROVED], "No regression; 1 of 2 tests improved"),
        ([Verdict.UNCHANGED, Verdict.INCONCLUSIVE], "No regression found; 1 of 2 tests inconclusive"),
    ],
)
def test_the_headline(verdicts: list[Verdict], said: str) -> None:
    assert headline(entries([reported(verdict=test) for test in verdicts])) == said
    assert said in Page(page([reported(verdict=test) for test in verdicts], generated_utc=WHEN)).text


def test_a_failure_for_another_reason_is_shown() -> None:
    members = [reported(), reported(verdict=Verdict.UNCHANGED, error="AssertionError: assert 812 > 900")]
    text = Page(page(members, generated_utc=WHEN)).text
    assert "1 of 2 tests regressed, 1 failed for another reason" in text
    assert "failed: AssertionError: assert 812 > 900" in text


def test_why_and_what_to_do() -> None:
    change = Change("serving", "triton", "2.50.0", "2.51.0")
    test = replace(reported(changes=(change,)), store_option=" --store s3://bucket/a")
    text = Page(page([test], generated_utc=WHEN)).text
    assert (
        "Worst: p90 +35% (95% interval +30% to +40%) at concurrency 32 of tests/test_serving.py::test_resnet50" in text
    )
    assert "What else changed" in text
    assert "2.50.0" in text
    assert f'gpuperf baseline accept {test.record.id} --store s3://bucket/a --reason "..."' in text
    assert "pytest --gpuperf tests/test_serving.py::test_resnet50" in text


def test_a_record_that_was_cut_short_is_not_a_first_record() -> None:
    test = reported(verdict=Verdict.NO_BASELINE)
    text = Page(page([replace(test, record=replace(test.record, status="incomplete"))], generated_utc=WHEN)).text
    assert "measurement cut short" in text
    assert "first record of this test" not in text


def test_a_price_has_its_date_and_source() -> None:
    test = reported()
    costs = tuple(replace(cost, price_date="2026-01-31", price_source="our contract") for cost in test.costs)
    text = page([replace(test, costs=costs)], generated_utc=WHEN)
    assert "g6.xlarge at $0.805 an hour (our contract, 2026-01-31)" in text


def test_an_empty_report_makes_a_page() -> None:
    test = replace(reported(verdict=Verdict.NO_BASELINE, history=0), curves=(), costs=(), error="TargetDied: exit 1")
    parsed = Page(page([test], generated_utc=WHEN))
    assert "figure" not in parsed.seen
    assert "nothing was measured" in parsed.text


def test_fifty_tests_of_twenty_points_are_light() -> None:
    points = tuple(LoadPoint(level) for level in range(1, 21))
    verdicts = [Verdict.REGRESSED, *[Verdict.UNCHANGED] * 8, Verdict.IMPROVED]
    members = [
        reported(f"t.py::test_{n}", verdicts[n % 10], points=points, history=10, requests=60, chance=Random(n))
        for n in range(50)
    ]
    text = page(members, generated_utc=WHEN)
    assert len(text.encode()) < 2_000_000
    charts = json.loads(Page(text).data)["charts"]
    assert len(charts) == 50 * 8


def test_a_history_has_its_levels_and_changes() -> None:
    text = history_page([STEP, replace(STEP, metric="throughput"), replace(STEP, test="tests/test_b.py::test_b")])
    parsed = Page(text)
    data = json.loads(parsed.data)
    assert (parsed.links, parsed.open) == ([], [])
    assert (parsed.seen.count("figure"), parsed.seen.count("h2")) == (3, 2)
    assert "3 changes of level found" in parsed.text
    assert "20 records, 1 change of level." in parsed.text
    view = data["charts"][0]["views"][0]
    assert data["pool"][view["rules"][0]["s"]]["text"] == "1: +25%"
    assert view["rules"][0]["x"] == 9.5


@pytest.mark.parametrize("count", [1, 2])
def test_few_records_make_a_page(count: int) -> None:
    data = json.loads(Page(history_page([history(*[4e6] * count)])).data)
    series = data["charts"][0]["views"][0]["series"]
    assert [len(data["pool"][test["x"]]) for test in series] == [3, count]
