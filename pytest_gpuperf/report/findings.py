"""Findings in words: those of one kind together, with the range of their figures and the number of windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pytest_gpuperf.model import MARKS, Finding, Record, Window
from pytest_gpuperf.model import finding as kinds
from pytest_gpuperf.report.figures import plural

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


@dataclass(frozen=True)
class FindingGroup:
    """Findings of one kind.

    Attributes:
        windows: Number of windows with such a finding.
        measured: Number of all windows.
        points: Labels of the load points of those windows.
        everywhere: Whether these are all load points.
    """

    findings: tuple[Finding, ...]
    windows: int
    measured: int
    points: tuple[str, ...]
    everywhere: bool

    @property
    def text(self) -> str:
        """A line, for example ``disturbed: thermal throttling (hw_thermal) in 6 of 138 windows``."""
        guard = self.findings[0].guard
        disturbed = "disturbed: " if guard and guard not in MARKS else ""
        count = f"{self.windows} of {plural(self.measured, 'window')}"
        return f"{disturbed}{words(self.findings)} in {count}{_places(self.points, everywhere=self.everywhere)}"


def finding_groups(records: Iterable[Record]) -> list[FindingGroup]:
    """Group the findings of records by kind, guard and detail."""
    windows = [window for record in records for run in record.runs for window in run.windows]
    gathered: dict[tuple[str, str, str], list[tuple[Window, list[Finding]]]] = {}
    for window in windows:
        by_group: dict[tuple[str, str, str], list[Finding]] = {}
        for finding in window.findings:
            by_group.setdefault((finding.kind, finding.guard, finding.detail), []).append(finding)
        for group, findings in by_group.items():
            gathered.setdefault(group, []).append((window, findings))
    labels = {window.point.label for window in windows}
    groups = []
    for disturbed in gathered.values():
        points = tuple(dict.fromkeys(window.point.label for window, _ in disturbed))
        members = tuple(finding for _, several in disturbed for finding in several)
        groups.append(FindingGroup(members, len(disturbed), len(windows), points, len(points) == len(labels)))
    return groups


def finding_notes(records: Sequence[Record]) -> list[str]:
    """Word what disturbed the windows of records or could not be read, a line each."""
    notes = [group.text for group in finding_groups(records)]
    windows = [window for record in records for run in record.runs for window in run.windows]
    shares = [100 * (window.others_cpu_share or 0.0) for window in windows if window.cpu_contended]
    if shares:
        count = f"{len(shares)} of {plural(len(windows), 'window')}"
        notes.append(f"disturbed: other processes used {_span(shares, unit='%')} of the CPU in {count}")
    if any(record.sequential for record in records):
        notes.append(
            "the sides of the duet did not fit into memory together and were measured one after the other, so less of "
            "the machine's noise cancels"
        )
    return notes


def words(findings: Sequence[Finding]) -> str:
    """Word findings of one kind."""
    wording = _WORDS.get(findings[0].kind)
    return wording(findings) if wording else findings[0].detail or findings[0].kind.replace("_", " ")


def _places(points: Sequence[str], *, everywhere: bool) -> str:
    if len(points) > _SHOWN_NAMES:
        return "" if everywhere else f" (at {len(points)} load points)"
    return "" if everywhere and len(points) > 1 else f" (at {', '.join(points)})"


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


def _names(findings: Sequence[Finding]) -> list[str]:
    return list(dict.fromkeys(name for finding in findings for name in finding.names))


def _listed(names: Sequence[str]) -> str:
    hidden = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {hidden} more" if hidden > 0 else "")


def _failed(findings: Sequence[Finding]) -> str:
    failed = round(sum(finding.value for finding in findings))
    requests = round(sum(finding.reference for finding in findings))
    return f"{failed} of {plural(requests, 'request')} failed"


def _servers(findings: Sequence[Finding]) -> str:
    lost = _values(findings)
    verb = "was" if lost == "1" else "were"
    return f"{lost} of {_references(findings)} servers {verb} lost ({_listed(_names(findings))})"


def _throttling(findings: Sequence[Finding]) -> str:
    reasons = _names(findings)
    causes = dict.fromkeys(_REASONS.get(reason, "throttling") for reason in reasons)
    return f"{', '.join(causes)} ({', '.join(reasons)})"


def _clock_range(findings: Sequence[Finding]) -> str:
    lowest = min(finding.reference for finding in findings)
    return f"the GPU clock moved between {lowest:.0f} and {max(finding.value for finding in findings):.0f} MHz"


_WORDS: dict[str, Callable[[Sequence[Finding]], str]] = {
    kinds.CLIENT_BUSY: lambda f: f"the load generator used {_percent(f)} of its cores",
    kinds.CLIENT_STALLED: lambda f: f"the load generator could not serve its sockets for {_percent(f)} of the time",
    kinds.CLOCK_SKEW: lambda f: f"the clocks of the load generator's machines differed by {_values(f, scale=1e3)} ms",
    kinds.LATE_SENDS: lambda f: f"{_percent(f, '.1f')} of the requests were sent more than 1 ms late",
    kinds.RATE_NOT_SUSTAINED: lambda f: (
        f"the rate was not sustained: {_values(f, '.4g')}/s answered of {_references(f, '.4g')}/s"
    ),
    kinds.REQUESTS_FAILED: _failed,
    kinds.SERVERS_LOST: _servers,
    kinds.THROTTLING: _throttling,
    kinds.CLOCK_MOVED: _clock_range,
    kinds.CLOCK_CHANGED: lambda f: f"the GPU ran at {_values(f)} MHz, after {_references(f)} MHz in earlier windows",
    kinds.CO_TENANTS: lambda f: f"other processes computed on the GPU ({_listed(_names(f))})",
    kinds.WARMING_UP: lambda f: f"the GPU was still warming up, from {_references(f)} to {_values(f)} C",
    kinds.COUNTER_RESET: lambda _: "the energy counter was reset: the driver was reloaded",
    kinds.ENERGY_UNKNOWN: lambda f: f"too few readings of {_listed(_names(f))} for the energy",
    kinds.NO_READINGS: lambda f: f"GPU {_listed(_names(f))} gave no readings",
    kinds.WINDOWS_UNKNOWN: lambda _: (
        "the file has no window_boundaries, so everything from the first request to the last answer is one window"
    ),
}
