from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_gpuperf.clock import time
from pytest_gpuperf.model import Comparison, Verdict
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.report.annotations import MAX_SUMMARY_BYTES
from pytest_gpuperf.session import reports
from pytest_gpuperf.session.context import Context
from pytest_gpuperf.session.reports import InterimReports, has_charts, publish, reports_wanted
from pytest_gpuperf.session.settings import read_settings
from tests.unit.factories import record, row
from tests.unit.session.contexts import context_of

OUTCOME = TestOutcome(
    record(), Comparison(Verdict.REGRESSED, (row(Verdict.REGRESSED, ratio=2.0),)), file="test_suite.py", line=6
)


@pytest.fixture(autouse=True)
def outside_of_github(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def on_github(monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> Path:
    """GitHub Actions, whose checkout is the parent of pytest's root directory; its step summary."""
    summary = pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path.parent))
    return summary


def test_outcomes_are_wanted_by_reports_and_by_github_alone(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wanted(*arguments: str) -> bool:
        return reports_wanted(read_settings(pytester.parseconfig(*arguments)))

    assert not wanted("--gpuperf")
    assert wanted("--gpuperf", "--gpuperf-report=r.md")
    assert not wanted("--gpuperf-report=r.md")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert wanted("--gpuperf")


def test_only_pages_have_charts(pytester: pytest.Pytester) -> None:
    assert has_charts(context_of(pytester, "--gpuperf-report=r.md", "--gpuperf-report=r.html").settings)
    assert not has_charts(context_of(pytester, "--gpuperf-report=r.md", "--gpuperf-report=r.json").settings)


def test_each_report_is_written_and_named_as_the_user_names_it(pytester: pytest.Pytester) -> None:
    context = context_of(pytester, "--gpuperf-report=out/r.json", "--gpuperf-report=r.md")
    published = publish(context, [OUTCOME])
    assert published.written == ["report: out/r.json", "report: r.md"]
    assert (published.problems, published.commands) == ([], [])
    (test,) = json.loads((pytester.path / "out" / "r.json").read_text())["tests"]
    assert test["verdict"] == "regressed"
    assert "1 test regressed" in (pytester.path / "r.md").read_text()


def test_a_report_that_can_t_be_written_does_not_keep_the_others_from_it(pytester: pytest.Pytester) -> None:
    context = context_of(pytester, "--gpuperf-report=later/r.md", "--gpuperf-report=r.json")
    (pytester.path / "later").touch()
    published = publish(context, [OUTCOME])
    assert published.written == ["report: r.json"]
    (problem,) = published.problems
    assert "later" in problem


def test_github_gets_a_line_at_the_test_and_a_summary(pytester: pytest.Pytester, on_github: Path) -> None:
    published = publish(context_of(pytester), [OUTCOME])
    (command,) = published.commands
    assert command.startswith(f"::error file={pytester.path.name}/test_suite.py,line=6,")
    assert "1 test regressed" in on_github.read_text()


def summary_problems(context: Context) -> list[str]:
    return publish(context, [OUTCOME]).problems


def test_a_summary_that_github_would_not_show_is_not_written(pytester: pytest.Pytester, on_github: Path) -> None:
    on_github.write_text("x" * (MAX_SUMMARY_BYTES - 10))
    (problem,) = summary_problems(context_of(pytester))
    assert problem.startswith("no step summary")
    assert on_github.stat().st_size == MAX_SUMMARY_BYTES - 10
    on_github.unlink()
    on_github.mkdir()
    (problem,) = summary_problems(context_of(pytester))
    assert str(on_github) in problem


def test_interim_reports_take_a_small_share_of_the_time_and_always_name_the_first_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])

    def slow_render(*_: object, **__: object) -> str:
        now_s[0] += 1.0
        return "red"

    monkeypatch.setattr(reports, "render", slow_render)
    interim = InterimReports(context_of(pytester, "--gpuperf-report=r.md"))
    assert interim.write([], OUTCOME) == []
    assert interim.is_due
    begun_s, written = now_s[0], 0
    for _ in range(1000):
        now_s[0] += 0.5
        if interim.is_due:
            interim.write([OUTCOME], OUTCOME)
            written += 1
    assert written >= 5
    assert written <= 0.03 * (now_s[0] - begun_s)
    assert (pytester.path / "r.md").read_text() == "red"
