"""The plugin's part in pytest's report of a test's last phase, the teardown.

Workers of pytest-xdist hand their results to the controller in these reports, as text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.errors import CallFailed, GpuperfError
from pytest_gpuperf.model.codec import from_builtins, to_builtins
from pytest_gpuperf.publish.judged_test import JudgedTest
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.report.noise import NoiseSigns
from pytest_gpuperf.report.terminal.section import TerminalEntry
from pytest_gpuperf.session.context import Context
from pytest_gpuperf.session.gate import Conclusion
from pytest_gpuperf.session.reports import has_charts, reports_wanted

#: Attribute of pytest's report that holds the result.
_ATTRIBUTE = "gpuperf"
_PACKAGE = Path(__file__).parent.parent
#: Number of -v from which pytest shows everything.
_ALL_DETAILS = 2


@dataclass(frozen=True)
class PhaseResult:
    """Part of the invocation's results that comes from one test.

    Attributes:
        entry: The test's part of the terminal section.
        outcome: What reports show of the test; None where nothing was compared.
        smoked_points: Number of load points that were only tried.
        judged: What judges the test again at the end of the invocation; None for a test that is not judged again.
    """

    entry: TerminalEntry | None = None
    outcome: TestOutcome | None = None
    smoked_points: int = 0
    judged: JudgedTest | None = None


def concluded(context: Context, item: pytest.Item, conclusion: Conclusion) -> PhaseResult:
    """Return the result of a test that the gate decided about, with the baseline that the reports show."""
    outcome = conclusion.outcome
    if outcome is None:
        return PhaseResult(conclusion.entry)
    wanted = reports_wanted(context.settings)
    baseline = outcome.shown_baseline(charts=has_charts(context.settings)) if wanted else ()
    file, line = location(item)
    outcome = replace(outcome, baseline=baseline, file=file, line=line)
    return PhaseResult(conclusion.entry, outcome, judged=conclusion.judged)


def location(item: pytest.Item) -> tuple[str, int]:
    """Return the file of a test, relative to pytest's root directory, and its line, from 1."""
    file, line, _ = item.location
    return file, (line or 0) + 1


class ResultHandover:
    """Hands each result from the hook that makes a report to the hook that logs it.

    Within a process results stay objects. If another process logs the report, the report carries its result as text:
    pytest-xdist serialises the attributes of a report, and pytest-forked marshals them.
    """

    def __init__(self, *, is_worker: bool) -> None:
        self._logging_process = None if is_worker else os.getpid()
        self._results: dict[tuple[str, str | None], PhaseResult] = {}

    def give(self, report: pytest.TestReport, result: PhaseResult) -> None:
        if result == PhaseResult():
            return
        if os.getpid() == self._logging_process:
            self._results[report.nodeid, report.when] = result
        else:
            setattr(report, _ATTRIBUTE, _as_text(result))

    def take(self, report: pytest.TestReport) -> PhaseResult:
        """Return the result of a report, once; an empty one if there is none."""
        return self._results.pop((report.nodeid, report.when), None) or attached(report)


def _as_text(result: PhaseResult) -> str:
    fields = to_builtins(replace(result, judged=None))
    return json.dumps({**fields, "judged": result.judged.encoded() if result.judged is not None else None})


def attached(report: object) -> PhaseResult:
    """Return the result that a report carries as text; an empty one if there is none."""
    text = getattr(report, _ATTRIBUTE, None)
    if text is None:
        return PhaseResult()
    fields = json.loads(text)
    return PhaseResult(
        entry=_entry(fields["entry"]) if fields["entry"] is not None else None,
        outcome=from_builtins(TestOutcome, fields["outcome"], "outcome") if fields["outcome"] is not None else None,
        smoked_points=fields["smoked_points"],
        judged=JudgedTest.decoded(fields["judged"]) if fields["judged"] is not None else None,
    )


def _entry(fields: Mapping[str, Any]) -> TerminalEntry:
    noise = fields["noise"]
    return TerminalEntry(**{**fields, "noise": from_builtins(NoiseSigns, noise, "noise") if noise else None})


def shorten_error(report: pytest.TestReport, item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Show an error of this package, which says what to do, with the line of the test instead of our stack."""
    if not isinstance(excinfo.value, GpuperfError) or item.config.getoption("fulltrace"):
        return
    entries = [entry for entry in excinfo.traceback if entry.path == item.path]
    where = f"\n\n{_line_of(entries[-1])}" if entries else ""
    report.longrepr = f"{excinfo.value}{where}"
    if isinstance(excinfo.value, CallFailed) and excinfo.value.__cause__ is not None:
        report.longrepr += _error_of_the_call(excinfo.value.__cause__, item)


def _error_of_the_call(error: BaseException, item: pytest.Item) -> str:
    """Return where a measured call raised its exception, and its traceback if the options ask for tracebacks."""
    call_error = pytest.ExceptionInfo.from_exception(error)
    entries = call_error.traceback.filter(lambda entry: _PACKAGE not in Path(entry.path).parents)
    if not entries:
        return ""
    where = f"\nraised at {_line_of(entries[-1])}"
    style = item.config.getoption("tbstyle")
    if style == "auto" and item.config.getoption("verbose") >= _ALL_DETAILS:
        style = "long"
    if style not in ("long", "short", "native"):
        return where
    traceback = call_error.getrepr(style=style, tbfilter=lambda info: entries if info is call_error else info.traceback)
    return f"{where}\n\n{traceback}"


def _line_of(entry: Any) -> str:
    return f"{entry.path}:{entry.lineno + 1}: {str(entry.statement).strip()}"
