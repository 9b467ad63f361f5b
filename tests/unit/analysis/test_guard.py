from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_gpuperf.analysis.guard import (
    CLIENT,
    CLOCKS,
    CO_TENANT,
    DEVICE,
    ERRORS,
    LATE,
    RATE,
    THROTTLED,
    WARMING,
    device_findings,
    error_report,
    findings,
    worth_repeating,
)
from pytest_gpuperf.model import GpuReadings, LoadPoint, ReadingFailure
from tests.unit.factories import run, window


@pytest.mark.parametrize(("cpu_s", "workers", "busy"), [(0.89, 1, False), (0.95, 1, True), (0.95, 2, False)])
def test_a_busy_load_generator_is_found(cpu_s: float, workers: int, busy: bool) -> None:
    found = findings(window_s=1.0, client_cpu_s=cpu_s, workers=workers, requests=100, errors=0)
    assert bool(found) is busy
    assert not busy or "busy for 95% of the window" in found[0].text


def found_by_kind(**figures: float) -> list[tuple[str, str]]:
    whole = {"window_s": 1.0, "client_cpu_s": 0.1, "workers": 1, "requests": 1000, "errors": 0, **figures}
    return [(one.kind, one.text) for one in findings(**whole)]  # type: ignore[arg-type]


def found(**figures: float) -> tuple[str, ...]:
    return tuple(text for _, text in found_by_kind(**figures))


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
    assert found(requests=99, errors=1) == ("1 of 100 requests failed",)


@pytest.mark.parametrize(
    ("figures", "kinds"),
    [
        ({"client_cpu_s": 0.99}, [CLIENT]),
        ({"stall_s": 0.5}, [CLIENT]),
        ({"skew_s": 1.0}, [CLIENT]),
        ({"errors": 1}, [ERRORS]),
        ({"late": 100, "due_rate": 1000.0, "done_rate": 1000.0}, [LATE]),
        # Whoever is at fault for these, it need not be the load generator.
        ({"late": 100, "due_rate": 1000.0, "done_rate": 1000.0, "shares_cores": True}, [CLIENT]),
        ({"late": 100, "due_rate": 1000.0, "done_rate": 1000.0, "inside": True}, [RATE]),
        ({"late": 100, "due_rate": 1000.0, "done_rate": 500.0}, [RATE, RATE]),
    ],
)
def test_each_finding_has_its_kind_and_only_lateness_of_the_client_alone_leaves_a_window_out(
    figures: dict[str, float], kinds: list[str]
) -> None:
    told = [kind for kind, _ in found_by_kind(**figures)]
    assert told == kinds
    assert replace(window(), guards=tuple(told)).undisturbed is (kinds != [LATE])


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


def gpu(**figures: object) -> GpuReadings:
    usual = {"samples": 7, "sm_clock_mhz": 1980.0, "sm_clock_min_mhz": 1980.0, "sm_clock_max_mhz": 1980.0}
    return GpuReadings("GPU-0", **{**usual, **figures})  # type: ignore[arg-type]


class TestDevice:
    @pytest.mark.parametrize(
        ("figures", "kind", "said"),
        [
            ({"throttled": ("hw_thermal", "sw_power_cap")}, THROTTLED, "hw_thermal, sw_power_cap"),
            ({"sm_clock_min_mhz": 1700.0}, CLOCKS, "between 1700 and 1980 MHz"),
            ({"co_tenants": ("7 python",)}, CO_TENANT, "7 python"),
            ({"temperature_begin_c": 50.0, "temperature_end_c": 52.0}, WARMING, "from 50 to 52 C"),
        ],
    )
    def test_each_reason_is_found_by_its_kind(self, figures: dict[str, object], kind: str, said: str) -> None:
        (one,) = device_findings([gpu(**figures)])
        assert one.kind == kind
        assert said in one.text

    def test_nothing_is_found_in_a_quiet_window(self) -> None:
        quiet = gpu(sm_clock_min_mhz=1950.0, temperature_begin_c=50.0, temperature_end_c=51.0)
        assert device_findings([quiet, GpuReadings("remote", 1)]) == ()

    @pytest.mark.parametrize(("mhz", "moved"), [(1980.0, False), (1900.0, False), (1500.0, True)])
    def test_clocks_are_held_against_the_point_s_other_windows(self, mhz: float, moved: bool) -> None:
        own = gpu(sm_clock_mhz=mhz, sm_clock_min_mhz=mhz, sm_clock_max_mhz=mhz)
        earlier = [replace(window(), gpus=(gpu(),))] * 2
        assert bool(device_findings([own], earlier=earlier)) is moved

    @pytest.mark.parametrize(
        ("kind", "doubtful"), [("reset", True), ("lost", True), ("unread", True), ("short", False), ("other", False)]
    )
    def test_trouble_that_is_the_driver_s_makes_the_window_doubtful(self, kind: str, doubtful: bool) -> None:
        assert [one.kind for one in device_findings([], [ReadingFailure(kind, "why")])] == [DEVICE] * doubtful


class TestRepeating:
    guarded = replace(window(), guards=(THROTTLED,))

    def test_a_guarded_window_comes_again_and_a_calm_one_does_not(self) -> None:
        assert worth_repeating(self.guarded, [])
        assert not worth_repeating(window(), [self.guarded])

    def test_what_two_in_a_row_have_suffered_does_not(self) -> None:
        assert worth_repeating(self.guarded, [self.guarded])
        assert not worth_repeating(self.guarded, [window(), self.guarded, self.guarded])
        assert worth_repeating(self.guarded, [self.guarded, window()])
        other = replace(window(), guards=(CO_TENANT,))
        assert worth_repeating(self.guarded, [other, other])

    def test_what_the_target_did_does_not(self) -> None:
        marked = replace(window(), guards=(CLIENT, ERRORS))
        assert not worth_repeating(marked, [])
        throttled = replace(window(), guards=(THROTTLED, ERRORS))
        assert worth_repeating(throttled, [self.guarded])
        assert not worth_repeating(throttled, [self.guarded, self.guarded])

    def test_others_on_the_cpu_come_and_go(self) -> None:
        disturbed = replace(window(), others_cpu_share=0.5)
        assert worth_repeating(disturbed, [disturbed] * 5)
