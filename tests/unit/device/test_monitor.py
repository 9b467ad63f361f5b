"""The monitor on the real pynvml and the mock library, in this process."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from pytest_gpuperf.device import Monitor, find_devices
from pytest_gpuperf.device.counter import Span
from pytest_gpuperf.model import Finding, Resources
from pytest_gpuperf.model.finding import COUNTER_RESET, NO_READINGS
from tests.nvml import MockNvml

LOW_W, HIGH_W = 100.0, 400.0


@dataclass
class Wave:
    """A power waveform and its exact integral, as the mock has them."""

    form: str
    epoch_s: float

    def energy_j(self, start_s: float, stop_s: float) -> float:
        return self._until(stop_s - self.epoch_s) - self._until(start_s - self.epoch_s)

    def _until(self, after_s: float) -> float:
        kind, *numbers = self.form.split(":")
        values = [float(number) for number in numbers]
        if kind == "constant":
            return values[0] * after_s
        low, high, span_s = values
        if kind == "square":
            periods, rest_s = divmod(after_s, span_s)
            part = low * min(rest_s, span_s / 2) + high * max(rest_s - span_s / 2, 0.0)
            return periods * span_s * (low + high) / 2 + part
        inside_s = min(max(after_s, 0.0), span_s)
        return low * after_s + (high - low) * (inside_s**2 / (2 * span_s) + max(after_s - span_s, 0.0))


Open = Callable[..., Monitor]


@pytest.fixture
def monitor(mock_nvml: MockNvml, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens monitors of all devices of a mock that is told what to be."""
    ctypes.CDLL(str(mock_nvml.library))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    opened: list[Monitor] = []

    def open_monitor(**settings: object) -> Monitor:
        monkeypatch.setenv("MOCK_NVML", "1")
        for name, value in settings.items():
            monkeypatch.setenv(f"MOCK_NVML_{name}", str(value))
        opened.append(Monitor(find_devices()))
        return opened[-1]

    yield open_monitor
    for one in opened:
        one.close()


def watch(
    one: Monitor,
    window_s: float,
    lead_in_s: float = 0.15,
    device_ids: Sequence[str] = (),
    processes: Sequence[int] | None = None,
) -> tuple[Resources, Span | None]:
    """A window as ``take_window`` takes it, and the aligned interval that its energy was read over."""
    one.attach([os.getpid()] if processes is None else processes, None, local=True, device_ids=device_ids)
    with one.watching():
        time.sleep(lead_in_s)
        start_ns = time.monotonic_ns()
        time.sleep(window_s)
        stop_ns = time.monotonic_ns()
        time.sleep(0.01)
    took = one.window(start_ns, stop_ns)
    return took, one._meters[0].span(start_ns, stop_ns) if one._meters else None


