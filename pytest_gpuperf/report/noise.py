"""Diagnosis of an invocation in which most tests are undecided: said once, instead of in the lines of each test."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_gpuperf.model import MARKS, Comparison, Record, ReportedTest, Run, Verdict, Window
from pytest_gpuperf.model import finding as kinds
from pytest_gpuperf.report.comparison_table import deciding_row
from pytest_gpuperf.report.figures import change, cut, plural, short_interval
from pytest_gpuperf.report.notes import joins_baseline

#: Undecided tests from which they are diagnosed together; fewer are shown with their figures.
_MIN_UNDECIDED = 4
#: Share of the CPU, or of the windows, from which a disturbance counts as a cause.
_MIN_SHARE = 0.1
#: Detectable regressions that differ by less than this factor are given as a single figure.
_ALIKE = 1.1
#: Standard deviation of the log between runs from which it counts as a cause.
_MIN_RUN_SD = 0.02
#: Records of a baseline up to which it counts as short.
_FEW_RECORDS = 3
_MAX_TESTS = 20
_COMPARED = (Verdict.REGRESSED, Verdict.INHERITED, Verdict.INCONCLUSIVE, Verdict.IMPROVED, Verdict.UNCHANGED)
_GUARDS = {
    kinds.LATE: "requests were sent late",
    kinds.STARVED: "the load generator or the target waited for a CPU",
    kinds.THROTTLED: "the GPU was throttled",
    kinds.CLOCKS: "the GPU's clock changed",
    kinds.CO_TENANT: "other processes computed on the GPU",
    kinds.WARMING: "the GPU was still warming up",
    kinds.DEVICE: "the GPU gave no readings",
}
_OTHER_WORK = frozenset({kinds.LATE, kinds.STARVED, kinds.CO_TENANT})
_CLOCKS = frozenset({kinds.THROTTLED, kinds.CLOCKS, kinds.WARMING})


@dataclass(frozen=True)
class NoiseSigns:
    """What a compared test shows of the noise of its invocation.

    Attributes:
        undecided: Whether the test is inconclusive.
        summary: The largest change of an undecided test; empty for a test that is shown by itself in any case.
        detectable: Smallest worsening that the test could have detected, as a share.
        windows: Number of windows.
        disturbed: Number of windows with each guard.
        others_cpu_share: Mean share of the CPU that other processes took; None if the CPU is not under test.
        run_sd: Standard deviation of the log of the latency between runs; None with a single run, and in a duet, which
            does not depend on it.
        baseline: Number of records of the baseline.
        joins: Whether the record enters the baseline.
    """

    undecided: bool
    summary: str = ""
    detectable: float = math.inf
    windows: int = 0
    disturbed: Mapping[str, int] = field(default_factory=dict)
    others_cpu_share: float | None = None
    run_sd: float | None = None
    baseline: int = 0
    duet: bool = False
    joins: bool = True


@dataclass(frozen=True)
class NoiseDiagnosis:
    """Why most tests of an invocation are undecided.

    Attributes:
        title: What happened, in one line.
        causes: What disturbed the measurement or is lacking.
        detectable: What could have been detected.
        remedies: What could help.
    """

    title: str
    causes: tuple[str, ...]
    detectable: str
    remedies: tuple[str, ...]

    @property
    def sentences(self) -> list[str]:
        """The diagnosis below its title."""
        return ["; ".join(self.causes), self.detectable, f"what could help: {', '.join(self.remedies)}"]


def noise_signs(record: Record, comparison: Comparison) -> NoiseSigns | None:
    """Return what a test shows of the noise of its invocation; None if it was not compared."""
    if record.status != "complete" or comparison.verdict not in _COMPARED or not comparison.rows:
        return None
    if any(mode.verdict is Verdict.REGRESSED for mode in comparison.common):
        return None  # that all tests became slower explains more than noise does
    rows = comparison.of(Verdict.INCONCLUSIVE)
    undecided = comparison.verdict is Verdict.INCONCLUSIVE
    windows = [window for run in (*record.runs, *record.reference) for window in run.windows]
    shares = [window.others_cpu_share for window in windows if window.others_cpu_share is not None]
    duet = comparison.mode == "duet"
    return NoiseSigns(
        undecided,
        summary=_summary(comparison) if undecided and not comparison.suspect else "",
        detectable=min((row.min_detectable for row in rows), default=math.inf),
        windows=len(windows),
        disturbed=_disturbed(windows),
        others_cpu_share=statistics.fmean(shares) if shares else None,
        run_sd=None if duet else _run_sd(record.runs),
        baseline=len(comparison.baseline),
        duet=duet,
        joins=joins_baseline(record, comparison),
    )


def _summary(comparison: Comparison) -> str:
    row = deciding_row(comparison.rows)
    return f"{row.metric} {short_interval(row)}" if row else ""


def _disturbed(windows: Sequence[Window]) -> dict[str, int]:
    return dict(Counter(guard for window in windows for guard in window.guards if guard not in MARKS))


def _run_sd(runs: Sequence[Run]) -> float | None:
    """Return by how much runs differ at a typical load point."""
    logs: dict[tuple[str, str], dict[int, list[float]]] = {}
    for run in runs:
        for window in run.windows:
            if window.latency_mean_ns > 0:
                by_run = logs.setdefault((run.sweep, window.point.label), {})
                by_run.setdefault(run.index, []).append(math.log(window.latency_mean_ns))
    means = [[statistics.fmean(values) for values in by_run.values()] for by_run in logs.values()]
    spreads = [statistics.stdev(values) for values in means if len(values) > 1]
    return statistics.median(spreads) if spreads else None


def diagnose(tests: Sequence[NoiseSigns | None]) -> NoiseDiagnosis | None:
    """Return why most of the compared tests are undecided; None if most are decided, or few were compared."""
    compared = [signs for signs in tests if signs is not None]
    undecided = [signs for signs in compared if signs.undecided]
    if len(undecided) < _MIN_UNDECIDED or 2 * len(undecided) <= len(compared):
        return None
    guards = _frequent_guards(undecided)
    shares = [signs.others_cpu_share for signs in undecided if signs.others_cpu_share is not None]
    others = statistics.fmean(shares) if shares else 0.0
    spreads = [signs.run_sd for signs in undecided if signs.run_sd is not None]
    run_sd = statistics.median(spreads) if spreads else 0.0
    causes = [f"other processes took {others:.0%} of the CPU"] if others >= _MIN_SHARE else []
    causes += [f"{_GUARDS.get(guard, guard)} in {share:.0%} of the windows" for guard, share in guards.items()]
    causes += [f"runs of the same test differ by {100 * run_sd:.2g}%"] if run_sd >= _MIN_RUN_SD else []
    noisy = bool(causes)
    duet = all(signs.duet for signs in undecided)
    records = statistics.median(signs.baseline for signs in undecided)
    short = not duet and records <= _FEW_RECORDS
    if short:
        causes.append(f"the baselines have only {plural(round(records), 'record')}")
    remedies = ["more blocks"] if duet else ["gpuperf duet --base main"]
    if others >= _MIN_SHARE or _OTHER_WORK & set(guards):
        remedies.append("a machine without other work")
    elif noisy:
        remedies.append("a quieter machine")
    remedies += ["locked clocks (--gpuperf-lock-clocks)"] if _CLOCKS & set(guards) else []
    remedies += ["main's next records"] if short and any(signs.joins for signs in undecided) else []
    count = f"{len(undecided)} of {plural(len(compared), 'compared test')}"
    return NoiseDiagnosis(
        title=f"too noisy to decide: {count}" if noisy else f"undecided: {count}",
        causes=tuple(causes) or ("nothing disturbed this measurement, but its baselines vary",),
        detectable=_detectable([signs.detectable for signs in undecided]),
        remedies=tuple(remedies),
    )


def _frequent_guards(tests: Sequence[NoiseSigns]) -> dict[str, float]:
    """Return the share of the windows with each guard that is frequent, the largest first."""
    windows = max(sum(signs.windows for signs in tests), 1)
    counts = Counter[str]()
    for signs in tests:
        counts.update(signs.disturbed)
    return {guard: count / windows for guard, count in counts.most_common() if count >= _MIN_SHARE * windows}


def _detectable(smallest: Sequence[float]) -> str:
    shares = min(smallest), statistics.median(smallest)
    least, typical = (change(1 + share).removeprefix("+") for share in shares)
    text = f"no regression below {least} can be detected here"
    return text if shares[1] < _ALIKE * shares[0] else f"{text}, and in half of the tests none below {typical}"


def diagnose_tests(tests: Sequence[ReportedTest]) -> NoiseDiagnosis | None:
    """Return why most tests of a report are undecided, as ``diagnose`` does."""
    return diagnose([noise_signs(test.record, test.comparison) for test in tests])


def undecided_lines(summaries: Mapping[str, str]) -> list[str]:
    """Return a line for each undecided test, up to a number of tests."""
    return cut([f"{test}: {summary}" for test, summary in summaries.items()], _MAX_TESTS)


def is_summarized(test: ReportedTest) -> bool:
    """Return whether a diagnosis shows an undecided test in one line, instead of its figures."""
    signs = noise_signs(test.record, test.comparison)
    return signs is not None and bool(signs.summary) and not test.error


def summary_of(test: ReportedTest) -> str:
    """Return the largest change of an undecided test."""
    return _summary(test.comparison)
