"""``gpuperf history``: a metric over all records of a key, with the changes of its level."""

from __future__ import annotations

import argparse
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_gpuperf.analysis.suite.device_levels import device_effects
from pytest_gpuperf.analysis.values import SeriesPoint, figure_of, values_of
from pytest_gpuperf.cli.shared_options import add_filters, add_newest, add_store, add_sweep, metric_name, open_store
from pytest_gpuperf.cli.stored_records import RecordReader, StoredRecord
from pytest_gpuperf.model import METRIC_NAMES, START, LoadPoint, is_of_start
from pytest_gpuperf.publish.formats import write
from pytest_gpuperf.report.figures import plural
from pytest_gpuperf.report.history import History, HistoryPoint, Shift, is_searched, plot
from pytest_gpuperf.report.page import history_page
from pytest_gpuperf.safe_text import lines_text, printable

_TERMINAL_METRICS = ("p50",)
_PAGE_METRICS = ("p50", "p90", "throughput")
_ALL_POINTS = "all load points"
#: What is plotted of a metric of the starts, with its label.
_STARTS: Sequence[tuple[str, Sequence[SeriesPoint]]] = ((START.label, (START,)),)


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = (
        "Plot a metric over all stored records of each test and key, and mark where its level changed. This shows slow "
        "creep, which a rolling baseline follows."
    )
    add = parser.add_argument
    add_filters(parser)
    text = "metric to plot; may be repeated (default: p50; with --html p50, p90 and throughput): "
    text += ", ".join(METRIC_NAMES)
    add("--metric", action="append", type=metric_name, metavar="NAME", help=text)
    add_sweep(parser)
    text = "one plot for each load point whose name contains TEXT, for example 'concurrency 4'"
    add("--point", metavar="TEXT", help=text)
    add_newest(parser)
    add("--html", type=Path, metavar="FILE", help="write a page with every load point instead")
    add_store(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    reader = RecordReader(open_store(options), options.test, options.key)
    histories: list[History] = []
    moved: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for folder in reader.folders():
        records = reader.in_folder(folder, options.last)
        # Only complete records that are not a duet's show the key's level.
        level = [stored for stored in records if stored.record.status == "complete" and not stored.file.duet]
        histories += _histories(level[::-1], options)
        for stored in level:
            if stored.record.moved_from:
                moved[stored.record.test, stored.digest][stored.record.moved_from] += 1
    if not histories:
        reader.fail(
            f"Nothing to plot in {reader.store.url} with these options.\n"
            f"See what is stored with: gpuperf baseline list{reader.store.option}"
        )
    histories.sort(key=lambda history: (history.test, history.key))
    if options.html is not None:
        write(options.html, history_page(histories))
        print(f"{options.html}: {plural(len(histories), 'plot')}")
        return reader.print_unreadable()
    previous = ""
    for history in histories:
        heading = lines_text((history.test, f"  {history.device}, key {history.key}"))
        if heading != previous:
            print(("\n" if previous else "") + heading)
            previous = heading
            for origin, count in moved[history.test, history.key].items():
                print(printable(f"  {plural(count, 'record')} measured as {origin}, before the test was moved"))
        print(f"\n  {printable(history.title)}, {plural(len(history.points), 'record')}")
        print(lines_text(plot(history)))
    return reader.print_unreadable()


def _histories(records: Sequence[StoredRecord], options: argparse.Namespace) -> list[History]:
    """Return the chosen histories of one key.

    Args:
        records: Records of the key, oldest first.
    """
    metrics = tuple(options.metric or (_TERMINAL_METRICS if options.html is None else _PAGE_METRICS))
    if not records:
        return []
    # For each record the median over its runs, as a log that is larger when worse.
    logs = [
        {place: statistics.median(series.runs) for place, series in values_of(stored.record, metrics).values.items()}
        for stored in records
    ]
    places = dict.fromkeys((sweep, point) for sweep, point, _ in logs[-1])
    histories = []
    for sweep in dict.fromkeys(sweep for sweep, _ in places if options.sweep in sweep):
        points = [point for name, point in places if name == sweep and isinstance(point, LoadPoint)]
        for metric in metrics:
            for label, members in _plotted_points(points, options) if not is_of_start(metric) else _STARTS:
                series = [_geometric_mean(values, [(sweep, point, metric) for point in members]) for values in logs]
                if history := _history(records, series, (sweep, label, metric)):
                    histories.append(history)
    return histories


def _plotted_points(
    points: Sequence[LoadPoint], options: argparse.Namespace
) -> Sequence[tuple[str, Sequence[SeriesPoint]]]:
    """Return the load points of each plot, with its label."""
    single = [(point.label, [point]) for point in points]
    if options.point is not None:
        exact = [(label, members) for label, members in single if label == options.point]
        return exact or [(label, members) for label, members in single if options.point in label]
    if len(points) == 1:
        return single
    return [(_ALL_POINTS, list(points)), *(single if options.html is not None else [])]


def _geometric_mean(logs: dict[Any, float], places: Sequence[tuple[str, SeriesPoint, str]]) -> float | None:
    """Return the log of the geometric mean over places; None if the record lacks one of them."""
    if not places or any(place not in logs for place in places):
        return None
    return sum(logs[place] for place in places) / len(places)


def _history(
    records: Sequence[StoredRecord], series: Sequence[float | None], names: tuple[str, str, str]
) -> History | None:
    sweep, label, metric = names
    measured = [(stored, log) for stored, log in zip(records, series, strict=True) if log is not None]
    if not measured:
        return None

    def value(log: float) -> float:
        return figure_of(metric, log)

    searched = [(log, stored.record.device_id) for stored, log in measured if is_searched(_state(stored))]
    effects, changes = device_effects([log for log, _ in searched], [device for _, device in searched])
    by_device = {device: float(effect) for (_, device), effect in zip(searched, effects, strict=True)}
    points = tuple(
        HistoryPoint(
            stored.record.created_utc,
            value(log - by_device.get(stored.record.device_id, 0.0)),
            stored.record.id,
            stored.record.commit,
            _state(stored),
        )
        for stored, log in measured
    )
    counted = [index for index, point in enumerate(points) if point.searched]
    newest = measured[-1][0]
    return History(
        test=newest.record.test,
        device=str(newest.record.key.get("device", "?")),
        key=newest.digest,
        sweep=sweep,
        point_label=label,
        metric=metric,
        points=points,
        shifts=tuple(
            Shift(counted[change.index], value(change.before), value(change.after), change.p_value, metric)
            for change in changes
        ),
        left_out=len(records) - len(measured),
        devices=len(by_device),
    )


def _state(stored: StoredRecord) -> str:
    if stored.file.pinned:
        return "pinned"
    if stored.file.accepted:
        return "accepted"
    if stored.record.gate in ("suspect", "inherited"):
        return "" if stored.file.joins else stored.record.gate
    return "" if stored.record.may_be_baseline else "failed"
