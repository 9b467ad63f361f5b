"""Values of the starts, of shares of requests and of first answers, and what the gate makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from pytest_gpuperf.analysis.duet.compare import compare_duet
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.values import values_of
from pytest_gpuperf.model import START, Comparison, LoadPoint, Record, Run, StartTimes, Verdict, Window
from tests.unit.comparing import compare
from tests.unit.factories import histogram, record, run, window

LOADS = (LoadPoint(1), LoadPoint(4))
#: By how much the runs of a record differ.
_JITTER = (1.0, 1.01, 0.99)


def started(startup_s: float, *, build_s: float | None = None, cold_s: float | None = None) -> Iterator[StartTimes]:
    """A cold start, then warm ones."""
    yield StartTimes(cold_s or 2 * startup_s, cold=True, model_load_s=startup_s, engine_build_s=build_s)
    for jitter in _JITTER[1:]:
        yield StartTimes(startup_s * jitter, model_load_s=startup_s * jitter / 2)


def measured(starts: Sequence[StartTimes] = (), *, failed: int = 0, p50_ms: float = 4.0) -> Record:
    """A record with two load points and three runs."""
    starts = list(starts) or list(started(1.0))
    runs = [
        run(
            *(
                replace(
                    window(point=point, p50_ms=p50_ms * jitter, requests=2000),
                    errors={"503": failed} if failed else {},
                    first=histogram([p50_ms * 0.2e6 * jitter * (1 + k / 500) for k in range(100)]),
                )
                for point in LOADS
            ),
            index=index,
            start=start,
        )
        for index, (jitter, start) in enumerate(zip(_JITTER, starts, strict=True))
    ]
    return replace(record(), runs=tuple(runs))


def verdicts(comparison: Comparison) -> dict[tuple[object, str], Verdict]:
    return {(row.point, row.metric): row.verdict for row in comparison.rows}


def rule(*metrics: str) -> Rule:
    return Rule(metrics=frozenset(metrics))


def test_cold_and_warm_starts_are_series_of_their_own() -> None:
    values = values_of(measured(list(started(1.0))), ["startup", "cold_startup", "model_load", "engine_build"])
    assert {key[2]: len(series.runs) for key, series in values.values.items()} == {
        "startup": 2,
        "cold_startup": 1,
        "model_load": 2,
    }
    assert {key[1:] for key in values.left_out} == {(START, "engine_build")}, "nothing was built: not 0, but unknown"


def test_a_build_is_a_value_of_its_own() -> None:
    values = values_of(measured(list(started(1.0, build_s=60.0))), ["engine_build"])
    assert [len(series.runs) for series in values.values.values()] == [1]


def test_a_target_that_is_not_started_has_no_startup() -> None:
    values = values_of(measured([StartTimes()] * 3), ["startup"])
    assert not values.values


@pytest.mark.parametrize("history", [1, 3, 12])
def test_a_startup_twice_as_long_is_a_regression_and_leaves_the_latencies_alone(history: int) -> None:
    baseline = [measured(list(started(1.0 + 0.01 * (i % 3)))) for i in range(history)]
    comparison = compare(measured(list(started(2.0))), baseline, rule("p50", "startup"))
    found = verdicts(comparison)
    assert found[START, "startup"] is Verdict.REGRESSED
    assert {verdict for (_, metric), verdict in found.items() if metric == "p50"} != {Verdict.REGRESSED}
    assert (None, "startup") not in found, "a start has no load point to average over"


@pytest.mark.parametrize("history", [1, 3, 12])
def test_an_equal_startup_is_no_regression(history: int) -> None:
    baseline = [measured(list(started(1.0 + 0.01 * (i % 3)))) for i in range(history)]
    metrics = ("p50", "startup", "cold_startup", "model_load")
    comparison = compare(measured(list(started(1.005))), baseline, rule(*metrics))
    assert comparison.verdict is not Verdict.REGRESSED


def test_startup_is_not_charged_for_the_number_of_load_points() -> None:
    def wide(startup_s: float) -> Record:
        starts = list(started(startup_s))
        windows = [window(point=LoadPoint(level)) for level in range(1, 41)]
        return replace(record(), runs=tuple(run(*windows, index=i, start=start) for i, start in enumerate(starts)))

    comparison = compare(wide(1.7), [wide(1.0)] * 3, rule("p50", "p90", "startup"))
    assert verdicts(comparison)[START, "startup"] is Verdict.REGRESSED


@pytest.mark.parametrize("history", [1, 3, 20])
@pytest.mark.parametrize(("failed", "regressed"), [(1, False), (3, False), (105, True), (2000, True)])
def test_failed_requests_regress_by_percentage_points(history: int, failed: int, regressed: bool) -> None:
    comparison = compare(measured(failed=failed), [measured() for _ in range(history)], rule("failed"))
    assert (comparison.verdict is Verdict.REGRESSED) == regressed
    row = next(row for row in comparison.rows if row.point is None)
    share = failed / (2000 + failed)
    assert row.baseline == pytest.approx(0)
    assert row.candidate == pytest.approx(share)
    assert row.worsening == pytest.approx(share)


def test_failures_of_a_single_start_decide_nothing() -> None:
    burst = measured()
    first, *others = burst.runs
    windows = tuple(replace(each, errors={"503": 200}) for each in first.windows)
    candidate = replace(burst, runs=(replace(first, windows=windows), *others))
    assert compare(candidate, [measured()] * 20, rule("failed")).verdict is not Verdict.REGRESSED


def test_goodput_falls_where_latencies_pass_the_budget() -> None:
    baseline = [measured(p50_ms=4.0)] * 3
    slow = measured(p50_ms=8.0)
    comparison = compare(slow, baseline, rule("goodput_6ms"))
    assert comparison.verdict is Verdict.REGRESSED
    row = next(row for row in comparison.rows if row.point is None)
    assert row.candidate < 0.1
    assert row.baseline > 0.9
    assert row.worsening == pytest.approx(row.baseline - row.candidate)
    assert compare(slow, baseline, rule("goodput_1s")).verdict is not Verdict.REGRESSED


def test_a_failed_request_is_no_goodput() -> None:
    values = values_of(measured(failed=2000), ["goodput_1s"])
    shares = [share for series in values.values.values() for share in series.runs]
    assert shares == [pytest.approx(-0.5)] * 6


def test_first_answers_are_gated() -> None:
    comparison = compare(measured(p50_ms=8.0), [measured()] * 3, rule("first_p50", "first_p90"))
    assert comparison.verdict is Verdict.REGRESSED
    assert {row.metric for row in comparison.rows} == {"first_p50", "first_p90"}


def test_what_has_no_first_answer_is_left_out() -> None:
    values = values_of(replace(record(), runs=(run(window()),)), ["first_p50"])
    assert {key[2] for key in values.left_out} == {"first_p50"}


def sides(candidate: Record, reference: Record) -> Record:
    return replace(candidate, reference=reference.runs)


def test_a_duet_compares_warm_starts_in_pairs_and_no_cold_ones() -> None:
    comparison = compare_duet(
        sides(measured(list(started(2.0))), measured(list(started(1.0)))), (), rule("startup", "cold_startup", "failed")
    )
    found = verdicts(comparison)
    assert found[START, "startup"] is Verdict.REGRESSED
    assert (START, "cold_startup") not in found
    assert found[None, "failed"] is Verdict.UNCHANGED


def test_failures_in_a_few_windows_of_a_duet_count() -> None:
    def burst(each: Run) -> Run:
        windows = [replace(each.windows[0], visit=visit) for visit in range(8)]
        failing = [replace(member, errors={"503": 4000}) for member in windows[:2]]
        return replace(each, windows=(*failing, *windows[2:]))

    def plain(each: Run) -> Run:
        windows: list[Window] = [replace(each.windows[0], visit=visit) for visit in range(8)]
        return replace(each, windows=tuple(windows))

    candidate, reference = measured(), measured()
    duet = replace(candidate, runs=tuple(map(burst, candidate.runs)), reference=tuple(map(plain, reference.runs)))
    assert compare_duet(duet, (), rule("failed")).verdict is Verdict.REGRESSED
