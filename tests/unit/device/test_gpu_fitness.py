from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from pytest_gpuperf.device.fitness import DOUBTFUL, GOOD, UNFIT, UNKNOWN
from pytest_gpuperf.device.gpu_fitness import device_checks
from tests.nvml import MockNvml

_LOOK = """
import dataclasses, json, sys
from pytest_gpuperf.device.gpu_fitness import device_checks
print(json.dumps([dataclasses.asdict(check) for check in device_checks(*sys.argv[1:])]))
"""
NOT_SUPPORTED = 3


def look(mock: MockNvml, *wanted: str, **settings: object) -> dict[str, dict[str, str]]:
    """What is found where NVML is as the mock is told to be."""
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, *wanted],
        env=mock.environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {check["name"]: check for check in json.loads(done.stdout)}


def test_a_well_kept_gpu_is_fit(mock_nvml: MockNvml) -> None:
    checks = look(mock_nvml)
    assert {check["state"] for check in checks.values()} == {GOOD}
    assert not any(check["remedy"] for check in checks.values())
    assert checks["energy source"]["observed"].startswith("nvml-counter")
    assert checks["co-tenants of the GPU"]["observed"] == "none"


@pytest.mark.parametrize(
    ("settings", "name", "state", "remedy"),
    [
        ({"PERSISTENCE": 0}, "persistence mode", DOUBTFUL, "nvidia-smi -i 0 -pm 1"),
        ({"REASONS": 0x40}, "clocks", UNFIT, "cooling"),
        ({"REASONS": 0x4}, "clocks", UNFIT, "nvidia-smi -i 0 -pl"),
        ({"REASONS": 0x1}, "clocks", GOOD, ""),
        (
            {f"ERROR_nvmlDeviceGetCurrentClocks{name}Reasons": NOT_SUPPORTED for name in ("Event", "Throttle")},
            "clocks",
            UNKNOWN,
            "",
        ),
        ({"TEMPERATURE": 88}, "temperature", DOUBTFUL, "cool"),
        ({"PROCESSES": "1:1000000"}, "co-tenants of the GPU", UNFIT, "--gpuperf-device"),
        ({"PCIE_WIDTH": 4}, "PCIe link", DOUBTFUL, "riser"),
        ({"ERROR_nvmlDeviceGetPersistenceMode": NOT_SUPPORTED}, "persistence mode", UNKNOWN, ""),
    ],
)
def test_what_is_wrong_is_named_with_what_mends_it(
    mock_nvml: MockNvml, settings: dict[str, object], name: str, state: str, remedy: str
) -> None:
    check = look(mock_nvml, **settings)[name]
    assert check["state"] == state
    assert remedy in check["remedy"]
    assert bool(check["remedy"]) == (state in (UNFIT, DOUBTFUL))


def test_the_command_names_the_gpu_that_was_asked_for(mock_nvml: MockNvml) -> None:
    found = look(mock_nvml, "2", COUNT=3, PERSISTENCE=0)
    assert "-i 2 " in found["persistence mode"]["remedy"]


def test_a_slice_is_looked_at(mock_nvml: MockNvml) -> None:
    found = look(mock_nvml, MIG="2:1g.10gb")
    assert "MIG 1g.10gb" in found["device"]["observed"]


def test_a_driver_that_does_not_work_is_a_finding(mock_nvml: MockNvml) -> None:
    found = look(mock_nvml, ERROR_nvmlDeviceGetCount_v2=999)
    assert found["device"]["state"] == UNFIT


def test_a_gpu_that_fails_half_way_is_a_finding_beside_what_was_found(mock_nvml: MockNvml) -> None:
    found = look(mock_nvml, ERROR_nvmlDeviceGetCurrentClocksEventReasons=15)
    assert found["device"]["state"] == UNFIT
    assert "lost" in found["device"]["observed"]
    assert found["device"]["remedy"]
    assert found["persistence mode"]["state"] == GOOD


def test_on_the_cpu() -> None:
    checks = {check.name: asdict(check) for check in device_checks("cpu")}
    assert checks["device"]["state"] == GOOD
    energy = checks["energy source"]
    # The zones are links, which chmod -R does not follow.
    assert energy["state"] == GOOD or "chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj" in energy["remedy"]
