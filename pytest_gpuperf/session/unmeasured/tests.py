"""The gated tests of an invocation that have no figures: not collected, crashed, skipped or not run."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from pytest_gpuperf.session.context import Context
from pytest_gpuperf.session.failure_reason import reason_of
from pytest_gpuperf.session.marker import is_gated
from pytest_gpuperf.session.phase_result import PhaseResult, location
from pytest_gpuperf.session.unmeasured.dropped import collects_everything, dropped_tests
from pytest_gpuperf.session.unmeasured.outcome import unmeasured_result

PHASES = ("setup", "call", "teardown")
#: In place of a test in the reports, where pytest ended before any test failed.
PYTEST = "pytest"
#: Attribute of the first report of each pytest-xdist worker, whose controller collects no tests.
_ATTRIBUTE = "gpuperf_collected"
_DROPPED = "measured with the newest baseline, and not collected now: was it renamed or removed?"
_ABORTED = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR)


class UnmeasuredTests:
    """Records which gated tests pytest collects and reports, and names those that it did not report."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._places: dict[str, tuple[str, int]] | None = None
        self._ids: dict[str, str] = {}
        self._announced = False
        self._deselected = False
        self._reported: set[str] = set()
        self._skipped: dict[str, str] = {}
        self._uncollected: dict[str, str] = {}
        self._crashed: dict[str, str] = {}
        self._interruption = ""

    # Events of pytest

    def collected(self, items: Iterable[pytest.Item]) -> None:
        """Note the gated tests."""
        gated = [item for item in items if is_gated(item)]
        self._places = {item.nodeid: location(item) for item in gated}
        ids = self._context.ids
        self._ids = {ids.test_id(item): ids.node_id(item) for item in gated}

    def deselected(self) -> None:
        """Note that not all collected tests are to run."""
        self._deselected = True

    def collection_reported(self, report: pytest.CollectReport) -> None:
        """Note a file that was not collected."""
        if report.failed:
            self._uncollected.setdefault(report.nodeid or PYTEST, reason_of(report))
        elif report.skipped:
            self._skipped.setdefault(report.nodeid, reason_of(report))

    def announce(self, report: pytest.TestReport) -> None:
        """Attach the gated tests to the first report of a pytest-xdist worker."""
        if self._context.is_worker and not self._announced:
            self._announced = True
            setattr(
                report,
                _ATTRIBUTE,
                json.dumps({"places": self._places or {}, "ids": self._ids, "deselected": self._deselected}),
            )

    def reported(self, report: pytest.TestReport) -> None:
        """Note the report of one phase of a test, or of its crash."""
        text = getattr(report, _ATTRIBUTE, None)
        if text is not None:
            collected = json.loads(text)
            self._places = {**(self._places or {}), **{test: (*place,) for test, place in collected["places"].items()}}
            self._ids |= collected["ids"]
            self._deselected |= collected["deselected"]
        self._reported.add(report.nodeid)
        if report.failed and report.when not in PHASES:
            self._crashed[report.nodeid] = reason_of(report)
        elif report.skipped and not hasattr(report, "wasxfail"):
            self._skipped[report.nodeid] = reason_of(report)

    def interrupted(self, error: BaseException, *, internal: bool = False) -> None:
        """Note why pytest ends early."""
        name = f"{type(error).__name__}: " if internal else ""
        self._interruption = f"{name}{error}".strip().partition("\n")[0] or type(error).__name__

    # Results

    @property
    def gated(self) -> dict[str, tuple[str, int]]:
        """The gated tests, with their files and lines."""
        return self._places or {}

    def results(self, session: pytest.Session, *, any_failed: bool) -> list[PhaseResult]:
        """Return the results of the tests that crashed, were not collected, or did not run.

        Args:
            any_failed: Whether the reports show a failed test already.
        """
        reasons = {test: f"not collected: {why}" for test, why in self._uncollected.items()}
        # A controller of pytest-xdist whose workers all crashed at their first test knows of no gated tests.
        reasons |= {test: why for test, why in self._crashed.items() if self._places is None or test in self._places}
        if session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            why = self._interruption or str(session.shouldfail or session.shouldstop or "") or "pytest ended before it"
            reasons |= {test: f"not run: {why}" for test in self.gated if test not in self._reported}
        if session.exitstatus in _ABORTED and not reasons and not any_failed:
            reasons[PYTEST] = self._interruption or f"ended with exit status {int(session.exitstatus)}"
        return [self._result(test, reason) for test, reason in reasons.items()]

    def dropped(self, session: pytest.Session) -> list[PhaseResult]:
        """Return results for the tests that the newest baseline has and that a full collection lacks.

        Raises:
            StoreError: The store can't be listed.
        """
        partial = self._deselected or self._uncollected or session.exitstatus in _ABORTED
        if partial or not self.gated or not collects_everything(session.config):
            return []
        failed = self._context.settings.require_baseline
        tests = dropped_tests(self._context, self._ids, session.config.args)
        return [unmeasured_result(self._context, test, _DROPPED, failed=failed) for test in tests]

    def _result(self, test: str, reason: str) -> PhaseResult:
        file, line = self.gated.get(test, ("", 0))
        return unmeasured_result(self._context, test, reason, file=file, line=line)

    def skipped(self) -> list[PhaseResult]:
        """Return results for the gated tests, and the files, that were skipped."""
        return [
            self._result(test, f"skipped: {why.removeprefix('Skipped: ')}")
            for test, why in self._skipped.items()
            if "::" not in test or test in self.gated
        ]
