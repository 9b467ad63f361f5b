"""The conditions of a report's figures: the device, the baseline, the clocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from pytest_gpuperf.model import Plain, Record, ReportedTest
from pytest_gpuperf.report import escape
from pytest_gpuperf.report.figures import plural

#: What of the key and of the environment a reader looks for first, where it is known: name, and how to put it.
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
_MOST_VALUES = 3


def environment_text(group: Sequence[ReportedTest]) -> str:
    """One paragraph of Markdown: GPU, driver, clocks, throttling; candidate; baseline."""
    if not group:
        return ""
    records = [one.record for one in group]
    parts = [f"**Measured on** {_values(str(one.key.get('device') or 'an unknown device') for one in records)}"]
    parts += [_fact(put, [one.key.get(name) for one in records]) for name, put in _KEY_FACTS.items()]
    parts += [_fact(put, [one.environment.get(name) for one in records]) for name, put in _FACTS.items()]
    parts += [_clocks(records), _throttling(records)]
    candidate = f"**Candidate:** {_commit(records)}, {_moment(max(one.created_utc for one in records))}"
    if any(one.environment.get("uncommitted_changes") for one in records):
        candidate += ", with uncommitted changes"
    lines = [", ".join(part for part in parts if part), candidate, _baselines(group)]
    return "  \n".join(line for line in lines if line)


def baseline_text(one: ReportedTest) -> str:
    """Of one test: what it was compared with, and where its record lies."""
    stored = f"Record {escape.code(one.record.id)}" if one.record.id else "No record was stored"
    if one.path:
        stored += f" in {escape.code(escape.shorten(escape.without_credentials(one.path), 200))}"
    return f"{_baselines([one])}{'  ' if one.baseline else ''}\n{stored}.".strip()


def _baselines(group: Sequence[ReportedTest]) -> str:
    duets = [one for one in group if one.comparison.mode == "duet"]
    if duets and len(duets) == len(group):
        return "**Reference:** measured in alternation with the candidate"
    compared = [one for one in group if one.baseline]
    if not compared:
        return ""
    counts = sorted({len(one.comparison.baseline) for one in compared})
    many = plural(counts[0], "record") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} records"
    newest = max(compared, key=lambda one: one.baseline[0].created_utc)
    first = newest.baseline[0]
    return (
        f"**Baseline:** {many}, the newest of {_commit([one.baseline[0] for one in compared])}, "
        f"{_moment(first.created_utc)} ({age(first.created_utc, newest.record.created_utc)})"
    )


def _commit(records: Sequence[Record]) -> str:
    commits = list(dict.fromkeys(one.commit[:8] for one in records if one.commit))
    return f"commit {_values(commits, always_code=True)}" if commits else "no commit"


def _fact(put: str, values: Sequence[Plain]) -> str:
    known = [str(value) for value in values if value is not None]
    return put.format(_values(known)) if known else ""


def _values(values: Iterable[str], *, always_code: bool = False) -> str:
    different = list(dict.fromkeys(values))
    write = escape.code if always_code else escape.text
    text = ", ".join(write(escape.shorten(value)) for value in different[:_MOST_VALUES])
    return text + (f" and {len(different) - _MOST_VALUES} more" if len(different) > _MOST_VALUES else "")


def _clocks(records: Sequence[Record]) -> str:
    gpus = [gpu for one in records for run in one.runs for window in run.windows for gpu in window.gpus]
    low = [gpu.sm_clock_min_mhz for gpu in gpus if gpu.sm_clock_min_mhz is not None]
    high = [gpu.sm_clock_max_mhz for gpu in gpus if gpu.sm_clock_max_mhz is not None]
    if not low or not high:
        return ""
    least, most = min(low), max(high)
    return f"SM clock {least:.0f} MHz" if round(least) == round(most) else f"SM clock {least:.0f} to {most:.0f} MHz"


def _throttling(records: Sequence[Record]) -> str:
    windows = [window for one in records for run in one.runs for window in run.windows]
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
    """How much older one record is than another."""
    try:
        seconds = (datetime.fromisoformat(later_utc) - datetime.fromisoformat(earlier_utc)).total_seconds()
    except (ValueError, TypeError):
        return "of unknown age"
    for length, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            return f"{plural(int(seconds // length), unit)} older"
    return "just before"
