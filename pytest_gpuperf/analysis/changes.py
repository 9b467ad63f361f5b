"""What else changed between two records: the first suspects of a regression."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_gpuperf.model import Change, Plain, Record

#: A GPU is some degrees warmer or cooler at every start, and an idle one's clocks are anywhere near their floor.
_TEMPERATURE_C = 10
_CLOCK_SHARE = 0.05
#: Settings by which a record is judged, and not measured: they can't have made it slower.
_JUDGED_BY = frozenset({"alpha", "tests", "look_share", "min_effect", "metrics"})


def changes(before: Record, after: Record) -> tuple[Change, ...]:
    """What is under test, around it, or in the settings that differs between two records."""
    places: list[tuple[str, Mapping[str, Plain], Mapping[str, Plain]]] = [
        (sweep, before.under_test.get(sweep, {}), after.under_test[sweep])
        for sweep in after.under_test
        if sweep in before.under_test
    ]
    places += [
        ("environment", before.environment, after.environment),
        ("settings", _measured_by(before), _measured_by(after)),
        ("source", {"commit": before.commit}, {"commit": after.commit}),
    ]
    return tuple(
        Change(where, name, old.get(name), new.get(name))
        for where, old, new in places
        for name in sorted({*old, *new})
        if not _alike(name, old.get(name), new.get(name))
    )


def _measured_by(record: Record) -> dict[str, Plain]:
    return {name: value for name, value in record.settings.items() if name not in _JUDGED_BY}


def _alike(name: str, before: Plain, after: Plain) -> bool:
    """The same, or two readings of something that is never quite the same."""
    if isinstance(before, int | float) and isinstance(after, int | float) and name.endswith(("_c", "_clock_mhz")):
        return abs(after - before) <= (_TEMPERATURE_C if name.endswith("_c") else _CLOCK_SHARE * abs(before))
    return before == after
