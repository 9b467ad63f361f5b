"""``gpuperf compare --across gpu``: one test on several GPU models, side by side, never a verdict."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_gpuperf.cli.cost import chosen_prices, to_plain
from pytest_gpuperf.cli.stored_records import RecordReader, StoredRecord, store_url
from pytest_gpuperf.errors import GpuperfError

if TYPE_CHECKING:
    from pytest_gpuperf.analysis.across import DeviceRecord
    from pytest_gpuperf.model import DeviceComparison, Price


def run(options: argparse.Namespace) -> int:
    """Run the command line; its exit status."""
    from pytest_gpuperf.store import Store

    prices = chosen_prices(options)
    records = RecordReader(Store(store_url(options)), options.test, options.key)
    shown = across_of(records, prices, options.base)
    unreadable = records.complain()
    if options.format == "json":
        print(json.dumps({"across": "gpu", "tests": to_plain(shown)}, indent=2, allow_nan=False))
    else:
        print("\n".join(markdown(shown) if options.format == "markdown" else text(shown)))
    return unreadable


def across_of(records: RecordReader, prices: Sequence[Price], base: str = "") -> list[DeviceComparison]:
    """Every test that was measured on two devices or more, by its newest complete record on each.

    Args:
        prices: as ``newest_prices`` gives them.
        base: part of the name of the device that the others are compared with; the cheapest one an hour when empty.

    Raises:
        GpuperfError: there is no such test, or no such device.
    """
    from pytest_gpuperf.analysis.across import DeviceRecord, across, work_of
    from pytest_gpuperf.analysis.prices import device_of

    newest: dict[tuple[str, ...], dict[str, StoredRecord]] = {}
    for stored in records.whole(1):
        own = newest.setdefault(work_of(stored[0].record.key), {})
        device = device_of(stored[0].record.key)
        # A device has several keys where, for example, its power limit was changed: the one measured last counts.
        if device not in own or own[device].record.created_utc < stored[0].record.created_utc:
            own[device] = stored[0]
    several = {work: own for work, own in newest.items() if len(own) > 1}
    if not several:
        devices = sorted({device for own in newest.values() for device in own})
        records.complain()
        raise GpuperfError(
            f"No test in {records.store.url} was measured on two devices or more "
            f"(for these options there are records on: {', '.join(devices) or 'none'}).\n"
            "Measure it on another GPU model into the same store, or bring records together with: "
            "gpuperf baseline export, import"
        )
    found = []
    for _, own in sorted(several.items()):
        taken = [DeviceRecord.of(one.record) for one in own.values()]
        found.append(across(_ordered(taken, prices, base), prices))
    return found


def _ordered(taken: Sequence[DeviceRecord], prices: Sequence[Price], base: str) -> list[DeviceRecord]:
    """The device that the others are compared with first, then by price and name."""
    from pytest_gpuperf.analysis.prices import cheapest

    def hourly(one: DeviceRecord) -> float:
        found = cheapest(prices, one.record.key)
        return found[0].usd_per_hour / found[1] if found else float("inf")

    order = sorted(taken, key=lambda one: (hourly(one), one.device))
    exact = [one for one in order if one.device.casefold() == base.casefold()]
    named = exact or [one for one in order if base.casefold() in one.device.casefold()]
    if not named:
        there = ", ".join(one.device for one in order)
        raise GpuperfError(f"--base {base}: {taken[0].record.test} has no record on it; there are: {there}.")
    return [named[0], *(one for one in order if one is not named[0])]


def text(shown: Sequence[DeviceComparison]) -> list[str]:
    """For a terminal."""
    from pytest_gpuperf.report.markdown.device_comparison import device_notes, device_table

    lines: list[str] = []
    for one in shown:
        lines += [*([""] if lines else []), one.test, *device_table(one).as_text("  ")]
        lines += [f"  {note}" for note in device_notes(one)]
    return lines


def markdown(shown: Sequence[DeviceComparison]) -> list[str]:
    """For a page, or a part of one."""
    from pytest_gpuperf.report.markdown.device_comparison import device_comparison_markdown

    return [line for one in shown for line in (*device_comparison_markdown(one), "")][:-1]
