"""Other changes between two records: the first suspects of a regression."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_gpuperf.model import Change, Plain, Record

#: Differences that are no change: the temperature of a GPU varies by some degrees from start to start, and so do the
#: clocks of an idle one.
_TEMPERATURE_C = 10
_CLOCK_SHARE = 0.05


def changes(before: Record, after: Record) -> tuple[Change, ...]:
    """Return the differences between two records: under test, in the environment, in the settings, in the source."""
    sections: list[tuple[str, Mapping[str, Plain], Mapping[str, Plain]]] = [
        (sweep, before.under_test.get(sweep, {}), after.under_test[sweep])
        for sweep in after.under_test
        if sweep in before.under_test
    ]
    sections += [
        ("environment", before.environment, after.environment),
        ("settings", before.settings, after.settings),
        ("source", {"commit": before.commit}, {"commit": after.commit}),
    ]
    return tuple(
        Change(where, name, old.get(name), new.get(name))
        for where, old, new in sections
        for name in sorted({*old, *new})
        if not _is_same(name, old.get(name), new.get(name))
    )


def _is_same(name: str, before: Plain, after: Plain) -> bool:
    """Return whether two facts are equal, or are readings that differ within their usual variation."""
    if isinstance(before, int | float) and isinstance(after, int | float) and name.endswith(("_c", "_clock_mhz")):
        return abs(after - before) <= (_TEMPERATURE_C if name.endswith("_c") else _CLOCK_SHARE * abs(before))
    return before == after
