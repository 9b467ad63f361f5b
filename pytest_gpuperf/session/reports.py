"""The reports at the end of an invocation: files that the user asked for, and what GitHub Actions shows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.model import ReportedTest
from pytest_gpuperf.publish.formats import MARKDOWN, WITH_CHARTS, format_of, render, write
from pytest_gpuperf.publish.github import add_step_summary, on_github
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.publish.reported import reported_of
from pytest_gpuperf.report.annotations import error_lines, inherited_lines
from pytest_gpuperf.session.context import Context
from pytest_gpuperf.session.settings import Settings
from pytest_gpuperf.store.provenance import utc_now

#: Largest share of the invocation's time for interim reports.
_LARGEST_SHARE = 0.02


@dataclass
class Published:
    """Reports written at the end of an invocation.

    Attributes:
        written: Lines that name the reports.
        problems: Lines that say which report could not be written, and why.
        commands: Lines that GitHub Actions reads from the job's output.
    """

    written: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


def reports_wanted(settings: Settings) -> bool:
    """Return whether anything reads the outcomes of tests at the end."""
    return settings.measure and bool(settings.reports or on_github())


def has_charts(settings: Settings) -> bool:
    """Return whether a report has charts, which show more of the baseline than its newest record."""
    return any(format_of(path) in WITH_CHARTS for path in settings.reports)


class InterimReports:
    """Reports that are left if pytest is killed.

    Without them, the report of an earlier invocation would stay, and look like that of this one.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._due_s = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the reports may be written again: that takes a small share of the time, however many tests failed."""
        return time.monotonic() >= self._due_s

    def write(self, outcomes: Sequence[TestOutcome], unfinished: TestOutcome) -> list[str]:
        """Write the reports; return which can't be written, and why.

        Args:
            outcomes: Outcomes of the tests so far.
            unfinished: What did not finish.
        """
        begun_s = time.monotonic()
        files = [path for path in self._context.settings.reports if Path(path).is_file() or not Path(path).exists()]
        reported = [reported_of(self._context.store, outcome) for outcome in (*outcomes, unfinished)]
        problems = _write(self._context, files, reported, utc_now()).problems
        if outcomes:  # the first test of an invocation is always named
            ended_s = time.monotonic()
            self._due_s = ended_s + (ended_s - begun_s) / _LARGEST_SHARE
        return problems


def publish(context: Context, outcomes: Iterable[TestOutcome]) -> Published:
    """Write the reports of all tests."""
    published = Published()
    settings = context.settings
    charts = has_charts(settings)
    try:
        reported = [reported_of(context.store, outcome, prices=settings.prices, charts=charts) for outcome in outcomes]
    except GpuperfError as error:
        published.problems.append(f"no report was written: {error}")
        return published
    now = utc_now()
    published = _write(context, settings.reports, reported, now)
    if on_github():
        prefix = _path_in_checkout(context.root_path)
        published.commands = [*error_lines(reported, prefix), *inherited_lines(reported, prefix)]
        if reported or (context.duet_side is not None and context.duet_side.notes):
            problem = add_step_summary(_text(context, MARKDOWN, reported, now))
            published.problems += [problem] if problem else []
    return published


def _write(context: Context, paths: Sequence[str], reported: Sequence[ReportedTest], now: str) -> Published:
    published = Published()
    for path in paths:
        try:
            write(Path(path), _text(context, format_of(path), reported, now))
            is_below = Path(path).is_relative_to(context.start_path)
            published.written.append(f"report: {Path(path).relative_to(context.start_path) if is_below else path}")
        except GpuperfError as error:
            published.problems.append(str(error))
    return published


def _text(context: Context, name: str, reported: Sequence[ReportedTest], now: str) -> str:
    side = context.duet_side
    title, notes = (side.title, side.notes) if side is not None else ("", [])
    return render(name, reported, title=title, generated_utc=now, notes=notes)


def _path_in_checkout(root_path: Path) -> str:
    """Return pytest's root directory relative to the checkout, with which paths begin on GitHub."""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    checkout = Path(workspace).resolve() if workspace else root_path
    if root_path == checkout or not root_path.is_relative_to(checkout):
        return ""
    return root_path.relative_to(checkout).as_posix()
