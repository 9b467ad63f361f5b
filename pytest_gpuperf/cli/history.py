"""``gpuperf history``: a metric over all records of a key, with the changes of its level."""

from __future__ import annotations

import argparse
import math
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpuperf.cli.stored_records import RecordReader, StoredRecord, add_filters, add_store, store_url
from pytest_gpuperf.errors import GpuperfError

if TYPE_CHECKING:
    from pytest_gpuperf.model import LoadPoint
    from pytest_gpuperf.report.history import History

_METRICS = ("p50", "p90", "p95", "p99", "throughput", "energy", "memory", "host_memory")
#: What a page shows when nothing is asked for.
_PAGE = ("p50", "p90", "throughput")
_WHOLE = "all load points"


def register(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "history",
        help="a metric over all records, with the changes of its level",
        description="Plot a metric over all stored records of each test and key, and mark where its level changed: "
        "the slow creep that a rolling baseline follows.",
    )
    add_filters(parser)
    parser.add_argument(
        "--metric",
        action="append",
        choices=_METRICS,
        help="may be repeated (default: p50; with --html p50, p90 and throughput)",
    )
    parser.add_argument("--sweep", default="", metavar="TEXT", help="only sweeps whose name contains this")
    parser.add_argument(
        "--point", metavar="TEXT", help="the load points whose name contains this, each by itself, as 'concurrency 4'"
    )
    parser.add_argument("--last", type=_count, metavar="N", help="only the newest N records of each key")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page instead, with every load point")
    add_store(parser)
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number, 1 or more")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Run the command line; its exit status."""
    from pytest_gpuperf.report.figures import plural
    from pytest_gpuperf.report.history import plot
    from pytest_gpuperf.report.page import history_page
    from pytest_gpuperf.store import Store

    records = RecordReader(Store(store_url(options)), options.test, options.key)
    found: list[History] = []
    for folder in records.folders():
        stored = records.of(folder, options.last)
        found += _histories([one for one in reversed(stored) if _fit(one)], options)
    if not found:
        records.complain()
        raise GpuperfError(
            f"There is nothing to plot in {records.store.url} for these options.\n"
            "See what is stored with: gpuperf baseline list"
        )
    found.sort(key=lambda one: (one.test, one.key))
    if options.html is not None:
        _write(options.html, history_page(found))
        print(f"{options.html}: {plural(len(found), 'plot')}")
        return records.complain()
    shown = ""
    for history in found:
        heading = f"{history.test}\n  {history.device}, key {history.key}"
        if heading != shown:
            print(("\n" if shown else "") + heading)
            shown = heading
        print(f"\n  {history.title}, {plural(len(history.points), 'record')}")
        print("\n".join(plot(history)))
    return records.complain()


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise GpuperfError(f"--html {path} can't be written: {error}") from error


def _fit(stored: StoredRecord) -> bool:
    """A whole record, and not a duet's, whose level is another one."""
    return stored.record.status == "complete" and not stored.entry.duet


def _histories(stored: Sequence[StoredRecord], options: argparse.Namespace) -> list[History]:
    """The histories of one key that are asked for.

    Args:
        stored: oldest first.
    """
    from pytest_gpuperf.analysis.values import values_of

    metrics = tuple(options.metric or (_PAGE if options.html is not None else _METRICS[:1]))
    if not stored:
        return []
    # Logs of what a record measured, larger is worse; the middle one of its runs.
    logs = [
        {place: statistics.median(one.runs) for place, one in values_of(each.record, metrics).values.items()}
        for each in stored
    ]
    newest = list(dict.fromkeys((sweep, point) for sweep, point, _ in logs[-1]))
    sweeps = [sweep for sweep in dict.fromkeys(sweep for sweep, _ in newest) if options.sweep in sweep]
    found = []
    for sweep in sweeps:
        points = [point for other, point in newest if other == sweep and point is not None]
        for metric in metrics:
            for label, members in _choices(points, options):
                series = [_together(one, [(sweep, point, metric) for point in members]) for one in logs]
                history = _history(stored, series, (sweep, label, metric))
                found += [history] if history else []
    return found


def _choices(points: Sequence[Any], options: argparse.Namespace) -> list[tuple[str, list[Any]]]:
    """What is plotted: all load points together, each by itself, or those that were named."""
    single = [(point.label, [point]) for point in points]
    if options.point is not None:
        exact = [one for one in single if one[0] == options.point]
        return exact or [one for one in single if options.point in one[0]]
    if len(points) == 1:
        return single
    return [(_WHOLE, list(points)), *(single if options.html is not None else [])]


def _together(logs: dict[Any, float], places: Sequence[tuple[str, LoadPoint, str]]) -> float | None:
    """The geometric mean as a log; None where the record doesn't have all of it."""
    if not places or any(place not in logs for place in places):
        return None
    return sum(logs[place] for place in places) / len(places)


def _history(
    stored: Sequence[StoredRecord], series: Sequence[float | None], names: tuple[str, str, str]
) -> History | None:
    from pytest_gpuperf.analysis.changepoint import change_points
    from pytest_gpuperf.analysis.values import sign
    from pytest_gpuperf.report.history import History, HistoryPoint, Shift

    sweep, label, metric = names
    way = sign(metric)
    known = [(one, log) for one, log in zip(stored, series, strict=True) if log is not None]
    if not known:
        return None
    points = tuple(
        HistoryPoint(one.record.created_utc, math.exp(way * log), one.record.id, one.record.commit, _state(one))
        for one, log in known
    )
    counted = [index for index, moment in enumerate(points) if moment.searched]
    changes = change_points([known[index][1] for index in counted])
    record = known[-1][0].record
    return History(
        test=record.test,
        device=str(record.key.get("device", "?")),
        key=known[-1][0].digest,
        sweep=sweep,
        point=label,
        metric=metric,
        points=points,
        shifts=tuple(
            Shift(counted[one.index], math.exp(way * one.before), math.exp(way * one.after), one.p_value)
            for one in changes
        ),
        left_out=len(stored) - len(known),
    )


def _state(stored: StoredRecord) -> str:
    if stored.entry.pinned:
        return "pinned"
    if stored.entry.accepted:
        return "accepted"
    return "" if stored.record.may_be_baseline else "failed"
