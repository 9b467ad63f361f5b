from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_gpuperf.analysis.guard import (
    client_findings,
    cpu_findings,
    device_findings,
    error_report,
    is_unanswered,
    worth_repeating,
)
from pytest_gpuperf.model import Finding, GpuReadings, LoadPoint
from pytest_gpuperf.model.finding import (
    CLIENT,
    CLIENT_BUSY,
    CLIENT_HALTED,
    CLIENT_STALLED,
    CLIENT_STOPPED,
    CLIENT_WAITED,
    CLOCK_CHANGED,
    CLOCK_MOVED,
    CLOCK_SKEW,
    CLOCKS,
    CO_TENANT,
    CO_TENANTS,
    COUNTER_RESET,
    CPU_STOLEN,
    DEVICE,
    ENERGY_UNKNOWN,
    ERRORS,
    LATE,
    LATE_SENDS,
    NO_READINGS,
    RATE,
    RATE_NOT_SUSTAINED,
    REQUESTS_FAILED,
    STARVED,
    TARGET_WAITED,
    THROTTLED,
    THROTTLING,
    WARMING,
    WARMING_UP,
)
from tests.unit.factories import guarded, run, window


@pytest.mark.parametrize(("cpu_s", "workers", "busy"), [(0.89, 1, False), (0.95, 1, True), (0.95, 2, False)])
def test_a_busy_load_generator_is_a_finding(cpu_s: float, workers: int, busy: bool) -> None:
    findings = client_findings(window_s=1.0, client_cpu_s=cpu_s, workers=workers, requests=100, errors=0)
    assert findings == (Finding(CLIENT_BUSY, CLIENT, 0.95),) * busy


def of_client(**figures: float) -> tuple[Finding, ...]:
    usual = {"window_s": 1.0, "client_cpu_s": 0.1, "workers": 1, "requests": 1000, "errors": 0}
    return client_findings(**{**usual, **figures})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fine", "bad", "finding"),
    [
        ({"stall_s": 0.049}, {"stall_s": 0.2}, Finding(CLIENT_STALLED, CLIENT, 0.2)),
        ({"stall_s": 0.09, "workers": 2}, {"stall_s": 0.2, "workers": 2}, Finding(CLIENT_STALLED, CLIENT, 0.1)),
        ({"late": 10}, {"late": 25}, Finding(LATE_SENDS, LATE, 0.025)),
        (
            {"due_rate": 100.0, "done_rate": 95.5},
            {"due_rate": 100.0, "done_rate": 80.0},
            Finding(RATE_NOT_SUSTAINED, RATE, 80.0, 100.0),
        ),
        ({"skew_s": 0.049}, {"skew_s": 0.12}, Finding(CLOCK_SKEW, CLIENT, 0.12)),
        ({"wait_s": 0.049}, {"wait_s": 0.2}, Finding(CLIENT_WAITED, CLIENT, 0.2)),
        ({"halted_s": 0.049}, {"halted_s": 0.2}, Finding(CLIENT_HALTED, STARVED, 0.2)),
        ({"stops": 0}, {"stops": 3}, Finding(CLIENT_STOPPED, STARVED, 3)),
    ],
)
def test_each_figure_has_a_limit(fine: dict[str, float], bad: dict[str, float], finding: Finding) -> None:
    assert of_client(**fine) == ()
    assert of_client(**bad) == (finding,)


def test_a_time_slice_of_others_in_a_short_window_is_chance() -> None:
    assert of_client(window_s=0.1, client_cpu_s=0.0, wait_s=0.01, halted_s=0.01) == ()


def test_closed_loop_has_no_rate_to_sustain() -> None:
    assert of_client(done_rate=0.0) == ()


def test_a_window_without_an_answer_is_described_and_divides_by_nothing() -> None:
    assert of_client(requests=0, errors=12, due_rate=12.0) == (
        Finding(RATE_NOT_SUSTAINED, RATE, 0.0, 12.0),
        Finding(REQUESTS_FAILED, ERRORS, 12, 12),
    )


def test_every_finding_is_reported() -> None:
    assert len(of_client(client_cpu_s=0.99, stall_s=0.5, late=900, due_rate=10.0, skew_s=1.0, errors=1)) == 6


@pytest.mark.parametrize(
    ("readings", "findings"),
    [
        ({"steal_share": None}, []),
        ({"steal_share": 0.04}, []),
        ({"steal_share": 0.2}, [Finding(CPU_STOLEN, STARVED, 0.2)]),
        ({"others_share": 0.5, "target_cpu_s": 0.6, "target_wait_s": 0.2}, [Finding(TARGET_WAITED, STARVED, 0.25)]),
        ({"others_share": 0.5, "target_cpu_s": 4.0, "target_wait_s": 0.2}, []),  # little of what it ran
        ({"others_share": 0.5, "target_cpu_s": 0.01, "target_wait_s": 0.02}, []),  # little of the window
        ({"others_share": 0.02, "target_cpu_s": 0.6, "target_wait_s": 0.2}, []),  # its threads wait for each other
        ({"others_share": None, "target_cpu_s": 0.6, "target_wait_s": 0.2}, []),
    ],
)
def test_others_that_take_the_cpu_are_found(readings: dict[str, float], findings: list[Finding]) -> None:
    usual = {"window_s": 1.0, "steal_share": 0.0}
    assert list(cpu_findings(**{**usual, **readings})) == findings


def test_every_failed_request_is_found() -> None:
    assert of_client(requests=99, errors=1) == (Finding(REQUESTS_FAILED, ERRORS, 1, 100),)


