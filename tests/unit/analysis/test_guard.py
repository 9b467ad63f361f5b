from __future__ import annotations

import pytest

from pytest_gpuperf.analysis.guard import error_report, findings
from pytest_gpuperf.model import LoadPoint
from tests.unit.factories import run, window


@pytest.mark.parametrize(("cpu_s", "workers", "busy"), [(0.89, 1, False), (0.95, 1, True), (0.95, 2, False)])
def test_a_busy_load_generator_is_found(cpu_s: float, workers: int, busy: bool) -> None:
    found = findings(window_s=1.0, client_cpu_s=cpu_s, workers=workers, requests=100, errors=0)
    assert bool(found) is busy
    assert not busy or "busy for 95% of the window" in found[0]


def found(**figures: float) -> tuple[str, ...]:
    whole = {"window_s": 1.0, "client_cpu_s": 0.1, "workers": 1, "requests": 1000, "errors": 0, **figures}
    return findings(**whole)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fine", "bad", "said"),
    [
        ({"stall_s": 0.049}, {"stall_s": 0.2}, "kept from its sockets for 20% of the window"),
        (
            {"stall_s": 0.09, "workers": 2},
            {"stall_s": 0.2, "workers": 2},
            "kept from its sockets for 10% of the window",
        ),
        ({"late": 10}, {"late": 25}, "2.5% of the requests were sent more than 1 ms late"),
        (
            {"due_rate": 100.0, "done_rate": 95.5},
            {"due_rate": 100.0, "done_rate": 80.0},
            "the rate was not sustained: 80/s of 100/s",
        ),
        ({"skew_s": 0.049}, {"skew_s": 0.12}, "clocks of the load generator's machines were 120 ms apart"),
    ],
)
def test_what_can_not_be_trusted_is_found_beyond_a_limit(
    fine: dict[str, float], bad: dict[str, float], said: str
) -> None:
    assert found(**fine) == ()
    (sentence,) = found(**bad)
    assert said in sentence


def test_closed_loop_has_no_rate_to_sustain() -> None:
    assert found(done_rate=0.0) == ()


def test_a_window_without_an_answer_is_described_and_divides_by_nothing() -> None:
    assert found(requests=0, errors=12, due_rate=12.0) == (
        "the rate was not sustained: 0/s of 12/s",
        "12 of 12 requests failed",
    )


def test_every_finding_is_told() -> None:
    assert len(found(client_cpu_s=0.99, stall_s=0.5, late=900, due_rate=10.0, skew_s=1.0, errors=1)) == 6


def test_every_failed_request_is_found() -> None:
    assert findings(window_s=1.0, client_cpu_s=0.1, workers=1, requests=99, errors=1) == ("1 of 100 requests failed",)


def test_a_good_window_has_no_findings() -> None:
    assert findings(window_s=1.0, client_cpu_s=0.1, workers=1, requests=100, errors=0) == ()


def test_errors_within_the_budget_are_no_failure() -> None:
    assert error_report([run(window(requests=99, errors={"timeout": 1}))]) is None


def test_errors_beyond_the_budget_are_named_by_point_and_type() -> None:
    report = error_report(
        [
            run(window(LoadPoint(4), requests=90, errors={"timeout": 1, "HTTP 503": 2}), window(requests=100)),
            run(window(LoadPoint(4), requests=6, errors={"timeout": 1}), index=1),
        ]
    )
    assert report is not None
    assert "serving, concurrency 4: 4 of 100 requests failed" in report
    assert "HTTP 503 x 2" in report
    assert "timeout x 2" in report
    assert "concurrency 1" not in report


def test_a_point_that_never_answers_is_beyond_the_budget() -> None:
    assert error_report([run(window(requests=0, errors={"refused": 1}))]) is not None


def test_a_failing_point_is_not_hidden_by_busy_ones() -> None:
    report = error_report([run(window(requests=100_000), window(LoadPoint(2), requests=40, errors={"timeout": 2}))])
    assert report is not None
    assert "concurrency 2: 2 of 42" in report


def test_no_runs_have_no_errors() -> None:
    assert error_report([]) is None
    assert error_report([run()]) is None
