"""A GPU, played by the mock of NVML."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.invocations import record_files
from tests.nvml import MockNvml

SUITE = """
    import os
    import time

    def test_sleep(gpuperf):
        gpuperf.sweep(lambda: time.sleep(0.004), concurrency=2, name="sleep", window_s=0.2)
"""
SLICE = "MIG-00000000-0005-2222-3333-444444444444"
COMMON = ("--gpuperf", "--gpuperf-runs=2", "-p", "no:benchmark")

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, mock_nvml: MockNvml, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``pytest --gpuperf ARGUMENTS`` with a mock GPU; keywords are its settings."""

    def run_pytest(*arguments: str, **settings: object) -> pytest.RunResult:
        with monkeypatch.context() as patch:
            patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
            for name, value in mock_nvml.environment(**{"TICK_S": 0.02, **settings}).items():
                patch.setenv(name, value)
            return pytester.runpytest_subprocess(*COMMON, *arguments)

    return run_pytest


def stored(pytester: pytest.Pytester) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes())["record"] for path in record_files(pytester.path)]


def windows_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [window for run in record["runs"] for window in run["windows"]]


def guards_of(window: dict[str, Any]) -> set[str]:
    """The guards of its findings, without what a busy machine adds: it keeps the callers waiting."""
    return {finding["guard"] for finding in window["findings"] if finding["guard"]} - {"starved"}


def test_energy_and_memory_are_shown_stored_and_gated(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=SUITE)
    first = run("-v", POWER="constant:300", PROCESSES=f"self:{128 << 20}")
    first.assert_outcomes(passed=1)
    text = first.stdout.str()
    shown = re.search(r"energy per inference: GPU (\S+) mJ at concurrency 2 \(nvml-counter", text)
    assert shown, text
    # Two calls of 4 ms at a time, at 300 W; a busy machine takes longer.
    assert float(shown[1]) == pytest.approx(620, rel=0.3)
    assert "peak memory: target on the device 128.0 MiB, whole device 2.00 GiB, host" in text
    (record,) = stored(pytester)
    assert record["key"]["energy_method"].startswith("nvml-counter")
    readings = [
        (window, reading) for window in windows_of(record) for reading in window["energy"] if reading["source"] == "gpu"
    ]
    assert len(readings) >= len(windows_of(record)) / 2
    for window, energy in readings:
        assert energy["energy_j"] / window["window_s"] == pytest.approx(300, rel=0.03)
        assert energy["idle_w"] == pytest.approx(300, rel=0.03)
        assert window["gpus"][0]["sm_clock_mhz"] == 1980
        assert not guards_of(window)
    again = run(POWER="constant:1200", PROCESSES=f"self:{128 << 20}")
    again.assert_outcomes(failed=1)
    assert re.search(r"concurrency 2 +energy +\S+ mJ +\S+ J +(?:\+\d+%|x[\d.]+) \[", again.stdout.str())


def test_disturbed_windows_are_repeated_and_marked_if_all_are_disturbed(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=SUITE)
    result = run(REASONS=0x40)
    result.stdout.fnmatch_lines(
        [
            "*! concurrency 2 is less reliable*throttled*",
            "*disturbed: thermal throttling (hw_thermal) in *",
        ]
    )
    (record,) = stored(pytester)
    assert all(guards_of(window) == {"throttled"} for window in windows_of(record))
    # Three visits; a point disturbed in two visits in a row is not repeated.
    # A busy machine also keeps callers waiting for the CPU; that comes and goes, so it is worth further windows.
    for windows in (run["windows"] for run in record["runs"]):
        waited = any(finding["guard"] == "starved" for window in windows for finding in window["findings"])
        assert len(windows) == 5 or (waited and len(windows) == 6)


def test_a_failed_reading_is_reported_and_leaves_the_guard_on(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=SUITE)
    result = run(REASONS=0x40, ERROR_nvmlDeviceGetUtilizationRates=999)
    result.stdout.fnmatch_lines(["*NVML can't read the utilisation (GPU 0): Unknown Error*"])
    (record,) = stored(pytester)
    assert all(guards_of(window) == {"throttled"} for window in windows_of(record))