class TestEnergy:
    @pytest.mark.parametrize("tick_s", [0.01, 0.1])
    def test_is_within_one_percent_of_the_truth(self, monitor: Open, tick_s: float) -> None:
        """Windows of 0.5 and 5 s on three GPUs at once, with a waveform each."""
        epoch_s = time.monotonic()
        forms = ["constant:300", f"square:{LOW_W}:{HIGH_W}:0.36", f"ramp:{LOW_W}:{HIGH_W}:9"]
        settings = {f"POWER_{index}": form for index, form in enumerate(forms)}
        one = monitor(COUNT=3, TICK_S=tick_s, EPOCH=epoch_s, **settings)
        assert one.energy_method.startswith("nvml-counter")
        one.attach([os.getpid()], None, local=True)
        late = {0.5, 5.0}
        # A busy machine keeps the follower of the counters from some window's edge. Numbers are right or absent.
        for _ in range(4):
            with one.watching():
                time.sleep(one.fit(0.5, 0.1, 10.0)[1])
                start_ns = time.monotonic_ns()
                time.sleep(one.fit(max(late), 0.1, 10.0)[0])
            for window_s in sorted(late):
                stop_ns = start_ns + int(one.fit(window_s, 0.1, 10.0)[0] * 1e9)
                took = one.window(start_ns, stop_ns)
                edges = []
                for meter, gpu, form in zip(one._meters, took.gpus, forms, strict=False):
                    if (span := meter.span(start_ns, stop_ns)) is None:
                        continue
                    length_ns = span.stop_ns - span.start_ns
                    truth_j = Wave(form, epoch_s).energy_j(span.start_ns / 1e9, span.stop_ns / 1e9)
                    assert span.energy_j == pytest.approx(truth_j, rel=0.01), form
                    assert gpu.power_w == pytest.approx(truth_j / (length_ns / 1e9), rel=0.01)
                    # As long as the window, and no further before it than ticks are apart.
                    grid_ns = meter.rhythm.grid_ns
                    fits = length_ns == pytest.approx(stop_ns - start_ns, abs=1.3 * grid_ns)
                    edges.append(fits and -1.5 * grid_ns < span.start_ns - start_ns <= 0)
                if edges == [True] * len(forms):
                    late.discard(window_s)
            if not late:
                break
        assert not late

    def test_windows_are_a_whole_number_of_ticks_and_long_enough(self, monitor: Open) -> None:
        one = monitor(TICK_S=0.1)
        window_s, lead_in_s = one.fit(0.3, 0.05, 5.0)
        assert window_s == pytest.approx(round(window_s, 1), rel=0.03)
        assert lead_in_s >= 0.1
        slack_s = one._meters[0].rhythm.slack_ns / 1e9
        assert 2 * slack_s <= 0.01 * window_s * 1.001

    @pytest.mark.parametrize("form", ["constant:250", "ramp:100:400:6", "square:100:400:0.4"])
    def test_without_a_counter_power_is_integrated(self, monitor: Open, form: str) -> None:
        epoch_s = time.monotonic()
        one = monitor(ERROR_nvmlDeviceGetTotalEnergyConsumption=3, POWER=form, EPOCH=epoch_s, POWER_TICK_S=0.02)
        assert one.energy_method.startswith("nvml-power")
        took, span = watch(one, 0.8)
        assert span is not None
        truth_j = Wave(form, epoch_s).energy_j(span.start_ns / 1e9, span.stop_ns / 1e9)
        (energy,) = [energy for energy in took.energy if energy.source == "gpu"]
        assert abs(span.energy_j - truth_j) <= span.error_j + 0.01 * truth_j
        if not form.startswith("square"):
            assert span.energy_j == pytest.approx(truth_j, rel=0.01)
        assert energy.method == "nvml-power"

    def test_idle_power_is_told_with_every_window(self, monitor: Open) -> None:
        one = monitor(POWER="constant:70", TICK_S=0.02)
        one.idle()
        took, _ = watch(one, 0.2)
        assert took.energy[0].idle_w == pytest.approx(70, rel=0.02)

    def test_a_driver_reload_in_mid_window_is_a_finding_and_no_number(self, monitor: Open) -> None:
        one = monitor(TICK_S=0.02, RELOAD_AT=time.monotonic() + 0.8)
        time.sleep(0.35)
        took, _ = watch(one, 0.6)
        assert not [energy for energy in took.energy if energy.source == "gpu"]
        assert [failure.kind for failure in took.failures] == [COUNTER_RESET]
        took, _ = watch(one, 0.2)
        assert took.energy
        assert not took.failures

    def test_a_counter_that_stands_still_is_none(self, monitor: Open) -> None:
        one = monitor(POWER="constant:0")
        assert "nvml" not in one.energy_method


