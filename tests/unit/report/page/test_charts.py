from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_gpuperf.model import Budget, LoadPoint, ReportedTest, Verdict, Window
from pytest_gpuperf.report.page.chart import BASE, HEAD, Chart, SharedData, positions
from pytest_gpuperf.report.page.latency_charts import PARTS, shares
from pytest_gpuperf.report.page.pages import charts_of
from pytest_gpuperf.report.page.sweep_charts import SweepView
from tests.unit.factories import histogram
from tests.unit.report.page.reports import LEVELS, reported


def figures(test: ReportedTest) -> dict[str, Chart]:
    sweep = SweepView(test, test.curves[0])
    return {figure.kind: figure for figure in charts_of(sweep, 50)}


ALL = figures(reported())


def test_every_chart_is_there() -> None:
    assert list(ALL) == [
        "throughput",
        "latency",
        "distribution",
        "breakdown",
        "history",
        "cost",
        "energy",
        "memory",
    ]


def test_what_was_not_measured_has_no_chart() -> None:
    plain = reported(resources=False, history=0, verdict=Verdict.NO_BASELINE, budgets=())
    windows = [replace(window, server=None) for run in plain.record.runs for window in run.windows]
    plain = replace(plain, record=replace(plain.record, runs=(replace(plain.record.runs[0], windows=tuple(windows)),)))
    assert list(figures(plain)) == ["throughput", "latency", "distribution"]


def test_numbers_are_those_of_the_curve() -> None:
    test = reported()
    view = ALL["throughput"].views[0]
    head = next(series for series in view.series if series.side == HEAD)
    assert (view.name, view.x.unit) == ("p90", "ms")
    assert head.x == tuple(point.p90_ms for point in test.curves[0])
    assert head.y == tuple(point.throughput for point in test.curves[0])
    base = next(series for series in view.series if series.side == BASE)
    assert base.y == tuple(point.throughput for point in test.base_curves[0])


def test_the_budget_and_the_highest_load_within_it() -> None:
    test = reported()
    view = ALL["latency"].views[ALL["latency"].chosen]
    best = test.curves[0].best(p90_ms=12.0)
    assert [(rule.kind, rule.text) for rule in view.rules] == [("budget", "budget 12 ms")]
    assert view.rules[0].y == pytest.approx(12.0)
    assert [ALL["latency"].labels[label] for label in view.marked] == [best.load.label]
    assert view.note.startswith(f"Highest load within p90 ≤ 12 ms: {best.load.label}, ")


def test_a_budget_that_no_load_point_meets() -> None:
    view = figures(reported(budgets=(Budget.of_ms(p90_ms=0.5),)))["latency"].views[0]
    assert view.marked == ()
    assert view.note == "No load point meets p90 ≤ 0.5 ms."


def test_a_budget_for_another_quantile_is_seen_first() -> None:
    figure = figures(reported(budgets=(Budget.of_ms(p99_ms=30.0),)))["latency"]
    assert figure.views[figure.chosen].name == "p99"


def test_the_distribution_opens_at_the_worst_point() -> None:
    figure = ALL["distribution"]
    assert figure.views[figure.chosen].name == "concurrency 32"
    improved = figures(reported(verdict=Verdict.IMPROVED))["distribution"]
    assert improved.views[improved.chosen].name == "concurrency 32"
    assert [series.side for series in figure.views[0].series] == [BASE, HEAD]


def test_the_bins_hold_all_requests() -> None:
    latencies = histogram([1e6 * (1 + 0.01 * index) for index in range(200)])
    heights = shares(latencies, lambda ns: ns / 1e6, 0.9, 0.05, bins=60)
    assert sum(heights) == pytest.approx(1.0)
    assert sum(heights[:2]) == pytest.approx(0.0, abs=0.01)
    assert heights[10] == pytest.approx(5 / 200, rel=0.3)


def test_a_long_tail_is_drawn_on_a_logarithmic_axis() -> None:
    test = reported(history=0, verdict=Verdict.NO_BASELINE)
    run = test.record.runs[0]
    tail = histogram([1e6] * 90 + [2e6] * 8 + [4e7] * 2)
    runs = (replace(run, windows=tuple(replace(window, latency=tail) for window in run.windows)),)
    view = figures(replace(test, record=replace(test.record, runs=runs)))["distribution"].views[0]
    assert view.x.log
    assert [text for _, text in view.x.ticks] == ["2", "5", "10", "20"]
    begin, width = view.series[0].x
    tallest = max(range(40), key=lambda index: view.series[0].y[index] or 0.0)
    assert 2 ** (begin + tallest * width) == pytest.approx(1.0, rel=0.1)
    assert sum(height or 0.0 for height in view.series[0].y) == pytest.approx(100, abs=2.5)


def test_the_parts_add_up_to_the_mean() -> None:
    test = reported()
    view = ALL["breakdown"].views[0]
    for index, point in enumerate(test.curves[0]):
        own = {series.name: series.y[index] or 0.0 for series in view.series if series.side == HEAD}
        assert set(own) == set(PARTS)
        assert sum(own.values()) == pytest.approx(point.mean_ns / 1e6, rel=1e-3)
        assert own["client"] == pytest.approx(0.02, rel=1e-3)


