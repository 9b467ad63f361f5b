"""Findings in words: those of one kind together, with the range of their figures and the number of windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from pytest_gpuperf.model import MARKS, Finding, Record, Window
from pytest_gpuperf.model import finding as kinds
from pytest_gpuperf.report.figures import listed, plural

#: NVML's reasons for lowered clocks, as people call them.
_REASONS = {
    "sw_power_cap": "power limit reached",
    "hw_slowdown": "hardware slowdown",
    "sync_boost": "clocks tied to other GPUs",
    "sw_thermal": "thermal throttling",
    "hw_thermal": "thermal throttling",
    "power_brake": "power brake",
}
_SHOWN_NAMES = 3


def finding_notes(records: Sequence[Record], *, by_load_point: bool = False) -> list[str]:
    """Word what disturbed the windows of records or could not be read, a line for each kind of finding.

    Args:
        by_load_point: Whether to count the affected windows of every load point; else at most three are named.
    """
    windows = [window for record in records for run in record.runs for window in run.windows]
    affected: dict[tuple[str, str, str], list[Window]] = {}
    for window in windows:
        for group in dict.fromkeys(map(_group, window.findings)):
            affected.setdefault(group, []).append(window)
    notes = []
    for group, members in affected.items():
        findings = [finding for window in members for finding in window.findings if _group(finding) == group]
        guard = findings[0].guard
        disturbed = "disturbed: " if guard and guard not in MARKS else ""
        notes.append(f"{disturbed}{words(findings)} {_extent(members, windows, by_load_point=by_load_point)}")
    contended = [window for window in windows if window.cpu_contended]
    if contended:
        share = _span((100 * (window.others_cpu_share or 0.0) for window in contended), unit="%")
        extent = _extent(contended, windows, by_load_point=by_load_point)
        notes.append(f"disturbed: other processes used {share} of the CPU {extent}")
    if any(record.sequential for record in records):
        notes.append(
            "the sides of the duet did not fit into memory together and were measured one after the other, so less of "
            "the machine's noise cancels"
        )
    return notes


def _group(finding: Finding) -> tuple[str, str, str]:
    return finding.kind, finding.guard, finding.detail


def _extent(affected: Sequence[Window], windows: Sequence[Window], *, by_load_point: bool) -> str:
    """Word how many of the windows are affected, and at which load points."""
    several = len({window.sweep for window in windows}) > 1
    points, affected_points = (
        Counter(f"{window.point.label} of {window.sweep}" if several else window.point.label for window in selected)
        for selected in (windows, affected)
    )
    count = f"in {len(affected)} of {plural(len(windows), 'window')}"
    if by_load_point and len(points) > 1:
        return f"{count}: " + ", ".join(f"{point} ({n} of {points[point]})" for point, n in affected_points.items())
    if len(affected_points) == len(points) > 1:
        return count
    if len(affected_points) > _SHOWN_NAMES:
        return f"{count} (at {len(affected_points)} load points)"
    return f"{count} (at {', '.join(affected_points)})"


def words(findings: Sequence[Finding]) -> str:
    """Word findings of one kind."""
    wording = _WORDS.get(findings[0].kind)
    return wording(findings) if wording else findings[0].detail or findings[0].kind.replace("_", " ")


def _span(numbers: Iterable[float], spec: str = ".0f", unit: str = "") -> str:
    """Format one number, or the range of several."""
    numbers = list(numbers)
    lowest, highest = (format(pick(numbers), spec) for pick in (min, max))
    return f"{lowest}{unit}" if lowest == highest else f"{lowest} to {highest}{unit}"


def _percent(findings: Sequence[Finding], spec: str = ".0f") -> str:
    return _span((100 * finding.value for finding in findings), spec, "%")


def _values(findings: Sequence[Finding], spec: str = ".0f", scale: float = 1.0) -> str:
    return _span((scale * finding.value for finding in findings), spec)


def _references(findings: Sequence[Finding], spec: str = ".0f") -> str:
    return _span((finding.reference for finding in findings), spec)


def _distinct_names(findings: Sequence[Finding]) -> list[str]:
    return list(dict.fromkeys(name for finding in findings for name in finding.names))


def _names(findings: Sequence[Finding]) -> str:
    return listed(_distinct_names(findings), _SHOWN_NAMES)


def _failed(findings: Sequence[Finding]) -> str:
    failed = round(sum(finding.value for finding in findings))
    requests = round(sum(finding.reference for finding in findings))
    return f"{failed} of {plural(requests, 'request')} failed"


def _servers(findings: Sequence[Finding]) -> str:
    lost = _values(findings)
    verb = "was" if lost == "1" else "were"
    return f"{lost} of {_references(findings)} servers {verb} lost ({_names(findings)})"


def _throttling(findings: Sequence[Finding]) -> str:
    reasons = _distinct_names(findings)
    causes = dict.fromkeys(_REASONS.get(reason, "throttling") for reason in reasons)
    return f"{', '.join(causes)} ({', '.join(reasons)})"


def _clock_range(findings: Sequence[Finding]) -> str:
    lowest = min(finding.reference for finding in findings)
    return f"the GPU clock moved between {lowest:.0f} and {max(finding.value for finding in findings):.0f} MHz"


_WORDS: dict[str, Callable[[Sequence[Finding]], str]] = {
    kinds.CLIENT_BUSY: lambda f: f"the load generator used {_percent(f)} of its cores",
    kinds.CLIENT_STALLED: lambda f: f"the load generator could not serve its sockets for {_percent(f)} of the time",
    kinds.CLIENT_WAITED: lambda f: f"the load generator waited for a CPU for {_percent(f)} of the time",
    kinds.CLIENT_HALTED: lambda f: f"the load generator was kept from running for {_percent(f)} of the time",
    kinds.CLIENT_STOPPED: lambda f: f"the load generator was stopped (SIGSTOP) {_values(f)} times",
    kinds.TARGET_WAITED: lambda f: f"the target waited for a CPU for {_percent(f)} of its CPU time",
    kinds.CPU_STOLEN: lambda f: f"the hypervisor gave {_percent(f)} of the CPU to other machines",
    kinds.CLOCK_SKEW: lambda f: f"the clocks of the load generator's machines differed by {_values(f, scale=1e3)} ms",
    kinds.LATE_SENDS: lambda f: f"{_percent(f, '.1f')} of the requests were sent more than 1 ms late",
    kinds.PYTHON_INSTRUMENTED: lambda f: f"Python was measured under {_names(f)}, which changes its speed",
    kinds.RATE_NOT_SUSTAINED: lambda f: (
        f"the rate was not sustained: {_values(f, '.4g')}/s answered of {_references(f, '.4g')}/s"
    ),
    kinds.REQUESTS_FAILED: _failed,
    kinds.CACHE_HITS: lambda f: (
        f"the server's response cache answered {_percent(f)} of the requests, so the cache was measured instead of the "
        "model; turn response_cache off, or send different inputs"
    ),
    kinds.SERVERS_LOST: _servers,
    kinds.THROTTLING: _throttling,
    kinds.CLOCK_MOVED: _clock_range,
    kinds.CLOCK_CHANGED: lambda f: f"the GPU ran at {_values(f)} MHz, after {_references(f)} MHz in earlier windows",
    kinds.CO_TENANTS: lambda f: f"other processes computed on the GPU ({_names(f)})",
    kinds.WARMING_UP: lambda f: f"the GPU was still warming up, from {_references(f)} to {_values(f)} C",
    kinds.COUNTER_RESET: lambda _: "the energy counter was reset: the driver was reloaded",
    kinds.ENERGY_UNKNOWN: lambda f: f"too few readings of {_names(f)} for the energy",
    kinds.NO_READINGS: lambda f: f"GPU {_names(f)} gave no readings",
    kinds.WINDOWS_UNKNOWN: lambda _: (
        "the file has no window_boundaries, so everything from the first request to the last answer is one window"
    ),
}
