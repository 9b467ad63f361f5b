from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.analysis.priors import Prior
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.model import (
    Change,
    Comparison,
    Curve,
    CurvePoint,
    Finding,
    LoadPoint,
    Record,
    Row,
    Verdict,
    curve_of,
)
from pytest_gpuperf.model.finding import ERRORS, REQUESTS_FAILED
from pytest_gpuperf.report.comparison_table import changed_or_undecided
from pytest_gpuperf.report.summary import RecordLocation, curve_table, failure_message, headline, record_lines
from tests.unit.comparing import compare
from tests.unit.factories import QUANTILES, TEST, curve, curve_point, equal_runs, record, row, run, server_times, window

PLACE = RecordLocation(".gpuperf/nvidia-l4/0123456789ab/20260101T000500000Z-12345678-0a1b2c3d4e5f.json")
COLUMNS = 80


def lines_of(stored: Record, comparison: Comparison, *curves: Curve) -> str:
    return "\n".join(record_lines(stored, curves or [curve(curve_point())], comparison, PLACE))


def compared(*rows: Row, verdict: Verdict = Verdict.UNCHANGED) -> Comparison:
    return Comparison(verdict, rows=rows, baseline=("ba5e11",))


# The table of a curve


def test_every_load_point_has_a_line_with_its_numbers() -> None:
    table = curve_table(curve(curve_point(1, p50_ms=2.0, throughput=500.0), curve_point(16, throughput=9000.0)), ())
    assert [title.lstrip(">") for title in table.titles] == ["conc", "p50 ms", "p90", "p99", "inf/s"]
    assert table.rows == (
        ("1", "2.00", "2.40", "3.00", "500.0"),
        ("16", "1.00", "1.20", "1.50", "9000"),
    )


def test_the_batch_size_is_shown_where_there_is_one() -> None:
    table = curve_table(curve(curve_point(1), curve_point(1, 8)), ())
    assert ">conc x b" in table.titles
    assert [line[0] for line in table.rows] == ["1 x 1", "1 x 8"]


def test_a_percentile_of_too_few_requests_is_marked() -> None:
    table = curve_table(curve(curve_point(supported=QUANTILES - {"p99"})), ())
    assert table.rows[0][1:4] == ("1.00", "1.20", "~1.50")


def test_the_worst_row_of_a_point_is_shown() -> None:
    rows = (
        row(Verdict.IMPROVED, metric="throughput", ratio=3.0),
        row(Verdict.REGRESSED, metric="p50", ratio=1.1),
        row(Verdict.REGRESSED, metric="p90", ratio=1.5, low=1.4, high=1.62),
        row(Verdict.UNCHANGED, point=LoadPoint(2)),
        row(Verdict.UNCHANGED, point=None, metric="p90", ratio=1.01, low=0.99, high=1.03),
    )
    table = curve_table(curve(curve_point(1), curve_point(2), curve_point(4)), rows)
    assert table.rows[0][-2:] == ("p90 +50% [+40, +62]", "regressed")
    assert table.rows[1][-1] == "unchanged"
    assert table.rows[2][-2:] == ("", "no baseline")
    assert table.rows[3][0] == "all"
    assert table.rows[3][-2:] == ("p90 +1.0% [-1.0, +3.0]", "unchanged")
    assert len({len(line) for line in (table.titles, *table.rows)}) == 1


def test_rows_of_another_sweep_are_not_shown() -> None:
    rows = (replace(row(Verdict.REGRESSED), sweep="fp16"), row(Verdict.UNCHANGED))
    assert curve_table(curve(curve_point()), rows).rows[0][-1] == "unchanged"


REALISTIC = st.builds(
    curve_point,
    st.integers(1, 256),
    st.just(1),
    p50_ms=st.floats(-1, 2.8).map(lambda exponent: 10**exponent),
    throughput=st.floats(0, 4.3).map(lambda exponent: 10**exponent),
    supported=st.sampled_from([QUANTILES, QUANTILES - {"p99"}]),
)


