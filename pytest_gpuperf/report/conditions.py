"""The conditions of a report's figures: the device, the baseline, the clocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from pytest_gpuperf.model import Plain, Record, ReportedTest, Window
from pytest_gpuperf.report import escape
from pytest_gpuperf.report.figures import listed, plural

#: Fields of the key and the environment that readers look for first, with their wording.
_KEY_FACTS = {
    "mig_profile": "MIG {}",
    "power_limit_w": "power limit {} W",
    "clock_policy": "clocks {}",
    "cores": "{} cores",
}
_FACTS = {
    "driver": "driver {}",
    "cuda_driver": "CUDA {}",
    "tensorrt": "TensorRT {}",
    "triton": "Triton {}",
    "onnxruntime": "ONNX Runtime {}",
    "host": "host {}",
}
_MAX_VALUES = 3


def environment_text(group: Sequence[ReportedTest]) -> str:
    """Return a paragraph of Markdown: GPU, driver, clocks and throttling; candidate; baseline."""
    if not group:
        return ""
    records = [test.record for test in group]
    parts = [f"**Measured on** {_values(str(record.key.get('device') or 'an unknown device') for record in records)}"]
    parts += [_fact(wording, [record.key.get(name) for record in records]) for name, wording in _KEY_FACTS.items()]
    parts += [_fact(wording, [record.environment.get(name) for record in records]) for name, wording in _FACTS.items()]
    windows = [window for record in records for run in record.runs for window in run.windows]
    parts += [_clocks(windows), _throttling(windows)]
    candidate = f"**Candidate:** {_commit(records)}, {_moment(max(record.created_utc for record in records))}"
    if any(record.environment.get("uncommitted_changes") for record in records):
        candidate += ", with uncommitted changes"
    lines = [", ".join(part for part in parts if part), candidate, _baselines(group)]
    return "  \n".join(line for line in lines if line)


def baseline_text(test: ReportedTest) -> str:
    """Return what a test was compared with, and where its record is stored."""
    stored = f"Record {escape.code(test.record.id)}" if test.record.id else "No record was stored"
    if test.path:
        stored += f" in {escape.code(escape.shorten(test.path, 200))}"
    return f"{_baselines([test])}{'  ' if test.baseline else ''}\n{stored}.".strip()


def _baselines(group: Sequence[ReportedTest]) -> str:
    duets = [test for test in group if test.comparison.mode == "duet"]
    if duets and len(duets) == len(group):
        sides = [facts for test in duets for facts in test.record.reference_under_test.values()]
        commits = list(dict.fromkeys(str(facts["commit"])[:8] for facts in sides if facts.get("commit")))
        commit = f"commit {listed(list(map(escape.code, commits)), _MAX_VALUES)}, " if commits else ""
        return f"**Reference:** {commit}measured in alternation with the candidate"
    compared = [test for test in group if test.baseline]
    if not compared:
        return ""
    counts = sorted({len(test.comparison.baseline) for test in compared})
    many = plural(counts[0], "record") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} records"
    newest = max(compared, key=lambda test: test.baseline[0].created_utc)
    first = newest.baseline[0]
    return (
        f"**Baseline:** {many}, newest: {_commit([test.baseline[0] for test in compared])}, "
        f"{_moment(first.created_utc)} ({age(first.created_utc, newest.record.created_utc)})"
    )


def _commit(records: Sequence[Record]) -> str:
    commits = list(dict.fromkeys(record.commit[:8] for record in records if record.commit))
    return f"commit {listed(list(map(escape.code, commits)), _MAX_VALUES)}" if commits else "no commit"


def _fact(wording: str, values: Sequence[Plain]) -> str:
    known = [str(value) for value in values if value is not None]
    return wording.format(_values(known)) if known else ""


def _values(values: Iterable[str]) -> str:
    return listed([escape.text(escape.shorten(value)) for value in dict.fromkeys(values)], _MAX_VALUES)


def _clocks(windows: Sequence[Window]) -> str:
    gpus = [gpu for window in windows for gpu in window.gpus]
    low = [gpu.sm_clock_min_mhz for gpu in gpus if gpu.sm_clock_min_mhz is not None]
    high = [gpu.sm_clock_max_mhz for gpu in gpus if gpu.sm_clock_max_mhz is not None]
    if not low or not high:
        return ""
    lowest, highest = f"{min(low):.0f}", f"{max(high):.0f}"
    return f"SM clock {lowest} MHz" if lowest == highest else f"SM clock {lowest} to {highest} MHz"


def _throttling(windows: Sequence[Window]) -> str:
    if not any(window.gpus for window in windows):
        return ""
    throttled = [window for window in windows if any(gpu.throttled for gpu in window.gpus)]
    reasons = sorted({reason for window in throttled for gpu in window.gpus for reason in gpu.throttled})
    if not throttled:
        return "not throttled"
    return f"**throttled** ({_values(reasons)}) in {len(throttled)} of {plural(len(windows), 'window')}"


def _moment(utc: str) -> str:
    return f"{escape.text(utc[:10])} {escape.code(utc[11:16])} UTC"


def age(earlier_utc: str, later_utc: str) -> str:
    """Return how much older the earlier moment is, as ``2 days older``."""
    try:
        seconds = (datetime.fromisoformat(later_utc) - datetime.fromisoformat(earlier_utc)).total_seconds()
    except (ValueError, TypeError):
        return "of unknown age"
    for length, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            return f"{plural(int(seconds // length), unit)} older"
    return "just before"
