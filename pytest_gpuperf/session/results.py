"""The results of an invocation, gathered from pytest's reports, and their section in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest

from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.report.terminal.section import TerminalEntry, section
from pytest_gpuperf.safe_text import safe
from pytest_gpuperf.session.phase_result import PhaseResult, attached
from pytest_gpuperf.session.reports import Published


@dataclass
class Results:
    """The results of an invocation: of all tests, but in a pytest-xdist worker of its own tests only.

    Attributes:
        outcomes: What reports show, by test.
        smoked_points: Number of load points that a smoke run tried.
        problems: What could not be cleaned up, here and in pytest-xdist workers.
    """

    entries: list[TerminalEntry] = field(default_factory=list)
    outcomes: dict[str, TestOutcome] = field(default_factory=dict)
    smoked_points: int = 0
    problems: list[str] = field(default_factory=list)
    published: Published = field(default_factory=Published)

    @classmethod
    def of(cls, reports: Iterable[pytest.TestReport]) -> Results:
        """Return the results that are attached to reports."""
        results = cls()
        for report in reports:
            results.add(report.nodeid, report.when, attached(report))
        return results

    def add(self, test: str, phase: str, result: PhaseResult) -> None:
        """Add the result of one phase of a test."""
        if result.entry is not None:
            self.entries.append(result.entry)
        self.smoked_points += result.smoked_points
        if phase == "setup":
            self.outcomes.pop(test, None)  # of an earlier try
        outcome, earlier = result.outcome, self.outcomes.get(test)
        if outcome is None:
            return
        if phase == "teardown" and earlier is not None:
            outcome = replace(earlier, error=earlier.error or outcome.error)
        self.outcomes[test] = outcome

    def write(self, reporter: pytest.TerminalReporter, verbosity: int) -> None:
        """Write the section of the terminal that shows the results."""
        if self.smoked_points:
            reporter.write_sep("-", "gpuperf")
            reporter.write_line(
                f"smoke run: targets answered at {self.smoked_points} load point{'s' * (self.smoked_points != 1)}; "
                "nothing was measured or stored (pytest --gpuperf does)"
            )
        published = self.published
        if not (self.entries or published.problems or published.commands or self.problems):
            return
        if verbosity >= 0:
            reporter.write_sep("=", "gpuperf")
        for line, markup in section(self.entries, verbosity):
            reporter.write_line(safe(line), **({markup: True} if markup else {}))
        for line in published.written if verbosity >= 0 else []:
            reporter.write_line(safe(line))
        for line in (*published.problems, *self.problems):
            reporter.write_line(f"gpuperf: {safe(line)}", red=True)
        for line in published.commands:
            reporter.write_line(line)