class TestPlaces:
    def test_devices_that_the_target_does_not_use_are_none_of_its_business(self, monitor: Open) -> None:
        settings = {"POWER_0": "constant:100", "POWER_1": "constant:200", "MEMORY_MB_0": 512, "MEMORY_MB_1": 1024}
        one = monitor(COUNT=2, TICK_S=0.02, REASONS_0=0x40, **settings)
        one.idle()
        watts, bytes_, throttled = {}, {}, {}
        for device_ids in ((), ("0",), ("GPU-00000001",), ("0", "1"), ("MIG-elsewhere",)):
            for _ in range(4):  # a busy machine may keep the follower of the counters from a window's edge
                took, _ = watch(one, 0.3, device_ids=device_ids)
                if took.energy or device_ids == ("MIG-elsewhere",):
                    break
            watts[device_ids] = sum(energy.energy_j for energy in took.energy if energy.source == "gpu") / 0.3
            bytes_[device_ids] = took.memory.device_bytes if took.memory is not None else None
            throttled[device_ids] = [gpu.throttled for gpu in took.gpus if gpu.throttled]
        assert watts == pytest.approx(
            {(): 300, ("0",): 100, ("GPU-00000001",): 200, ("0", "1"): 300, ("MIG-elsewhere",): 0}, rel=0.05
        )
        assert list(bytes_.values()) == [1536 << 20, 512 << 20, 1024 << 20, 1536 << 20, None]
        assert [len(found) for found in throttled.values()] == [1, 1, 0, 1, 0]

    def test_idle_power_is_that_of_the_devices_in_use(self, monitor: Open) -> None:
        one = monitor(COUNT=2, TICK_S=0.02, POWER_0="constant:100", POWER_1="constant:200")
        one.idle()
        took, _ = watch(one, 0.2, device_ids=("1",))
        assert took.energy[0].idle_w == pytest.approx(200, rel=0.02)


class TestBeside:
    def test_others_of_ours_are_no_co_tenants_and_no_part_of_the_target_s_memory(self, monitor: Open) -> None:
        """The anchor's server, or the other side of a duet, where the target is in this process."""
        code = "x = bytearray(b'1') * (200 << 20); print(1, flush=True); input()"
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            one = monitor(TICK_S=0.02, PROCESSES=f"self:{1 << 20},{child.pid}:{1 << 30}")
            whole, _ = watch(one, 0.2)
            one.add_known_processes([child.pid])
            own, _ = watch(one, 0.2)
            # As the target it has its memory again.
            server, _ = watch(one, 0.2, processes=[child.pid])
            child.communicate(b"\n")
        assert whole.memory is not None
        assert own.memory is not None
        assert server.memory is not None
        assert whole.memory.target_bytes == (1 << 20) + (1 << 30)
        assert (own.memory.target_bytes, server.memory.target_bytes) == (1 << 20, 1 << 30)
        assert whole.memory.host_bytes is not None
        assert own.memory.host_bytes is not None
        assert whole.memory.host_bytes - own.memory.host_bytes > 190 << 20

    def test_what_a_daemon_started_for_us_is_no_co_tenant_either(self, monitor: Open) -> None:
        one = monitor(TICK_S=0.02, PROCESSES="self:1,1:1")
        assert watch(one, 0.2)[0].gpus[0].co_tenants
        one.add_known_processes([1])
        assert not watch(one, 0.2)[0].gpus[0].co_tenants