def test_the_steps_of_an_ensemble_add_up_to_the_mean() -> None:
    test = reported(history=0, verdict=Verdict.NO_BASELINE)

    def stepped(window: Window) -> Window:
        assert window.server is not None
        half = replace(window.server, compute_infer_ns=window.server.compute_infer_ns // 2, queue_ns=0)
        return replace(window, server=replace(window.server, stages={"decode": half, "compute": half}))

    runs = tuple(replace(run, windows=tuple(map(stepped, run.windows))) for run in test.record.runs)
    figure = figures(replace(test, record=replace(test.record, runs=runs)))["breakdown"]
    assert [view.name for view in figure.views] == ["server part", "ensemble step"]
    steps = figure.views[1]
    assert [(test.name, test.color) for test in steps.series] == [
        ("decode", "g0"),
        ("compute", "g1"),
        ("network and client", "network"),
    ]
    for index, point in enumerate(test.curves[0]):
        assert sum(series.y[index] or 0.0 for series in steps.series) == pytest.approx(point.mean_ns / 1e6, rel=1e-3)
    assert steps.series[0].y == steps.series[1].y


def test_energy_memory_and_cost_have_their_units() -> None:
    assert ALL["energy"].views[0].y.unit == "mJ"
    assert "nvml-counter" in ALL["energy"].views[0].note
    assert [view.y.unit for view in ALL["memory"].views] == ["GiB", "GiB", "MiB"]
    cost = ALL["cost"].views[0]
    assert [series.name for series in cost.series] == ["g6.xlarge", "g5.xlarge"]
    assert cost.note == "g6.xlarge at $0.805 an hour; g5.xlarge at $1.006 an hour."


def test_the_history_ends_with_this_record() -> None:
    figure = ALL["history"]
    view = figure.views[figure.chosen]
    assert view.name == "p90, concurrency 32"
    newest = next(series for series in view.series if series.legend == "this record")
    failed = next(series for series in view.series if series.legend == "failed the gate")
    assert (newest.labels, failed.labels) == ((12,), (5,))
    assert newest.y[0] == pytest.approx(reported().curves[0].points[-1].p90_ms, rel=1e-6)


def test_a_line_for_each_batch_size() -> None:
    points = tuple(LoadPoint(level, batch) for batch in (1, 8) for level in (1, 2, 4))
    made = figures(reported(points=points))
    assert [(test.side, test.color, len(test.x)) for test in made["latency"].views[0].series] == [
        (BASE, "g0", 3),
        (BASE, "g1", 3),
        (HEAD, "g0", 3),
        (HEAD, "g1", 3),
    ]
    assert made["cost"].views[0].series[0].y.count(None) == 1


def test_batch_sizes_alone_are_the_axis() -> None:
    made = figures(reported(points=tuple(LoadPoint(1, batch) for batch in (1, 8, 32))))
    assert made["latency"].title == "Latency against batch size"
    assert made["throughput"].short == ("1", "8", "32")


def test_open_loop() -> None:
    made = figures(
        reported(verdict=Verdict.NO_BASELINE, points=tuple(LoadPoint(0, 1, r, "poisson") for r in (50.0, 99.5)))
    )
    assert made["latency"].title == "Latency against requests per second"
    assert made["latency"].labels == ("50/s poisson", "99.5/s poisson")


def test_a_sweep_that_the_baseline_does_not_have() -> None:
    test = replace(reported(), base_curves=(), baseline=())
    assert {series.side for figure in figures(test).values() for series in figure.views[0].series} == {HEAD, ""}


def test_a_point_without_an_answer_is_left_out() -> None:
    test = reported(history=0, verdict=Verdict.NO_BASELINE)
    curve = test.curves[0]
    silent = replace(curve.points[-1], requests=0, p90_ns=0.0)
    made = figures(replace(test, curves=(replace(curve, points=(*curve.points[:-1], silent)),)))
    assert len(made["latency"].views[0].series[0].x) == len(LEVELS) - 1


def test_doubling_loads_are_spread_evenly() -> None:
    axis, where = positions([1, 2, 4, 8, 16], "concurrency")
    assert [where[value] for value in (1, 2, 4, 8, 16)] == [0, 1, 2, 3, 4]
    assert [text for _, text in axis.ticks] == ["1", "2", "4", "8", "16"]
    assert positions([1, 2, 3, 4, 5, 6, 7, 8, 9], "concurrency")[1][9] == 9
    assert positions([4], "concurrency")[0].span == (3.5, 4.5)


def test_data_that_charts_share_is_written_once() -> None:
    pool = SharedData()
    first, again = ALL["latency"].as_json(pool), ALL["latency"].as_json(pool)
    assert first == again
    count = len(pool.items)
    ALL["energy"].as_json(pool)
    assert len(pool.items) < 2 * count
