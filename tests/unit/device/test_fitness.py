from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_gpuperf.device.fitness import DOUBTFUL, GOOD, UNFIT, UNKNOWN, Check, host_checks, noise_checks, verdict
from pytest_gpuperf.device.host import Host
from pytest_gpuperf.device.noise import Noise, measure_noise

QUIET = Host(
    cores=8,
    governors={"performance": 8},
    turbo=False,
    memory_bytes=32 << 30,
    available_bytes=20 << 30,
    swap_used_bytes=0,
    swapped_bytes_per_s=0.0,
    quota_cores=None,
    open_files=65536,
    clock_source="tsc",
)
CALM = Noise(windows=33, window_s=0.3, spread=0.004, stall_s=0.001, others_share=0.01)


def of(checks: list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


def test_a_well_kept_machine_is_fit() -> None:
    checks = [*host_checks(QUIET), *noise_checks(CALM)]
    assert {check.state for check in checks} == {GOOD}
    assert not any(check.remedy for check in checks)
    assert verdict(checks) == GOOD


@pytest.mark.parametrize(
    ("change", "name", "state", "remedy"),
    [
        ({"governors": {"powersave": 8}}, "CPU governor", DOUBTFUL, "cpupower"),
        ({"governors": {"performance": 7, "powersave": 1}}, "CPU governor", DOUBTFUL, "cpupower"),
        ({"governors": {}}, "CPU governor", UNKNOWN, ""),
        ({"turbo": None}, "CPU turbo", UNKNOWN, ""),
        ({"turbo": True}, "CPU turbo", GOOD, ""),
        ({"swapped_bytes_per_s": 1e6}, "swap", UNFIT, "swapoff"),
        ({"swap_used_bytes": 1 << 20}, "swap", DOUBTFUL, "swapoff"),
        ({"swapped_bytes_per_s": None}, "swap", UNKNOWN, ""),
        ({"available_bytes": 1 << 30}, "memory", DOUBTFUL, "ps aux"),
        ({"memory_bytes": 0}, "memory", UNKNOWN, ""),
        ({"quota_cores": 2.5}, "CPU quota", DOUBTFUL, "cpuset"),
        ({"quota_cores": 8.0}, "CPU quota", GOOD, ""),
        ({"open_files": 1024}, "files", DOUBTFUL, "ulimit -n"),
        ({"clock_source": "hpet"}, "clock", DOUBTFUL, "clocksource=tsc"),
        ({"clock_source": ""}, "clock", UNKNOWN, ""),
    ],
)
def test_a_problem_is_reported_with_its_remedy(change: dict[str, object], name: str, state: str, remedy: str) -> None:
    checks = host_checks(replace(QUIET, **change))  # type: ignore[arg-type]
    check = of(checks, name)
    assert check.state == state
    assert remedy in check.remedy
    assert bool(check.remedy) == (state in (UNFIT, DOUBTFUL))
    assert all(other.state == GOOD for other in checks if other.name != name)


@pytest.mark.parametrize(
    ("change", "name", "state"),
    [
        ({"spread": 0.05}, "noise floor", DOUBTFUL),
        ({"spread": 0.5}, "noise floor", UNFIT),
        ({"others_share": 0.2}, "co-tenants of the CPU", DOUBTFUL),
        ({"others_share": 0.9}, "co-tenants of the CPU", UNFIT),
        ({"others_share": None}, "co-tenants of the CPU", UNKNOWN),
        ({"stall_s": 0.3}, "stalls", DOUBTFUL),
    ],
)
def test_noise(change: dict[str, object], name: str, state: str) -> None:
    check = of(noise_checks(replace(CALM, **change)), name)  # type: ignore[arg-type]
    assert check.state == state
    assert ("gpuperf duet" in check.remedy) == (state in (UNFIT, DOUBTFUL))


def test_the_worst_counts_and_the_unknown_does_not() -> None:
    checks = [Check("a", state, "") for state in (GOOD, UNKNOWN)]
    assert verdict(checks) == GOOD
    assert verdict([*checks, Check("b", DOUBTFUL, "")]) == DOUBTFUL
    assert verdict([Check("c", UNFIT, ""), Check("b", DOUBTFUL, ""), *checks]) == UNFIT


def test_noise_is_measured_over_all_windows() -> None:
    found = measure_noise(0.2, window_s=0.05)
    assert found.windows == 4
    assert found.spread >= 0
    assert found.stall_s >= 0
    assert found.others_share is None or 0 <= found.others_share <= 1
