"""The results of an invocation, gathered from pytest's reports, and their section in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from pytest_gpuperf.model import CommonMode
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.report.common_mode import common_failure, common_note
from pytest_gpuperf.report.summary import NOT_MEASURED
from pytest_gpuperf.report.terminal.section import TerminalEntry, section
from pytest_gpuperf.report.wrapping import wrapped
from pytest_gpuperf.safe_text import safe
from pytest_gpuperf.session.phase_result import PhaseResult, attached
from pytest_gpuperf.session.reports import Published


@dataclass
class Results:
    """The results of an invocation: of all tests, but in a pytest-xdist worker of its own tests only.

    Attributes:
        tests: Result of each test, by its pytest-xdist worker and its node id: a rerun replaces the earlier try.
        problems: What fails the invocation besides its tests, here and in pytest-xdist workers.
        notes: Lines about the store.
        common: What all tests changed by together, by metric.
        refined: Number of tests that fail only at the end of the invocation.
        reports: pytest's report of the last phase of each test that is judged again.
    """

    tests: dict[tuple[str, str], PhaseResult] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    published: Published = field(default_factory=Published)
    common: tuple[CommonMode, ...] = ()
    refined: int = 0
    reports: dict[tuple[str, str], pytest.TestReport] = field(default_factory=dict)

    @classmethod
    def of(cls, reports: Iterable[pytest.TestReport]) -> Results:
        """Return the results that are attached to reports."""
        results = cls()
        for report in reports:
            results.add(report, attached(report))
        return results

    def add(self, report: pytest.TestReport, result: PhaseResult) -> None:
        """Add the result that comes with pytest's report of one phase of a test."""
        key = (worker_of(report), report.nodeid)
        if report.when == "setup":
            self.tests.pop(key, None)  # of an earlier try
        if result != PhaseResult():
            self.tests[key] = result
        if result.judged is not None:
            self.reports[key] = report

    @property
    def entries(self) -> list[TerminalEntry]:
        """The tests' parts of the terminal section."""
        return [result.entry for result in self.tests.values() if result.entry is not None]

    @property
    def outcomes(self) -> list[TestOutcome]:
        """What reports show."""
        return [result.outcome for result in self.tests.values() if result.outcome is not None]

    @property
    def smoked_points(self) -> int:
        """Number of load points that a smoke run tried."""
        return sum(result.smoked_points for result in self.tests.values())

    @property
    def any_measured(self) -> bool:
        """Whether some test has figures."""
        return any(entry.verdict != NOT_MEASURED for entry in self.entries)

    @property
    def has_problems(self) -> bool:
        """Whether something fails the invocation besides its tests."""
        return bool(self.problems or self.published.problems or common_failure(self.common))

    def write(self, reporter: pytest.TerminalReporter, verbosity: int) -> None:
        """Write the section of the terminal that shows the results."""
        if self.smoked_points:
            reporter.write_sep("-", "gpuperf")
            reporter.write_line(
                f"smoke run: targets answered at {self.smoked_points} load point{'s' * (self.smoked_points != 1)}; "
                "nothing was measured or stored (pytest --gpuperf does)"
            )
        published, entries = self.published, self.entries
        if not (entries or published.problems or published.commands or self.problems or self.notes):
            return
        if verbosity >= 0:
            reporter.write_sep("=", "gpuperf")
        # A log keeps each sentence on a line of its own, since other programs search it.
        width = reporter._tw.fullwidth if reporter.isatty else 0
        for line, markup in section(entries, verbosity):
            for part in wrapped([safe(line)], width):
                reporter.write_line(part, **({markup: True} if markup else {}))
        if note := common_note(self.common):
            reporter.write_line(safe(note))
        for line in published.written if verbosity >= 0 else []:
            reporter.write_line(safe(line))
        for line in self.notes:
            reporter.write_line(f"gpuperf: {safe(line)}")
        for line in filter(None, (common_failure(self.common), *published.problems, *self.problems)):
            reporter.write_line(f"gpuperf: {safe(line)}", red=True)
        for line in published.commands:
            reporter.write_line(line)


def worker_of(report: pytest.TestReport) -> str:
    """Return the pytest-xdist worker that a report comes from; empty without workers."""
    return str(getattr(report, "worker_id", ""))