@given(st.lists(REALISTIC, min_size=1, max_size=4), st.sampled_from([1, 32]))
def test_a_table_without_a_baseline_fits_a_terminal(members: list[CurvePoint], batch_size: int) -> None:
    swept = curve(*(replace(stored, batch_size=batch_size) for stored in members))
    assert max(map(len, curve_table(swept, ()).as_text("  "))) <= COLUMNS


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_table_with_a_baseline_fits_a_terminal(batch_size: int) -> None:
    swept = curve(
        curve_point(1, batch_size, p50_ms=11.5, throughput=85.7 * batch_size, supported=QUANTILES - {"p99"}),
        curve_point(4, batch_size, p50_ms=13.2, throughput=300.0 * batch_size),
        curve_point(32, batch_size, p50_ms=28.6, throughput=1108.0 * batch_size),
    )
    rows = (
        row(Verdict.INCONCLUSIVE, point=LoadPoint(1, batch_size), ratio=1.032),
        row(Verdict.REGRESSED, point=LoadPoint(4, batch_size), metric="p90", ratio=1.5),
        row(Verdict.INCONCLUSIVE, point=LoadPoint(32, batch_size), metric="throughput", ratio=0.98),
        row(Verdict.UNCHANGED, point=None, metric="throughput", ratio=0.991),
    )
    lines = curve_table(swept, rows).as_text("  ")
    assert [line for line in lines if len(line) > COLUMNS] == []


# The section of a test


@pytest.mark.parametrize(
    ("stored", "comparison", "parts"),
    [
        (record(equal_runs(runs=3)), Comparison(Verdict.NO_BASELINE), ["NO BASELINE yet", "3 runs"]),
        (
            record(equal_runs(runs=1)),
            Comparison(Verdict.NO_BASELINE, differing={"version": (1, 2)}),
            ["NO BASELINE with this key", "1 run"],
        ),
        (record(equal_runs(), status="incomplete"), compared(), ["cut short", "never used as a baseline"]),
        (record(equal_runs()), compared(verdict=Verdict.REGRESSED), ["regressed", "3 runs", "1 baseline record"]),
    ],
)
def test_a_headline_says_what_happened(stored: Record, comparison: Comparison, parts: list[str]) -> None:
    text = headline(stored, comparison)
    assert "\n" not in text
    for part in parts:
        assert part in text


def test_a_section_has_the_table_and_the_location() -> None:
    text = lines_of(record(), compared(row()))
    assert "\n".join(curve_table(curve(curve_point()), (row(),)).as_text("  ")) in text
    assert f"stored as {PLACE.path}" in text


def test_several_sweeps_are_named() -> None:
    text = lines_of(record(), compared(), curve(curve_point(), name="fp32"), curve(curve_point(), name="fp16"))
    assert text.index("fp32") < text.index("fp16")
    assert "serving" not in lines_of(record(), compared())


def test_the_mark_of_too_few_requests_is_explained_where_it_occurs() -> None:
    few = curve(curve_point(supported=frozenset({"p50"})))
    assert "~ too few requests" in lines_of(record(), compared(), few)
    assert "~" not in lines_of(record(), compared())


def test_server_times_are_shown_at_the_highest_load() -> None:
    swept = curve(curve_point(8, server=server_times()), curve_point(1))
    text = lines_of(record(), compared(), swept)
    assert "\n  server time at 8: queue 100.0 us, compute 670.0 us, outside 280.0 us\n" in text
    assert "\n    compute: input 50.00 us, infer 600.0 us, output 20.00 us\n" in text
    assert all(len(line) <= 80 for line in text.splitlines() if "stored as" not in line)


def test_an_ensemble_is_broken_down_by_step() -> None:
    resize = replace(server_times(60), stages={"decode": server_times(60)})
    whole = replace(server_times(60), queue_ns=0, stages={"resize": resize, "resnet": server_times(180)})
    lines = lines_of(record(), compared(), curve(curve_point(4, server=whole))).splitlines()
    first = next(index for index, line in enumerate(lines) if "server time at 4:" in line)
    assert lines[first + 2 : first + 5] == [
        "    resize 25%: queue 100.0 us, input 50.00 us, infer 600.0 us, output 20.00 us",
        "      decode 100%: queue 100.0 us, input 50.00 us, infer 600.0 us, output 20.00 us",
        "    resnet 75%: queue 300.0 us, input 150.0 us, infer 1.80 ms, output 60.00 us",
    ]
    assert "server" not in lines_of(record(), compared(), curve(curve_point(8), curve_point(1, server=server_times())))


