"""Rows of the table of error rates about fleets: suites of many tests on several devices."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from benchmarks.simulated_fleet import Drift, Fleet, judged
from benchmarks.simulated_gate import Line
from benchmarks.suite_gate import Judged
from pytest_gpuperf.analysis.robust import BoolArray

#: Standard deviations of invocations and of runs.
SPREADS = [(0.003, 0.003), (0.01, 0.01), (0.02, 0.02), (0.02, 0.003), (0.003, 0.02)]
SHARED = (0.0, 0.5, 1.0)
#: Part of the usual repetitions, by the number of tests.
EFFORT = {1: 0.5, 10: 0.2, 50: 0.05, 200: 0.015}


def any_alarm(verdicts: Judged) -> bool:
    """Whether any test or the common mode regressed."""
    return bool(verdicts.regressed.any()) or verdicts.common


def first_regressed(verdicts: Judged) -> bool:
    """Whether the first test regressed; the common mode of a single test is its change, too."""
    return bool(verdicts.regressed[0]) or (verdicts.common and len(verdicts.regressed) == 1)


def everything_regressed(verdicts: Judged) -> bool:
    """Whether the common mode or each test regressed."""
    return verdicts.common or bool(verdicts.regressed.all())


def others_regressed(changed: int) -> Callable[[Judged], bool]:
    return lambda verdicts: bool(verdicts.regressed[changed:].any())


def changed_regressed(changed: int) -> Callable[[Judged], BoolArray]:
    return lambda verdicts: np.asarray(verdicts.regressed[:changed])


def unchanged(verdicts: Judged) -> BoolArray:
    return verdicts.unchanged


def fleet_line(
    what: str,
    fleets: Iterable[Fleet],
    bound: float = 0.05,
    answer: Callable[[Judged], BoolArray | bool] = any_alarm,
    *,
    power: bool = False,
) -> Line:
    cases = list(fleets)
    effort = EFFORT[max(fleet.tests for fleet in cases)]
    return Line(what, [(fleet.label, judged(fleet, answer)) for fleet in cases], bound, power, effort)


def counted(records: int) -> str:
    return f"{records} record{'s' * (records > 1)}"


def worlds(fleet: Fleet, spreads: Iterable[tuple[float, float]] = SPREADS) -> list[Fleet]:
    """Return a fleet with all spreads, and with all parts of the effects of invocations shared."""
    return [
        replace(fleet, invocation_sd=invocation_sd, run_sd=run_sd, shared=shared)
        for (invocation_sd, run_sd), shared in itertools.product(spreads, SHARED)
    ]


def fleet_lines() -> Iterator[Line]:
    """Yield the rows."""
    for tests, records in itertools.product((1, 10, 50, 200), (1, 3, 10, 20, 50)):
        yield fleet_line(f"A/A, suite of {tests}, {counted(records)}", worlds(Fleet(tests, records)))
    for shape, tests in itertools.product(("heavy-tailed", "bimodal"), (1, 10, 50)):
        cases = [fleet for records in (3, 20) for fleet in worlds(Fleet(tests, records, shape=shape))]
        yield fleet_line(f"A/A, suite of {tests}, runs {shape}", cases)
    yield fleet_line(
        "A/A, suite of 10, invocations heavy-tailed",
        [fleet for records in (3, 20) for fleet in worlds(Fleet(records=records, invocation_shape="heavy-tailed"))],
    )
    yield from device_lines()
    for later, each_test, records in itertools.product((1, 20), (False, True), (20, 3)):
        cases = [
            fleet
            for tests in (1, 10)
            for fleet in worlds(Fleet(tests, records, drift=Drift(0.03, later, each_test)), SPREADS[:2])
        ]
        what = f"A/A, {'each test' if each_test else 'the machine'} drifts, sd 3%, {counted(records)}"
        yield fleet_line(f"{what}, candidate {later} invocation{'s' * (later > 1)} later", cases)
    for records in (3, 10, 20, 50):
        cases = [
            fleet
            for tests in (1, 10)
            for step in (0.05, -0.05)
            for fleet in worlds(Fleet(tests, records, step=step), SPREADS[:3])
        ]
        yield fleet_line(f"A/A, the machine changed by 5% in the middle of {records} records", cases)
    yield from power_lines()
    yield from unchanged_lines()


def device_lines() -> Iterator[Line]:
    for devices, new_device, suites in itertools.product((1, 2, 4, 8), (False, True), ((1, 10), (50,))):
        if devices == 1 and not new_device:
            continue
        cases = [
            Fleet(tests, records, invocation_sd, run_sd, 0.5, devices, device_sd, new_device)
            for tests in suites
            for records in (3, 20)
            for device_sd in (0.01, 0.03)
            for invocation_sd, run_sd in ((0.003, 0.003), (0.005, 0.01), (0.01, 0.01))
            if records >= devices
        ]
        history = f"records of {devices} device{'s' * (devices > 1)}"
        what = f"A/A, suite of {' or '.join(map(str, suites))}, {history}"
        yield fleet_line(f"{what}, candidate on a {'new' if new_device else 'known'} one", cases)


def power_lines() -> Iterator[Line]:
    """Yield rows of what is found.

    With known spreads, and with a single number for each test and all of its part of alpha, +5% in one test of 50 would
    be found with a power of 85% where the tests share nothing.
    """
    for tests in (1, 10, 50, 200):
        for (records, effect, bound), shared in itertools.product(
            ((20, 0.05, 0.75), (3, 0.1, 0.7), (3, 0.2, 0.95)), SHARED
        ):
            fleet = Fleet(tests, records, shared=shared, changed=1, effect=effect)
            what = f"{effect:+.0%} in a single test of {tests}, {records} records, sd 1%/1%, {shared:.0%} shared"
            yield fleet_line(what, [fleet], bound if tests == 50 else 0.0, first_regressed, power=True)
    for effect, devices, new_device in ((0.05, 4, False), (0.1, 4, True), (0.2, 4, True), (0.2, 1, True)):
        fleet = Fleet(devices=devices, device_sd=0.03, new_device=new_device, changed=1, effect=effect)
        cases = worlds(fleet, SPREADS[1:2])
        where = f"records of {devices} devices, sd 3%, on a {'new' if new_device else 'known'} one"
        yield fleet_line(f"{effect:+.0%} in a single test of 10, {where}", cases, 0.0, first_regressed, power=True)
    for tests, bound in ((10, 0.9), (50, 0.9)):
        cases = worlds(Fleet(tests, changed=tests, effect=0.06), SPREADS[1:2])
        yield fleet_line(f"+6% in all of {tests} tests, 20 records", cases, bound, everything_regressed, power=True)
    for tests, effect in ((50, 0.05), (50, 0.1), (50, 0.2)):
        changed = tests // 10
        cases = worlds(Fleet(tests, changed=changed, effect=effect), SPREADS[1:2])
        what = f"{effect:+.0%} in a tenth of {tests} tests"
        bound = 0.9 if effect >= 0.1 else 0.0
        yield fleet_line(f"{what}, 20 records", cases, bound, changed_regressed(changed), power=True)
        yield fleet_line(f"{what}: one of the others is red", cases, 0.05, others_regressed(changed))


def unchanged_lines() -> Iterator[Line]:
    """Yield rows of what two records, three, and six can show.

    With a standard deviation of 2%, a difference from five records spreads by 2.5% where the tests share nothing. Even
    with known spreads, two one-sided tests then put it inside 5% in 22% of the comparisons, so nothing is required.
    """
    for spread, wanted, further in ((0.003, 1, (2,)), (0.01, 2, (3, 6)), (0.02, 5, (6, 10, 20))):
        for records, shared in itertools.product((wanted, *further), SHARED):
            fleet = Fleet(records=records, invocation_sd=spread, run_sd=spread, shared=shared)
            what = f"unchanged, suite of 10, {counted(records)}, sd {spread:.1%}, {shared:.0%} shared"
            is_required = records == wanted and (spread < 0.02 or shared == 1)
            yield fleet_line(what, [fleet], 0.5 if is_required else 0.0, unchanged, power=True)