def test_a_mig_slice_is_a_device(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import os, time

        def test_slice(gpuperf, gpu):
            assert (gpu.kind, gpu.mig_profile) == ("gpu", "2g.20gb")
            assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu.visible == gpu.id
            gpuperf.sweep(lambda: time.sleep(0.004), name="sleep", window_s=0.1)
        """
    )
    result = run("-v", f"--gpuperf-device={SLICE}", MIG="2:1g.10gb,5:2g.20gb", MEMORY_MB=700)
    result.assert_outcomes(passed=1)
    text = result.stdout.str()
    assert "gpuperf: device under test: GPU NVIDIA Mock 80GB MIG 2g.20gb" in text
    assert "energy per inference: GPU" not in text
    assert "whole device 700" in text
    (record,) = stored(pytester)
    assert record["key"]["mig_profile"] == "2g.20gb"
    assert record["environment"]["gpu_uuid"] == SLICE
    assert not [reading for window in windows_of(record) for reading in window["energy"] if reading["source"] == "gpu"]


def test_the_cpu_by_name_hides_the_gpus_and_a_test_still_finds_them(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import os

        def test_hidden(gpu, triton_endpoint):
            assert (gpu.kind, os.environ["CUDA_VISIBLE_DEVICES"]) == ("cpu", "")
            assert gpu().kind == "gpu"
            assert triton_endpoint("m.onnx").visible == gpu().visible
        """
    )
    run("--gpuperf-device=cpu").assert_outcomes(passed=1)


