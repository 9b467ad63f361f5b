from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_gpuperf.model import Finding, LoadPoint, Window
from pytest_gpuperf.model.finding import (
    CLIENT,
    CLIENT_BUSY,
    CLIENT_STALLED,
    CLOCK_CHANGED,
    CLOCK_MOVED,
    CLOCK_SKEW,
    CLOCKS,
    CO_TENANT,
    CO_TENANTS,
    COUNTER_RESET,
    DEVICE,
    ENERGY_UNKNOWN,
    ERRORS,
    LATE,
    LATE_SENDS,
    METRICS_UNREADABLE,
    NO_READINGS,
    RATE,
    RATE_NOT_SUSTAINED,
    REQUESTS_FAILED,
    SERVERS,
    SERVERS_LOST,
    THROTTLED,
    THROTTLING,
    WARMING,
    WARMING_UP,
    WINDOWS_UNKNOWN,
)
from pytest_gpuperf.report.findings import finding_notes, words
from tests.unit.factories import record, run, window

HOT = Finding(THROTTLING, THROTTLED, names=("hw_thermal",))


@pytest.mark.parametrize(
    ("findings", "text"),
    [
        ([Finding(CLIENT_BUSY, CLIENT, 0.95)], "the load generator used 95% of its cores"),
        ([Finding(CLIENT_BUSY, CLIENT, s) for s in (0.97, 0.92)], "the load generator used 92 to 97% of its cores"),
        ([Finding(CLIENT_STALLED, CLIENT, 0.2)], "the load generator could not serve its sockets for 20% of the time"),
        ([Finding(CLOCK_SKEW, CLIENT, 0.12)], "the clocks of the load generator's machines differed by 120 ms"),
        ([Finding(LATE_SENDS, LATE, 0.025)], "2.5% of the requests were sent more than 1 ms late"),
        ([Finding(RATE_NOT_SUSTAINED, RATE, 80, 100)], "the rate was not sustained: 80/s answered of 100/s"),
        (
            [Finding(REQUESTS_FAILED, ERRORS, 1, 60), Finding(REQUESTS_FAILED, ERRORS, 2, 61)],
            "3 of 121 requests failed",
        ),
        ([Finding(SERVERS_LOST, SERVERS, 1, 4, ("server 2",))], "1 of 4 servers was lost (server 2)"),
        ([Finding(SERVERS_LOST, SERVERS, 2, 4, ("a", "b"))], "2 of 4 servers were lost (a, b)"),
        ([HOT, Finding(THROTTLING, THROTTLED, names=("sw_thermal",))], "thermal throttling (hw_thermal, sw_thermal)"),
        ([Finding(THROTTLING, THROTTLED, names=("new_reason",))], "throttling (new_reason)"),
        (
            [Finding(CLOCK_MOVED, CLOCKS, 1900, 1700), Finding(CLOCK_MOVED, CLOCKS, 1980, 1750)],
            "the GPU clock moved between 1700 and 1980 MHz",
        ),
        ([Finding(CLOCK_CHANGED, CLOCKS, 1500, 1980)], "the GPU ran at 1500 MHz, after 1980 MHz in earlier windows"),
        (
            [Finding(CO_TENANTS, CO_TENANT, names=tuple(f"{pid} python" for pid in range(1, 6)))],
            "other processes computed on the GPU (1 python, 2 python, 3 python and 2 more)",
        ),
        ([Finding(WARMING_UP, WARMING, 52, 50)], "the GPU was still warming up, from 50 to 52 C"),
        ([Finding(COUNTER_RESET, DEVICE)], "the energy counter was reset: the driver was reloaded"),
        ([Finding(ENERGY_UNKNOWN, names=("nvml-power",))], "too few readings of nvml-power for the energy"),
        ([Finding(NO_READINGS, DEVICE, names=("1",))], "GPU 1 gave no readings"),
        ([Finding(METRICS_UNREADABLE, detail="the metrics at X can't be read")], "the metrics at X can't be read"),
        ([Finding(WINDOWS_UNKNOWN)], "the file has no window_boundaries, so everything from the first request to the "),
        ([Finding("kind_of_tomorrow")], "kind of tomorrow"),
    ],
)
def test_findings_of_a_kind_are_worded_with_their_range(findings: list[Finding], text: str) -> None:
    assert words(findings).startswith(text)


def notes(*windows: Window) -> list[str]:
    return finding_notes([replace(record(), runs=(run(*windows),))])


def test_a_note_counts_the_windows_and_says_where() -> None:
    calm, elsewhere = window(), window(LoadPoint(2))
    assert notes(calm, replace(elsewhere, findings=(HOT, HOT)), calm) == [
        "disturbed: thermal throttling (hw_thermal) in 1 of 3 windows (at concurrency 2)"
    ]
    assert notes(replace(calm, findings=(HOT,)), replace(elsewhere, findings=(HOT,)), calm) == [
        "disturbed: thermal throttling (hw_thermal) in 2 of 3 windows"
    ]
    many = [window(LoadPoint(number), findings=(HOT,)) for number in range(1, 5)]
    assert notes(calm, *many, window(LoadPoint(9))) == [
        "disturbed: thermal throttling (hw_thermal) in 4 of 6 windows (at 4 load points)"
    ]


def test_full_listings_count_the_windows_of_every_load_point() -> None:
    calm = window()
    many = [window(LoadPoint(number), findings=(HOT, HOT)) for number in (2, 3, 4, 5, 5)]
    (note,) = finding_notes([replace(record(), runs=(run(calm, *many, window(LoadPoint(5))),))], by_load_point=True)
    assert note == (
        "disturbed: thermal throttling (hw_thermal) in 5 of 7 windows: concurrency 2 (1 of 1), concurrency 3 (1 of 1), "
        "concurrency 4 (1 of 1), concurrency 5 (2 of 3)"
    )
    crowded = [replace(window(LoadPoint(number)), others_cpu_share=0.2) for number in (1, 2)]
    (note,) = finding_notes([replace(record(), runs=(run(calm, *crowded),))], by_load_point=True)
    assert note.endswith("20% of the CPU in 2 of 3 windows: concurrency 1 (1 of 2), concurrency 2 (1 of 1)")


def test_load_points_of_several_sweeps_name_their_sweep() -> None:
    sweeps = [window(sweep=name, findings=(HOT,)) for name in ("decode", "prefill")]
    assert notes(sweeps[0], replace(sweeps[1], findings=())) == [
        "disturbed: thermal throttling (hw_thermal) in 1 of 2 windows (at concurrency 1 of decode)"
    ]
    (note,) = finding_notes([replace(record(), runs=(run(*sweeps),))], by_load_point=True)
    assert note.endswith("in 2 of 2 windows: concurrency 1 of decode (1 of 1), concurrency 1 of prefill (1 of 1)")


def test_what_the_target_did_is_no_disturbance() -> None:
    failed = window(findings=(Finding(REQUESTS_FAILED, ERRORS, 2, 60),))
    assert notes(failed) == ["2 of 60 requests failed in 1 of 1 window (at concurrency 1)"]


def test_other_processes_on_the_cpu_and_sequential_sides_have_a_note() -> None:
    crowded = [replace(window(), others_cpu_share=share) for share in (0.01, 0.2, 0.3)]
    assert notes(*crowded) == [
        "disturbed: other processes used 20 to 30% of the CPU in 2 of 3 windows (at concurrency 1)"
    ]
    (note,) = finding_notes([replace(record(), runs=(replace(run(window()), sequential=True),))])
    assert "measured one after the other" in note
