"""Import of profile exports, written by perf_analyzer or by ``profile_export``.

perf_analyzer writes the edges of its windows as an ascending list, in which adjacent windows share an edge;
``ProfileExport`` writes both edges of every window. So every interval between neighbouring edges in which a request was
due is a window; between the windows of ``ProfileExport`` no request was due.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import OptionError

#: Load modes that can be imported. In the other modes of perf_analyzer, a level is not a single load point.
MODES = ("concurrency", "request_rate")
#: Mode of files with request intervals, a fixed schedule or conversations, for which perf_analyzer writes the rate 0.
SCHEDULE = "schedule"
#: No load of perf_analyzer is higher, by far.
_LARGEST_LOAD = 1e12
#: No window of perf_analyzer is longer, by far.
_LONGEST_WINDOW_NS = 86_400_000_000_000


@dataclass(frozen=True)
class ProfileLevel:
    """The measurement of one experiment in the file.

    Attributes:
        mode: ``concurrency``, ``request_rate`` or ``schedule``.
        value: The load; the mean rate of a schedule.
        windows_ns: Start and stop of each window; empty if the file has no edges.
        due_ns, sent_ns, first_ns, done_ns: Times of the answered requests, sorted by the time they were due. In closed
            loop, ``due_ns`` and ``sent_ns`` are the same object.
        answers: Number of answers to each request.
        failed_ns: Times at which requests without an answer were due.
    """

    mode: str
    value: float
    windows_ns: tuple[tuple[int, int], ...]
    due_ns: array[int]
    sent_ns: array[int]
    first_ns: array[int]
    done_ns: array[int]
    answers: array[int]
    failed_ns: array[int]

    @property
    def streams(self) -> bool:
        """Whether some request got more than one answer."""
        return any(count > 1 for count in self.answers)


def read_profile(path: Path) -> list[ProfileLevel]:
    """Read the levels of a profile export.

    Raises:
        OptionError: The file cannot be read or has another format; the message names the field.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{path} is not complete JSON ({error}).") from error
    where = _Field(str(path))
    experiments = where.field(document, "experiments", list)
    levels = [_level(data, where.inside(f"experiments[{index}]")) for index, data in enumerate(experiments)]
    if not levels:
        advice = "Write the file with perf_analyzer --profile-export-file, or with gpuperf sweep."
        raise OptionError(f"{path}: experiments is empty. {advice}")
    loads = [(level.mode, level.value) for level in levels]
    repeated = next((load for load in loads if loads.count(load) > 1), None)
    if repeated is not None:
        raise OptionError(f"{path}: {repeated[0]} {repeated[1]:g} occurs twice; a file must hold one run of a sweep.")
    return levels


@dataclass(frozen=True)
class _Field:
    """A field of the file, for messages."""

    path: str

    def inside(self, name: str) -> _Field:
        return _Field(f"{self.path}: {name}" if ": " not in self.path else f"{self.path}.{name}")

    def field(self, data: Any, name: str, kind: type) -> Any:
        """Return a field of an object, after checking its type."""
        if not isinstance(data, dict):
            raise self.wrong(f"should be a JSON object, not {type(data).__name__} (is this file a profile export?)")
        if name not in data:
            raise self.wrong(f"has no {name!r} (is this file a profile export?)")
        return self.inside(name).checked(data[name], kind)

    def checked(self, value: Any, kind: type) -> Any:
        """Return a value after checking its type; an int passes as a float."""
        kinds = (int, float) if kind is float else (kind,)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise self.wrong(f"should be {kind.__name__}, not {type(value).__name__}")
        if kind is int and isinstance(value, int) and not 0 <= value < 1 << 63:
            raise self.wrong(f"is {value}, which is not a time in ns")
        return value

    def wrong(self, what: str) -> OptionError:
        return OptionError(f"{self.path} {what}.")


def _level(data: Any, where: _Field) -> ProfileLevel:
    experiment = where.field(data, "experiment", dict)
    inside = where.inside("experiment")
    mode, value = inside.field(experiment, "mode", str), inside.field(experiment, "value", float)
    if mode not in MODES:
        raise inside.wrong(f"has the mode {mode!r}; only {' and '.join(MODES)} can be imported")
    scheduled = mode == "request_rate" and value == 0
    valid = scheduled or (0 < value <= _LARGEST_LOAD and (mode == "request_rate" or value == int(value)))
    if not valid:
        raise inside.wrong(f"has the value {str(value)[:30]}, which is not a valid {mode.replace('_', ' ')}")
    requests = where.field(data, "requests", list)
    rows: list[tuple[int, int, int, int, int]] = []
    failed: list[int] = []
    for index, request in enumerate(requests):
        here = where.inside(f"requests[{index}]")
        sent = here.field(request, "timestamp", int)
        due = here.inside("scheduled").checked(request.get("scheduled", sent), int)
        answered = here.field(request, "response_timestamps", list)
        if not answered:
            failed.append(due)
            continue
        for number, answer in enumerate(answered):
            here.inside(f"response_timestamps[{number}]").checked(answer, int)
            if answer < (answered[number - 1] if number else sent):
                raise here.inside(f"response_timestamps[{number}]").wrong("is earlier than the timestamp before it")
        answers = max(here.inside("responses").checked(request.get("responses", len(answered)), int), len(answered))
        rows.append((due, sent, answered[0], answered[-1], answers))
    if not rows:
        raise where.wrong("has no answered request")
    rows.sort()
    edges = where.field(data, "window_boundaries", list) if "window_boundaries" in data else []
    for index, edge in enumerate(edges):
        where.inside(f"window_boundaries[{index}]").checked(edge, int)
    due_ns, sent_ns, first_ns, done_ns, counts = (array("q", column) for column in zip(*rows, strict=True))
    sent_ns = due_ns if due_ns == sent_ns else sent_ns
    windows_ns, failed_ns = _windows(edges, due_ns), array("q", sorted(failed))
    for start, stop in windows_ns:
        if stop - start > _LONGEST_WINDOW_NS:
            raise where.inside("window_boundaries").wrong(f"has a window from {start} to {stop}, longer than a day")
    if scheduled:
        # Rounded, since each run sends a little earlier or later.
        mode, value = SCHEDULE, float(f"{max(len(rows) - 1, 1) * 1e9 / max(due_ns[-1] - due_ns[0], 1):.3g}")
    return ProfileLevel(mode, float(value), windows_ns, due_ns, sent_ns, first_ns, done_ns, counts, failed_ns)


def _windows(edges: list[int], due_ns: array[int]) -> tuple[tuple[int, int], ...]:
    """Return the intervals between neighbouring edges in which a request was due."""
    steps = sorted(set(edges))
    return tuple(
        (start, stop) for start, stop in pairwise(steps) if bisect_left(due_ns, stop) > bisect_left(due_ns, start)
    )
