"""The device layer on a real GPU."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from pytest_gpuperf.device import Device, Monitor, find_device, find_devices
from pytest_gpuperf.model import Resources


@pytest.fixture(scope="module")
def monitor(real_gpu: Device) -> Iterator[Monitor]:
    monitor = Monitor([real_gpu])
    yield monitor
    monitor.close()


@pytest.fixture(scope="module")
def work() -> Callable[[], object]:
    """Return a matrix product of a few milliseconds, with the first library that is installed."""
    torch = pytest.importorskip("torch", reason="no library here that computes on the GPU")
    if not torch.cuda.is_available():
        pytest.skip("this torch can't use the GPU")
    matrix = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)

    def multiply() -> object:
        product = matrix @ matrix
        torch.cuda.synchronize()
        return product

    return multiply


def watch(monitor: Monitor, seconds: float, work: Callable[[], object] | None = None) -> Resources:
    window_s, lead_in_s = monitor.fit(seconds, 0.1, 10.0)
    monitor.attach([os.getpid()], None, local=True)

    def go_on(until_s: float) -> None:
        while time.monotonic() < until_s:
            if work is None:
                time.sleep(0.01)
            else:
                work()

    with monitor.watching():
        go_on(time.monotonic() + lead_in_s)
        start_ns = time.monotonic_ns()
        go_on(start_ns / 1e9 + window_s)
        stop_ns = time.monotonic_ns()
    return monitor.window(start_ns, stop_ns)


def test_each_name_of_the_gpu_selects_it(real_gpu: Device) -> None:
    assert real_gpu.visible == real_gpu.id
    assert find_device(real_gpu.id).id == real_gpu.id
    assert real_gpu.id in {device.id for device in find_devices()}
    assert real_gpu.memory_bytes
    assert real_gpu.environment["driver"]


def test_its_key_has_no_live_reading(real_gpu: Device) -> None:
    time.sleep(0.5)
    assert find_device(real_gpu.id).key == real_gpu.key


def test_energy_is_measured(real_gpu: Device, monitor: Monitor) -> None:
    if not real_gpu.energy_method.startswith("nvml"):
        pytest.skip("the energy of a MIG slice cannot be measured")
    took = watch(monitor, 2.0)
    energy = next(reading for reading in took.energy if reading.source == "gpu")
    assert energy.energy_j > 0
    assert energy.error_j < 0.05 * energy.energy_j
    limit_w = real_gpu.key["power_limit_w"]
    assert isinstance(limit_w, int)
    assert 1 < energy.energy_j / 2.0 < 1.5 * limit_w
    assert not took.failures


def test_readings_are_plausible(monitor: Monitor) -> None:
    took = watch(monitor, 1.0)
    (gpu,) = took.gpus
    assert gpu.samples >= 5
    assert gpu.sm_clock_mhz is None or 100 < gpu.sm_clock_mhz < 5000
    assert gpu.temperature_end_c is None or 5 < gpu.temperature_end_c < 110
    assert took.memory is not None
    assert took.memory.device_bytes
    assert took.memory.host_bytes


def test_watching_costs_under_one_percent_of_a_core(monitor: Monitor) -> None:
    begin_cpu_s, begin_s = monitor.cpu_s, time.monotonic()
    watch(monitor, 5.0)
    share = (monitor.cpu_s - begin_cpu_s) / (time.monotonic() - begin_s)
    print(f"the sampler took {share:.2%} of one core")  # noqa: T201
    assert share < 0.01


def test_work_takes_power_and_memory(real_gpu: Device, monitor: Monitor, work: Callable[[], object]) -> None:
    idle, busy = watch(monitor, 2.0), watch(monitor, 2.0, work)
    if real_gpu.energy_method.startswith("nvml"):
        assert busy.energy[0].energy_j > idle.energy[0].energy_j
    assert busy.memory is not None
    target_bytes = busy.memory.target_bytes
    assert target_bytes is None or target_bytes > 32 << 20


def test_a_sweep_of_a_callable_has_energy_and_memory(
    real_gpu: Device, work: Callable[[], object], pytester: pytest.Pytester
) -> None:
    assert work()
    pytester.makepyfile(
        test_suite="""
        import torch

        def test_product(gpuperf, gpu):
            matrix = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)

            def multiply():
                matrix @ matrix
                torch.cuda.synchronize()

            point = gpuperf.measure(multiply)
            assert point.throughput > 0
            assert point.device_memory_bytes > 32 << 20
            assert (point.gpu_energy_j is not None) == gpu.energy_method.startswith("nvml")
        """
    )
    result = pytester.runpytest_subprocess("--gpuperf", "--gpuperf-runs=2", "-p", "no:benchmark")
    result.assert_outcomes(passed=1)
    if real_gpu.energy_method.startswith("nvml"):
        result.stdout.fnmatch_lines(["*energy per inference: GPU*"])