def test_a_test_asks_for_slices_and_for_several_gpus(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import time

        def sweep(gpuperf):
            gpuperf.sweep(lambda: time.sleep(0.002), name="sleep", window_s=0.05)

        def test_slice(gpuperf, gpu, tensorrt_engine):
            assert tensorrt_engine("m.plan").device_ids == ()
            assert gpu(mig="1g.10gb").visible.startswith("MIG-00000002-0003")
            assert tensorrt_engine("m.plan").visible.startswith("MIG-00000002-0003")
            assert tensorrt_engine("m.plan", visible="").device_ids == ()
            sweep(gpuperf)

        def test_pair(gpuperf, gpu):
            assert [device.index for device in gpu(count=2)] == [0, 1]
            sweep(gpuperf)

        def test_too_many(gpu):
            gpu(count=3)

        def test_no_such_slice(gpu):
            gpu(mig="7g.80gb")

        def test_nonsense(gpu):
            gpu(count=0)
        """
    )
    result = run("-rs", COUNT=3, MIG_2="3:1g.10gb", POWER_0="constant:100", POWER_1="constant:200")
    result.assert_outcomes(passed=2, skipped=2, failed=1)
    result.stdout.fnmatch_lines(["*needs 3 GPUs of one model; this machine has: GPU NVIDIA Mock 80GB, *MIG 1g.10gb*"])
    assert "write how many devices" in result.stdout.str()
    keys = {record["test"].rpartition("::")[2]: record["key"] for record in stored(pytester)}
    assert (keys["test_slice"]["mig_profile"], keys["test_slice"]["device_count"]) == ("1g.10gb", 1)
    assert (keys["test_pair"]["mig_profile"], keys["test_pair"]["device_count"]) == (None, 2)
    pair = next(document for document in stored(pytester) if document["test"].endswith("test_pair"))
    readings = [
        (window, reading) for window in windows_of(pair) for reading in window["energy"] if reading["source"] == "gpu"
    ]
    # On a busy machine the thread that reads two counters may miss the edge of a window.
    assert len(readings) >= len(windows_of(pair)) / 2
    for window, energy in readings:
        assert energy["energy_j"] / window["window_s"] == pytest.approx(300, rel=0.05)
        assert len(window["gpus"]) == 2


PLACED = """
    import os
    import time
    from dataclasses import dataclass

    import pytest
    from pytest_gpuperf import CallTarget

    @dataclass(frozen=True)
    class CallOnDevices(CallTarget):
        device_ids: tuple = ()

        def start(self):
            started = super().start()
            started.device_ids = self.device_ids
            return started

    def call_on(*device_ids):
        return CallOnDevices(lambda: time.sleep(0.002), label="sleep", device_ids=device_ids)
"""


def test_a_test_is_measured_where_its_targets_compute(run: Run, pytester: pytest.Pytester) -> None:
    """A target's device counts, whichever fixture made it and however it is named, in every test that uses it."""
    pytester.makepyfile(
        test_suite=PLACED
        + """
    @pytest.fixture(scope="module")
    def fleet(gpu):
        return call_on(*(device.visible for device in gpu(count=2)))

    @pytest.mark.parametrize("n", [1, 2])
    def test_both(gpuperf, fleet, n):
        gpuperf.sweep(fleet, window_s=0.1)

    def test_named(gpuperf):
        gpuperf.sweep(call_on("MIG-00000002-0003"), window_s=0.1)

    def test_one_of_two(gpuperf, gpu):
        first, second = gpu(count=2)
        gpuperf.sweep(call_on(second.visible), name="second", window_s=0.1)
        gpuperf.sweep(call_on(first.visible), name="first", window_s=0.1)

    def test_later_elsewhere(gpuperf):
        gpuperf.sweep(call_on("0"), name="first", window_s=0.1)
        gpuperf.sweep(call_on("1"), name="second", window_s=0.1)

    def test_nowhere(gpuperf):
        gpuperf.sweep(call_on("7"))

    def test_endpoints_are_put_there(gpu, triton_endpoint, triton_fleet):
        assert triton_endpoint("m.onnx").visible == gpu.visible
        both = gpu(count=2)
        assert triton_endpoint("m.onnx").visible == ",".join(device.visible for device in both)
        assert triton_endpoint("m.onnx", visible="1").visible == "1"
        assert triton_fleet("m.onnx").device_ids == tuple(device.visible for device in both)
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        """
    )
    result = run("--gpuperf-key=+gpu_uuid", COUNT=3, MIG_2="3:1g.10gb", POWER_0="constant:100", POWER_1="constant:200")
    result.assert_outcomes(passed=5, failed=2)
    text = result.stdout.str()
    assert "This test began on GPU-00000000-" in text
    assert "A target can't compute on 7: NVML sees 3 GPUs, so there is no index 7" in text
    records = {record["test"].rpartition("::")[2]: record for record in stored(pytester)}
    for name in ("test_both[1]", "test_both[2]"):
        assert records[name]["key"]["device_count"] == 2
        assert power(records[name], "sleep") == pytest.approx(300, rel=0.05)
    assert records["test_named"]["key"]["mig_profile"] == "1g.10gb"
    assert records["test_named"]["key"]["gpu_uuid"].startswith("MIG-00000002-0003")
    assert power(records["test_named"], "sleep") is None
    # Only the GPU in use is metered; the key names both.
    assert records["test_one_of_two"]["key"]["device_count"] == 2
    assert power(records["test_one_of_two"], "second") == pytest.approx(200, rel=0.05)
    assert power(records["test_one_of_two"], "first") == pytest.approx(100, rel=0.05)


def power(record: dict[str, Any], sweep: str) -> float | None:
    """Return the mean power of the GPUs in the sweep; None if no window has a reading."""
    windows = [window for window in windows_of(record) if window["sweep"] == sweep]
    readings = [(reading, window) for window in windows for reading in window["energy"] if reading["source"] == "gpu"]
    return (
        sum(reading["energy_j"] for reading, _ in readings) / sum(window["window_s"] for _, window in readings)
        if readings
        else None
    )


def test_a_duet_reports_idle_power_and_no_shared_memory(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import time

        def test_duet(gpuperf):
            sleep = lambda: time.sleep(0.002)
            gpuperf.duet(sleep, lambda: sleep(), blocks=2, alternations=2, window_s=0.05, name="duet")
        """
    )
    run(POWER="constant:70", PROCESSES=f"self:{128 << 20}").assert_outcomes(passed=1)
    (record,) = stored(pytester)
    windows = [window for side in ("runs", "reference") for run in record[side] for window in run["windows"]]
    assert all(window["memory"] is None for window in windows)
    readings = [reading for window in windows for reading in window["energy"] if reading["source"] == "gpu"]
    assert len(readings) >= len(windows) / 2
    assert all(reading["idle_w"] == pytest.approx(70, rel=0.03) for reading in readings)


def test_locked_clocks_are_in_the_key_and_given_back(run: Run, pytester: pytest.Pytester, tmp_path: Path) -> None:
    pytester.makepyfile(test_suite=SUITE)
    log = tmp_path / "clocks"
    run("--gpuperf-lock-clocks=1410", CLOCKS_FILE=log).assert_outcomes(passed=1)
    uuid = "GPU-00000000-1111-2222-3333-444444444444"
    assert log.read_text().splitlines() == [f"lock {uuid} 1410 1410", f"reset {uuid}"]
    assert stored(pytester)[0]["key"]["clock_policy"] == "locked 1410 MHz"
    denied = run("--gpuperf-lock-clocks", ERROR_nvmlDeviceSetGpuLockedClocks=4)
    denied.assert_outcomes(failed=1)
    denied.stdout.fnmatch_lines(["*clocks of GPU NVIDIA Mock 80GB can't be locked: Insufficient Permissions*"])
    wrong = run("--gpuperf-lock-clocks", "fast")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    wrong.stderr.fnmatch_lines(["*--gpuperf-lock-clocks fast: write MHz*"])


@pytest.mark.parametrize("how", [(), ("-n", "1")])
def test_clocks_that_cannot_be_unlocked_are_reported(run: Run, pytester: pytest.Pytester, how: tuple[str, ...]) -> None:
    pytester.makepyfile(test_suite=SUITE)
    result = run("--gpuperf-lock-clocks=1410", *how, ERROR_nvmlDeviceResetGpuLockedClocks=15)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*clocks of GPU NVIDIA Mock 80GB may still be locked: GPU is lost.", "*nvidia-smi*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_free_and_locked_records_do_not_share_a_gpu(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import time

        import pytest
        from pytest_gpuperf.device import LockedClocks, find_device
        from pytest_gpuperf.errors import DeviceError

        def test_free(gpuperf):
            sweep = lambda name: gpuperf.sweep(lambda: time.sleep(0.002), name=name, window_s=0.05)
            clocks = LockedClocks(find_device("0"), 1410)
            with pytest.raises(DeviceError, match="with the clock policy 'default'"):
                sweep("refused")
            clocks.close()
            sweep("sleep")
            with pytest.raises(DeviceError, match="measures there with 'default'"):
                LockedClocks(find_device("0"), 1410)
        """
    )
    run().assert_outcomes(passed=1)
    assert stored(pytester)[0]["key"]["clock_policy"] == "default"


def test_each_xdist_worker_gets_a_device(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import os, time, pytest

        @pytest.mark.parametrize("n", range(4))
        def test_own(gpuperf, gpu, n):
            worker = int(os.environ["PYTEST_XDIST_WORKER"][2:])
            assert gpu.index == worker % 2
            assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu.id == gpu().id
            gpuperf.sweep(lambda: time.sleep(0.002), name="sleep", window_s=0.05)
        """
    )
    run("-n", "2", COUNT=3, NAME_2="Another").assert_outcomes(passed=4)
    assert {document["environment"]["gpu_uuid"] for document in stored(pytester)} <= {
        f"GPU-0000000{index}-1111-2222-3333-444444444444" for index in (0, 1)
    }
    assert os.environ.get("MOCK_NVML") is None


def test_xdist_workers_that_share_a_gpu_are_no_co_tenants(run: Run, pytester: pytest.Pytester) -> None:
    """NVML lists a process from its first engine until its end, also while the next worker measures."""
    pytester.makepyfile(
        test_suite="""
        import os, time, psutil, pytest

        @pytest.mark.parametrize("n", range(2))
        def test_shared(gpuperf, n):
            workers = psutil.Process(os.getppid()).children()
            assert len(workers) >= 2
            os.environ["MOCK_NVML_PROCESSES"] = ",".join(f"{worker.pid}:1024" for worker in workers)
            gpuperf.sweep(lambda: time.sleep(0.002), name="sleep", window_s=0.05)
        """
    )
    run("-n", "2").assert_outcomes(passed=2)
    windows = [window for record in stored(pytester) for window in windows_of(record)]
    assert windows
    assert not [gpu for window in windows for gpu in window["gpus"] if gpu["co_tenants"]]