class TestFailures:
    def test_a_lost_gpu_is_a_finding(self, monitor: Open) -> None:
        one = monitor(TICK_S=0.02, LOST_AT=time.monotonic() + 0.6)
        took, _ = watch(one, 0.7, lead_in_s=0.1)
        assert "nvml_lost" in {failure.kind for failure in took.failures}
        assert not [energy for energy in took.energy if energy.source == "gpu"]

    def test_a_reading_that_fails_alone_is_told_and_leaves_the_others(self, monitor: Open) -> None:
        unknown = 999
        one = monitor(TICK_S=0.02, ERROR_nvmlDeviceGetUtilizationRates=unknown, REASONS=0x40, PROCESSES="self:1,1:1")
        took, _ = watch(one, 0.3)
        (gpu,) = took.gpus
        assert (gpu.utilization, gpu.sm_clock_mhz, gpu.temperature_end_c) == (None, 1980, 55)
        assert gpu.throttled == ("hw_thermal",)
        assert gpu.co_tenants
        assert gpu.samples >= 3
        assert took.memory is not None
        assert took.memory.device_bytes
        assert [energy for energy in took.energy if energy.source == "gpu"]
        (failure,) = took.failures
        assert failure.kind == "nvml_other"
        assert "utilisation (GPU 0): Unknown Error" in failure.detail

    def test_processes_that_can_not_be_listed_are_told_as_well(
        self, monitor: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = monitor(TICK_S=0.02)
        monkeypatch.setenv("MOCK_NVML_ERROR_nvmlDeviceGetComputeRunningProcesses_v3", "999")
        took, _ = watch(one, 0.3)
        assert took.gpus[0].samples >= 3
        assert [(failure.kind, "processes" in failure.detail) for failure in took.failures] == [("nvml_other", True)]

    def test_a_gpu_that_tells_nothing_beside_one_that_does(
        self, monitor: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = monitor(TICK_S=0.02, COUNT=2)
        for name in ("ClockInfo", "TemperatureV", "UtilizationRates", "CurrentClocksEventReasons", "MemoryInfo"):
            monkeypatch.setenv(f"MOCK_NVML_ERROR_nvmlDeviceGet{name}_1", "999")
        took, _ = watch(one, 0.3)
        (gpu,) = took.gpus
        assert gpu.uuid.startswith("GPU-00000000")
        assert {NO_READINGS, "nvml_other"} == {failure.kind for failure in took.failures}
        assert Finding(NO_READINGS, names=("1",)) in took.failures

    def test_a_window_too_short_for_a_reading_has_the_one_before_it(self, monitor: Open) -> None:
        took, _ = watch(monitor(TICK_S=0.02, COUNT=2), 0.001)
        assert [gpu.samples for gpu in took.gpus] == [1, 1]
        assert NO_READINGS not in {failure.kind for failure in took.failures}

    def test_what_this_user_may_not_see_is_left_out(self, monitor: Open) -> None:
        names = ("ComputeRunningProcesses_v3", "ClockInfo", "CurrentClocksEventReasons", "UtilizationRates")
        one = monitor(TICK_S=0.02, **{f"ERROR_nvmlDeviceGet{name}": 4 for name in names})
        took, _ = watch(one, 0.2)
        (gpu,) = took.gpus
        assert (gpu.sm_clock_mhz, gpu.utilization, gpu.throttled, gpu.co_tenants) == (None, None, (), ())
        assert gpu.temperature_end_c == 55
        assert not took.failures


class TestOldDrivers:
    function_not_found = 13

    def old(self, *names: str) -> dict[str, object]:
        return {f"ERROR_nvmlDeviceGet{name}": self.function_not_found for name in names}

    def test_their_own_functions_are_asked(self, monitor: Open) -> None:
        """Before R510 and R535 these functions had other names."""
        old = self.old("ComputeRunningProcesses_v3", "CurrentClocksEventReasons", "TemperatureV")
        took, _ = watch(monitor(TICK_S=0.02, REASONS=0x40, PROCESSES="self:1,1:1", TEMPERATURE=61, **old), 0.2)
        (gpu,) = took.gpus
        assert gpu.throttled == ("hw_thermal",)
        assert [other.split()[0] for other in gpu.co_tenants] == ["1"]
        assert gpu.temperature_end_c == 61
        assert not took.failures

    def test_what_none_of_them_tells_is_left_out(self, monitor: Open) -> None:
        took, _ = watch(monitor(**self.old("ComputeRunningProcesses_v3", "ComputeRunningProcesses_v2")), 0.2)
        assert (took.gpus[0].co_tenants, took.gpus[0].sm_clock_mhz) == ((), 1980)
        assert not took.failures

    def test_bindings_without_the_new_names_have_the_old_ones(
        self, monitor: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The package pynvml, which may lie where nvidia-ml-py should."""
        for name in ("CurrentClocksEventReasons", "ComputeRunningProcesses_v2", "TemperatureV"):
            monkeypatch.delattr(f"pynvml.nvmlDeviceGet{name}", raising=False)
        took, _ = watch(monitor(TICK_S=0.02, REASONS=0x40), 0.2)
        assert took.gpus[0].throttled == ("hw_thermal",)
        assert [energy for energy in took.energy if energy.source == "gpu"]


class TestFigures:
    def test_clocks_temperatures_and_reasons_are_those_of_the_window(self, monitor: Open) -> None:
        now = time.monotonic()
        one = monitor(
            TICK_S=0.02,
            SM_MHZ=f"1980,{now + 0.6}:1500",
            TEMPERATURE=f"50,{now + 0.6}:58",
            REASONS=f"1,{now + 0.6}:68",
            UTILIZATION=80,
        )
        took, _ = watch(one, 0.9, lead_in_s=0.05)
        (gpu,) = took.gpus
        assert (gpu.sm_clock_min_mhz, gpu.sm_clock_max_mhz) == (1500, 1980)
        assert (gpu.temperature_begin_c, gpu.temperature_end_c) == (50, 58)
        assert gpu.throttled == ("sw_power_cap", "hw_thermal")
        assert gpu.utilization == pytest.approx(0.8)
        assert gpu.samples >= 4

    def test_memory_is_the_target_s_the_device_s_and_the_host_s(self, monitor: Open) -> None:
        now = time.monotonic()
        one = monitor(
            TICK_S=0.02, MEMORY_MB=f"1000,{now + 0.5}:3000,{now + 0.8}:2000", PROCESSES=f"self:{64 << 20},1:{1 << 30}"
        )
        took, _ = watch(one, 0.8, lead_in_s=0.05)
        assert took.memory is not None
        assert took.memory.target_bytes == 64 << 20
        assert took.memory.device_bytes == 3000 << 20
        assert took.memory.host_bytes is not None
        assert 10 << 20 < took.memory.host_bytes < 100 << 30

    def test_memory_that_nvml_does_not_tell_is_not_zero(self, monitor: Open) -> None:
        one = monitor(TICK_S=0.02, PROCESSES="self:none")
        took, _ = watch(one, 0.2)
        assert took.memory is not None
        assert took.memory.target_bytes is None

    def test_co_tenants_are_those_that_do_not_descend_from_us(self, monitor: Open) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            one = monitor(TICK_S=0.02, PROCESSES=f"self:1,{child.pid}:1,1:1")
            took, _ = watch(one, 0.2)
            child.communicate(b"\n")
        (gpu,) = took.gpus
        assert [other.split()[0] for other in gpu.co_tenants] == ["1"]

    def test_a_slice_has_its_own_memory_and_its_gpu_s_clocks(self, monitor: Open) -> None:
        one = monitor(MIG="3:1g.10gb", SM_MHZ=1410, MEMORY_MB=512)
        assert "nvml" not in one.energy_method
        took, _ = watch(one, 0.2)
        (gpu,) = took.gpus
        assert gpu.uuid.startswith("MIG-")
        assert (gpu.sm_clock_mhz, gpu.utilization) == (1410, None)
        assert took.memory is not None
        assert took.memory.device_bytes == 512 << 20


def test_the_target_elsewhere_takes_nothing_here(monitor: Open) -> None:
    one = monitor(TICK_S=0.02)
    one.attach([], None, local=False)
    with one.watching():
        time.sleep(0.15)
    stop_ns = time.monotonic_ns()
    took = one.window(stop_ns - 100_000_000, stop_ns)
    assert (took.energy, took.memory, took.gpus) == ((), None, ())
    assert one.fit(0.3, 0.05, 5.0) == (0.3, 0.05)
