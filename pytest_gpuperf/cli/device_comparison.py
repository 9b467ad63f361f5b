"""``gpuperf compare --across gpu``: one test on several GPU models side by side, without a verdict."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from pytest_gpuperf.analysis import device_comparison
from pytest_gpuperf.analysis.cost.prices import cheapest, device_of
from pytest_gpuperf.analysis.device_comparison import DeviceRecord, work_of
from pytest_gpuperf.cli.screen import screen_width
from pytest_gpuperf.cli.shared_options import chosen_prices, open_store
from pytest_gpuperf.cli.stored_records import RecordReader, StoredRecord
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.model import DeviceComparison, Price
from pytest_gpuperf.model.codec import to_builtins
from pytest_gpuperf.report.markdown.device_comparison import device_comparison_markdown, device_notes, device_table
from pytest_gpuperf.report.wrapping import wrapped


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    reader = RecordReader(open_store(options), options.test, options.key)
    comparisons = compare_devices(reader, chosen_prices(options), options.base)
    status = reader.print_unreadable()
    if options.format == "json":
        print(json.dumps({"across": "gpu", "tests": to_builtins(comparisons)}, indent=2, allow_nan=False))
    else:
        lines = {"markdown": _markdown, "table": text_lines}[options.format]
        print("\n".join(lines(comparisons)))
    return status


def compare_devices(reader: RecordReader, prices: Sequence[Price], base: str = "") -> list[DeviceComparison]:
    """Compare each test's newest complete records on different devices.

    Args:
        prices: Prices, as ``newest_prices`` returns them.
        base: Part of the name of the device that the others are compared with; the cheapest device when empty.

    Raises:
        GpuperfError: No test was measured on two devices, or there is no such device.
    """
    by_work: dict[tuple[str, ...], dict[str, StoredRecord]] = {}
    for newest, *_ in reader.complete_by_key(1):
        by_device = by_work.setdefault(work_of(newest.record.key), {})
        device = device_of(newest.record.key)
        # A device has several keys if, for example, its power limit was changed: its newest record counts.
        if device not in by_device or by_device[device].record.created_utc < newest.record.created_utc:
            by_device[device] = newest
    comparable = {work: by_device for work, by_device in by_work.items() if len(by_device) > 1}
    if not comparable:
        devices = sorted({device for by_device in by_work.values() for device in by_device})
        reader.fail(
            f"No test in {reader.store.url} was measured on two devices or more "
            f"(these options choose records on: {', '.join(devices) or 'no device'}).\n"
            "Measure on another GPU model into the same store, or bring records together with: "
            "gpuperf baseline export, import"
        )
    records = [[DeviceRecord(stored.record) for stored in comparable[work].values()] for work in sorted(comparable)]
    return [device_comparison.compare_devices(_base_first(devices, prices, base), prices) for devices in records]


def _base_first(records: Sequence[DeviceRecord], prices: Sequence[Price], base: str) -> list[DeviceRecord]:
    """Return the base device's record, then the others by price and name."""

    def usd_per_hour(record: DeviceRecord) -> float:
        priced = cheapest(prices, record.record.key)
        return priced[0].usd_per_hour / priced[1] if priced else float("inf")

    ordered = sorted(records, key=lambda record: (usd_per_hour(record), record.device))
    exact = [record for record in ordered if record.device.casefold() == base.casefold()]
    matching = exact or [record for record in ordered if base.casefold() in record.device.casefold()]
    if not matching:
        devices = ", ".join(record.device for record in ordered)
        raise GpuperfError(
            f"--base {base}: {records[0].record.test} has no record on such a device; it has records on: {devices}."
        )
    return [matching[0], *(record for record in ordered if record is not matching[0])]


def text_lines(comparisons: Sequence[DeviceComparison]) -> list[str]:
    """Return the comparisons as lines for a terminal."""
    width = screen_width()
    lines: list[str] = []
    for comparison in comparisons:
        lines += [*([""] if lines else []), comparison.test, *device_table(comparison).as_text("  ", width)]
        lines += wrapped([f"  {note}" for note in device_notes(comparison)], width)
    return lines


def _markdown(comparisons: Sequence[DeviceComparison]) -> list[str]:
    return [line for comparison in comparisons for line in (*device_comparison_markdown(comparison), "")][:-1]