def test_findings_name_their_load_point() -> None:
    shaky = window(LoadPoint(4), findings=(Finding(REQUESTS_FAILED, ERRORS, 2, 60),))
    text = lines_of(replace(record(), runs=(run(shaky, warm=False), run(shaky, index=1))), compared())
    assert text.count("4 of 120 requests failed in 2 of 2 windows (at concurrency 4)") == 1
    assert "run 1 did not reach a steady state" in text
    assert "run 2" not in text


def test_an_inconclusive_comparison_names_the_detectable_change_and_the_records_needed() -> None:
    rows = (
        row(Verdict.INCONCLUSIVE, min_detectable=0.12, records_to_decide=2),
        row(Verdict.INCONCLUSIVE, min_detectable=0.31, records_to_decide=4),
        row(Verdict.UNCHANGED, min_detectable=0.01),
    )
    text = lines_of(record(), compared(*rows))
    assert "could have detected a regression of 12% or more" in text
    assert "about 4 more baseline records would decide, such as main's next" in text


def test_no_number_of_records_is_promised_if_none_would_settle_it() -> None:
    rows = (
        row(Verdict.INCONCLUSIVE, records_to_decide=2),
        row(Verdict.INCONCLUSIVE, records_to_decide=None),
    )
    assert "would decide" not in lines_of(record(), compared(*rows))


@pytest.mark.parametrize(
    ("gate", "change"),
    [
        ("failed", {}),
        ("inherited", {}),
        ("suspect", {}),
        ("passed", {"suspect": True}),
        ("passed", {"rows": (replace(row(Verdict.INCONCLUSIVE, records_to_decide=2), against="pinned"),)}),
    ],
)
def test_records_are_advised_only_where_they_would_join_the_baseline(gate: str, change: dict[str, Any]) -> None:
    comparison = compared(row(Verdict.INCONCLUSIVE, records_to_decide=2), verdict=Verdict.INCONCLUSIVE)
    assert "2 more baseline records would decide" in lines_of(replace(record(), gate="passed"), comparison)
    text = lines_of(replace(record(), gate=gate), replace(comparison, **change))
    assert "could have detected a regression" in text
    assert "would decide" not in text


def test_rows_that_decide_nothing_beside_a_regression_are_one_note() -> None:
    rows = (
        row(Verdict.REGRESSED, point=None, metric="p90", ratio=1.5),
        row(Verdict.INCONCLUSIVE, ratio=6.09, low=0.93, high=22.4),
        row(Verdict.INCONCLUSIVE, ratio=1.2),
    )
    comparison = compared(*rows, verdict=Verdict.REGRESSED)
    note = "2 comparisons are inconclusive when taken alone (the largest: p50 x6.1 [x0.93, x22] at concurrency 1)"
    text = lines_of(record(), comparison)
    assert note in text
    assert "could have detected" not in text
    assert changed_or_undecided(rows) == [rows[0]]
    assert changed_or_undecided(rows[1:]) == [rows[1], rows[2]]


def test_differing_keys_and_points_are_named() -> None:
    comparison = Comparison(
        Verdict.NO_BASELINE,
        differing={"power_limit_w": (60, 72)},
        new_points=("serving: concurrency 64",),
        missing_points=("serving: concurrency 2",),
    )
    text = lines_of(record(), comparison)
    assert "power_limit_w is 60, not 72" in text
    assert "measured now but not in the baseline: serving: concurrency 64" in text
    assert "in the baseline but not measured now: serving: concurrency 2" in text


# The message of a failed gate


