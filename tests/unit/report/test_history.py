from __future__ import annotations

from dataclasses import replace

from pytest_gpuperf.report.history import HEIGHT, Shift, plot
from tests.unit.report.histories import STEP, history, moment


def test_a_step_is_drawn_and_listed() -> None:
    lines = plot(STEP)
    assert lines[0].startswith("5.00 ms |")
    assert lines[HEIGHT - 1].startswith("4.00 ms |")
    assert lines[0].count("*") == lines[HEIGHT - 1].count("*") == 10
    assert lines[0].index("*") > lines[HEIGHT - 1].rindex("*")
    axis, days = lines[HEIGHT], lines[HEIGHT + 1]
    assert axis.index("1") == lines[0].index("*")
    assert days.split() == ["2026-01-01", "2026-01-20"]
    assert "  1: 2026-01-11 commit 0000000a: +25% (4.00 ms -> 5.00 ms)" in lines


def test_it_fits_into_80_columns() -> None:
    for count in (1, 2, 30, 79, 500):
        values = [4e6 + 1e3 * index for index in range(count)]
        shifts = (Shift(count - 1, 4e6, 5e6, 0.01),) if count > 1 else ()
        for metric in ("p50", "throughput", "memory", "energy"):
            assert max(map(len, plot(replace(history(*values, metric=metric), shifts=shifts)))) <= 80


def test_a_level_that_hardly_moves_is_drawn_flat() -> None:
    lines = plot(history(*[4e6, 4.001e6] * 10))
    assert sum("*" in line for line in lines[:HEIGHT]) <= 2


def test_the_state_of_a_record_is_drawn() -> None:
    points = [moment(0), moment(1, state="pinned"), moment(2, 9e6, "failed"), moment(3, state="accepted")]
    lines = plot(replace(history(), points=tuple(points)))
    assert "x" in lines[0]
    assert "* record, x failed the gate, A accepted by hand, P pinned" in "\n".join(lines)
    assert {"A", "P"} <= set(lines[HEIGHT - 1])


def test_failed_records_do_not_move_the_level() -> None:
    points = (moment(0, 4e6), moment(1, 9e6, "failed"), moment(2, 9e6, "failed"), moment(3, 4e6))
    assert replace(history(), points=points).levels() == [(0, 4, 4e6)]


def test_several_changes_have_an_overall_change() -> None:
    values = [4e6] * 5 + [4.4e6] * 5 + [4.84e6] * 5
    shifts = (Shift(5, 4e6, 4.4e6, 0.01), Shift(10, 4.4e6, 4.84e6, 0.01))
    assert "  overall: +21%" in plot(replace(history(*values), shifts=shifts))


def test_a_history_without_changes_says_so() -> None:
    assert plot(history(4e6, 4e6))[-1] == "  no change of level"
    assert any("2 records without these load points" in line for line in plot(replace(STEP, left_out=2)))