@pytest.mark.parametrize(
    ("figures", "guards"),
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
        # Without others, and where the target computes on the same cores, it waits for the target.
        ({"wait_s": 0.2, "others_share": 0.5}, [STARVED]),
        ({"wait_s": 0.2, "others_share": 0.5, "shares_cores": True}, [CLIENT]),
        ({"wait_s": 0.2, "others_share": 0.02}, [CLIENT]),
        ({"wait_s": 0.2, "others_share": 0.02, "inside": True}, []),
        ({"wait_s": 0.2, "others_share": 0.5, "inside": True}, [STARVED]),
        ({"halted_s": 0.2, "shares_cores": True}, [STARVED]),
    ],
)
def test_each_finding_has_its_guard_and_only_causes_outside_the_target_leave_a_window_out(
    figures: dict[str, float], guards: list[str]
) -> None:
    findings = of_client(**figures)
    assert [finding.guard for finding in findings] == guards
    marked = replace(window(), findings=findings)
    assert marked.guards == tuple(dict.fromkeys(guards))
    assert marked.undisturbed is {LATE, STARVED}.isdisjoint(guards)


def test_a_good_window_has_no_findings() -> None:
    assert client_findings(window_s=1.0, client_cpu_s=0.1, workers=1, requests=100, errors=0) == ()


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


def test_the_servers_sentences_stand_below_the_point_the_most_frequent_first() -> None:
    counts = ({"out of memory": 1, "no": 4}, {"out of memory": 5})
    failing = [replace(window(errors={"HTTP 500": 5}), error_sentences={"HTTP 500": count}) for count in counts]
    report = error_report([run(*failing)])
    assert report is not None
    assert report.splitlines()[1:] == ["    HTTP 500 x 6: out of memory", "    HTTP 500 x 4: no"]


def test_a_window_is_unanswered_when_timeouts_exceed_the_budget() -> None:
    assert is_unanswered(window(requests=98, errors={"timeout": 2}))
    assert not is_unanswered(window(requests=99, errors={"timeout": 1}))
    assert not is_unanswered(window(requests=50, errors={"HTTP 500": 50}))
    assert not is_unanswered(window(requests=0))


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
        ("figures", "finding"),
        [
            (
                {"throttled": ("hw_thermal", "sw_power_cap")},
                Finding(THROTTLING, THROTTLED, names=("hw_thermal", "sw_power_cap")),
            ),
            ({"sm_clock_min_mhz": 1700.0}, Finding(CLOCK_MOVED, CLOCKS, 1980.0, 1700.0)),
            ({"co_tenants": ("7 python",)}, Finding(CO_TENANTS, CO_TENANT, names=("7 python",))),
            ({"temperature_begin_c": 50.0, "temperature_end_c": 52.0}, Finding(WARMING_UP, WARMING, 52.0, 50.0)),
        ],
    )
    def test_each_disturbance_is_a_finding(self, figures: dict[str, object], finding: Finding) -> None:
        assert device_findings([gpu(**figures)]) == (finding,)

    def test_a_quiet_window_has_no_finding(self) -> None:
        quiet = gpu(sm_clock_min_mhz=1950.0, temperature_begin_c=50.0, temperature_end_c=51.0)
        assert device_findings([quiet, GpuReadings("remote", 1)]) == ()

    @pytest.mark.parametrize(("mhz", "moved"), [(1980.0, False), (1900.0, False), (1500.0, True)])
    def test_clocks_are_held_against_the_point_s_other_windows(self, mhz: float, moved: bool) -> None:
        steady = gpu(sm_clock_mhz=mhz, sm_clock_min_mhz=mhz, sm_clock_max_mhz=mhz)
        earlier = [replace(window(), gpus=(gpu(),))] * 2
        assert device_findings([steady], earlier=earlier) == (Finding(CLOCK_CHANGED, CLOCKS, mhz, 1980.0),) * moved

    @pytest.mark.parametrize(
        ("kind", "doubtful"),
        [
            (COUNTER_RESET, True),
            ("nvml_lost", True),
            ("nvml_driver", True),
            (NO_READINGS, True),
            (ENERGY_UNKNOWN, False),
            ("nvml_other", False),
        ],
    )
    def test_a_failure_of_the_driver_raises_a_guard_and_others_are_kept(self, kind: str, doubtful: bool) -> None:
        failure = Finding(kind, detail="why")
        assert device_findings([], [failure]) == (replace(failure, guard=DEVICE if doubtful else ""),)


class TestRepeating:
    throttled = guarded(window(), THROTTLED)

    def test_only_disturbed_windows_are_repeated(self) -> None:
        assert worth_repeating(self.throttled, [])
        assert not worth_repeating(window(), [self.throttled])

    def test_what_two_in_a_row_have_suffered_does_not(self) -> None:
        assert worth_repeating(self.throttled, [self.throttled])
        assert not worth_repeating(self.throttled, [window(), self.throttled, self.throttled])
        assert worth_repeating(self.throttled, [self.throttled, window()])
        other = guarded(window(), CO_TENANT)
        assert worth_repeating(self.throttled, [other, other])

    def test_what_the_target_did_does_not(self) -> None:
        marked = guarded(window(), CLIENT, ERRORS)
        assert not worth_repeating(marked, [])
        failing = guarded(window(), THROTTLED, ERRORS)
        assert worth_repeating(failing, [self.throttled])
        assert not worth_repeating(failing, [self.throttled, self.throttled])

    def test_others_on_the_cpu_come_and_go(self) -> None:
        disturbed = replace(window(), others_cpu_share=0.5)
        assert worth_repeating(disturbed, [disturbed] * 5)