def failed(option: str = "", gate: str = "failed", **here: object) -> str:
    before = record(
        equal_runs(load_points=2),
        name="ba5e11ba5e11",
        minute=61,
        commit="feedfacecafe",
        under_test={"serving": {"engine": "10.1"}},
        environment={"driver": "570"},
    )
    after = record(
        equal_runs(2.0, load_points=2),
        name="0a1b2c3d4e5f",
        under_test={"serving": {"engine": "10.2"}},
        environment={"driver": "580"},
        gate=gate,
    )
    comparison = replace(compare(after, [before], Rule(prior=Prior(0.02, 8))), **here)  # type: ignore[arg-type]
    return failure_message(after, comparison, replace(PLACE, option=option), [before])


def test_a_failure_names_points_changes_and_intervals() -> None:
    lines = failed().splitlines()
    assert lines[0] == f"{TEST} regressed compared with 1 baseline record"
    (p90,) = (line for line in lines if "concurrency 2" in line and "p90" in line)
    for part in ("2.2", "4.5", "+100% [+", "%, +"):
        assert part in p90
    assert any("whole sweep" in line and "throughput" in line and "-50% [-" in line for line in lines)


def test_a_failure_names_its_baseline_and_its_record() -> None:
    text = failed()
    assert "ba5e11ba5e11 of 2026-01-01 01:01 UTC, commit feedface" in text
    assert f"this record: {PLACE.path}" in text


def test_a_failure_names_what_else_changed() -> None:
    text = failed()
    assert "serving: engine 10.1 -> 10.2" in text
    assert "environment: driver 570 -> 580" in text
    assert "source: commit feedfacecafe -> 1234567890abcdef" in text
    assert "nothing that is recorded" in failed(changes=())


def test_a_failure_cuts_long_values_and_long_lists() -> None:
    many = tuple(Change("environment", f"name{index}", "x" * 100, None) for index in range(20))
    lines = failed(changes=many).splitlines()
    assert max(len(line) for line in lines if "name" in line) < COLUMNS
    shown = sum("environment: name" in line for line in lines)
    assert f"  and {20 - shown} more" in lines


@pytest.mark.parametrize("option", ["", " --store s3://bucket/perf"])
def test_a_failure_gives_the_command_that_accepts_it(option: str) -> None:
    assert f'gpuperf baseline accept 0a1b2c3d4e5f{option} --reason "..."' in failed(option)


def test_the_worst_regression_comes_first() -> None:
    rows = tuple(
        row(Verdict.REGRESSED, point=LoadPoint(index + 1), ratio=ratio) for index, ratio in enumerate((1.2, 3.0, 1.5))
    ) + (row(Verdict.REGRESSED, point=LoadPoint(9), metric="throughput", ratio=0.1), row(Verdict.IMPROVED))
    shown = [line.split()[1] for line in failed(rows=rows).splitlines() if line.startswith("  concurrency")]
    assert shown == ["9", "2", "3", "1"]


def test_more_regressions_than_can_be_read_are_counted() -> None:
    rows = tuple(row(Verdict.REGRESSED, point=LoadPoint(index + 1), ratio=1.5) for index in range(30))
    lines = failed(rows=rows).splitlines()
    shown = sum(line.startswith("  concurrency") for line in lines)
    assert 0 < shown < 30
    assert f"  and {30 - shown} more rows" in lines


def test_an_inconclusive_failure_says_so() -> None:
    text = failed(gate="passed", rows=(row(Verdict.INCONCLUSIVE, ratio=1.1),))
    assert "is inconclusive" in text.splitlines()[0]
    assert "--gpuperf-on-inconclusive" in text.splitlines()[0]
    assert "+10%" in text
    # There is no change that could be meant: what helps is another record.
    assert "baseline accept" not in text
    assert "run the test again" in text.splitlines()[-1]
    rejected = failed(rows=(row(Verdict.INCONCLUSIVE, ratio=1.1),))
    assert "does not join the baseline" in rejected
    assert "run the test again" not in rejected


def test_table_and_curve_have_the_same_numbers() -> None:
    stored = record(equal_runs(2.0, load_points=2))
    made = curve_of("serving", [LoadPoint(1), LoadPoint(2)], stored.runs)
    cells = curve_table(made, ()).rows
    assert cells[0][1].startswith(("1.99", "2.00", "2.01"))
    assert cells[1][1].startswith(("3.98", "3.99", "4.00", "4.01", "4.02"))
