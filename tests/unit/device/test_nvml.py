"""The real ``pynvml`` on a libnvidia-ml.so.1 of our own, in processes of their own, since it is loaded only once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.device import LockId
from tests.nvml import MockNvml

_FIND = """
import dataclasses, json, sys
from pytest_gpuperf.device import find_device
from pytest_gpuperf.errors import GpuperfError

try:
    device = find_device(*sys.argv[1:])
except GpuperfError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
else:
    print(json.dumps({**dataclasses.asdict(device), "label": device.label}))
"""


def uuid(index: int) -> str:
    return f"GPU-{index:08}-1111-2222-3333-444444444444"


@pytest.fixture(scope="session")
def library(mock_nvml: MockNvml) -> Path:
    """The directory of the compiled mock."""
    return mock_nvml.folder


def find(library: Path | None, *wanted: str, **settings: object) -> dict[str, Any]:
    """What ``find_device`` says where NVML is as the mock is told to be."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MOCK_NVML")}
    if library is not None:
        env |= MockNvml(library).environment(**settings)
    command = [sys.executable, "-c", _FIND, *wanted]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


class TestGpu:
    def test_the_first_gpu_is_found_by_itself(self, library: Path) -> None:
        device = find(library, NAME="NVIDIA H100 80GB HBM3", POWER_LIMIT_MW=700_000)
        assert device["kind"] == "gpu"
        assert device["name"] == "NVIDIA H100 80GB HBM3"
        assert device["label"] == "GPU NVIDIA H100 80GB HBM3"
        assert device["id"] == uuid(0)
        assert device["key"]["device"] == "NVIDIA H100 80GB HBM3"
        assert device["key"]["device_count"] == 1
        assert device["key"]["power_limit_w"] == 700
        assert not device["note"]

    def test_versions_and_uuid_are_environment_and_never_key(self, library: Path) -> None:
        device = find(library, DRIVER="590.12", CUDA=12_040)
        assert device["environment"]["driver"] == "590.12"
        assert device["environment"]["cuda_driver"] == "12.4"
        assert device["environment"]["gpu_uuid"] == uuid(0)
        assert device["environment"]["host"]
        values = set(map(str, device["key"].values()))
        assert not values & {"590.12", "12.4", uuid(0), device["environment"]["host"]}

    def test_how_it_is_set_up_is_environment(self, library: Path) -> None:
        found = find(library, ECC=0, PCIE_WIDTH=8, TEMPERATURE=61, PROCESSES="1:100")["environment"]
        assert (found["gpu_ecc"], found["gpu_persistence"]) == (False, True)
        assert (found["gpu_pcie_generation"], found["gpu_pcie_width"]) == (5, 8)
        assert (found["gpu_temperature_c"], found["gpu_max_sm_clock_mhz"]) == (61, 1980)
        assert found["gpu_co_tenants"].startswith("1 ")

    @pytest.mark.parametrize(
        ("unsupported", "method"),
        [
            ((), "nvml-counter"),
            (("nvmlDeviceGetTotalEnergyConsumption",), "nvml-power"),
            (("nvmlDeviceGetTotalEnergyConsumption", "POWER_INSTANT"), "nvml-power"),
            (("nvmlDeviceGetTotalEnergyConsumption", "POWER_INSTANT", "nvmlDeviceGetPowerUsage"), ""),
        ],
    )
    def test_how_energy_is_measured_is_key(self, library: Path, unsupported: tuple[str, ...], method: str) -> None:
        device = find(library, **{f"ERROR_{name}": 3 for name in unsupported})
        own = device["energy_method"].replace("+rapl", "").replace("rapl", "")
        assert own == method
        assert device["key"].get("energy_method", "") == device["energy_method"]

    def test_two_machines_with_the_same_gpu_share_a_key(self, library: Path) -> None:
        assert find(library, DRIVER="590.12")["key"] == find(library, "1", COUNT=2, CUDA=12_040)["key"]

    def test_another_power_limit_is_another_key(self, library: Path) -> None:
        assert find(library, POWER_LIMIT_MW=250_000)["key"] != find(library)["key"]

    @pytest.mark.parametrize("index", [0, 1, 2])
    def test_by_index(self, library: Path, index: int) -> None:
        device = find(library, str(index), COUNT=3, NAME_1="NVIDIA L4", NAME_2="NVIDIA A10G", POWER_LIMIT_MW_2=150_000)
        assert device["name"] == ["NVIDIA Mock 80GB", "NVIDIA L4", "NVIDIA A10G"][index]
        assert device["id"] == uuid(index)
        assert device["key"]["power_limit_w"] == [300, 300, 150][index]

    def test_by_uuid(self, library: Path) -> None:
        device = find(library, uuid(2), COUNT=3, NAME_2="NVIDIA A10G")
        assert (device["name"], device["id"]) == ("NVIDIA A10G", uuid(2))

    def test_a_reading_that_a_gpu_does_not_have_is_none(self, library: Path) -> None:
        not_supported = 3
        device = find(library, ERROR_nvmlDeviceGetPowerManagementLimit=not_supported)
        assert device["kind"] == "gpu"
        assert device["key"]["power_limit_w"] is None

    def test_nor_one_that_an_old_driver_does_not_have(self, library: Path) -> None:
        function_not_found = 13
        device = find(library, ERROR_nvmlSystemGetCudaDriverVersion_v2=function_not_found)
        assert device["environment"]["cuda_driver"] is None


class TestNoSuchGpu:
    def test_an_index_out_of_range(self, library: Path) -> None:
        found = find(library, "1")
        assert found["error"] == "DeviceError"
        assert "NVML sees 1 GPU, so there is no index 1" in found["message"]
        assert "--gpuperf-device cpu" in found["message"]
        assert "NVML sees 3 GPUs" in find(library, "7", COUNT=3)["message"]

    def test_an_unknown_uuid_lists_those_that_are_there(self, library: Path) -> None:
        found = find(library, "GPU-none", COUNT=2)
        assert found["error"] == "DeviceError"
        assert uuid(0) in found["message"]
        assert uuid(1) in found["message"]

    def test_a_driver_without_gpus_leaves_the_cpu_and_says_why(self, library: Path) -> None:
        device = find(library, COUNT=0)
        assert device["kind"] == "cpu"
        assert "NVML sees 0 GPUs" in device["note"]
        assert find(library, "0", COUNT=0)["error"] == "DeviceError"

    def test_cpu_is_taken_at_its_word(self, library: Path) -> None:
        device = find(library, "cpu")
        assert device["kind"] == "cpu"
        assert not device["note"]


class TestMig:
    SLICES = "2:1g.10gb,5:2g.20gb"

    @staticmethod
    def slice_uuid(slot: int, gpu: int = 0) -> str:
        return f"MIG-{gpu:08}-{slot:04}-2222-3333-444444444444"

    def test_auto_takes_the_first_slice_of_a_divided_gpu(self, library: Path) -> None:
        device = find(library, MIG=self.SLICES)
        assert (device["id"], device["parent"]) == (self.slice_uuid(2), uuid(0))
        assert device["environment"]["gpu_board_uuid"] == device["parent"] != device["environment"]["gpu_uuid"]
        assert device["mig_profile"] == device["key"]["mig_profile"] == "1g.10gb"
        assert device["name"] == device["key"]["device"] == "NVIDIA Mock 80GB"
        assert device["label"] == "GPU NVIDIA Mock 80GB MIG 1g.10gb"
        assert device["key"]["power_limit_w"] == 300

    def test_a_slice_by_its_uuid(self, library: Path) -> None:
        device = find(library, self.slice_uuid(5, gpu=1), COUNT=2, MIG_1=self.SLICES)
        assert (device["index"], device["mig_profile"]) == (1, "2g.20gb")

    def test_profiles_are_told_from_attributes_where_names_are_plain(self, library: Path) -> None:
        assert find(library, MIG=self.SLICES, PLAIN_NAMES=1)["mig_profile"] == "1g.10gb"

    def test_its_energy_can_not_be_told_and_is_no_part_of_its_key(self, library: Path) -> None:
        device = find(library, MIG=self.SLICES)
        assert "nvml" not in device["energy_method"]
        assert "nvml" not in str(device["key"].get("energy_method"))

    def test_a_divided_gpu_names_its_slices_instead(self, library: Path) -> None:
        for wanted in ("0", uuid(0)):
            found = find(library, wanted, MIG=self.SLICES)
            assert found["error"] == "DeviceError"
            assert f"{self.slice_uuid(5)} (2g.20gb)" in found["message"]

    def test_mig_without_slices_says_so(self, library: Path) -> None:
        device = find(library, MIG="none")
        assert device["kind"] == "cpu"
        assert "no slice exists yet" in device["note"]

    def test_an_unknown_slice_lists_those_that_are_there(self, library: Path) -> None:
        message = find(library, "MIG-none", MIG=self.SLICES)["message"]
        assert self.slice_uuid(2) in message
        assert uuid(0) in message

    def test_all_that_can_be_computed_on(self, library: Path) -> None:
        code = "from pytest_gpuperf.device import find_devices; print([(d.id, d.lock_id) for d in find_devices()])"
        env = {**os.environ, **MockNvml(library).environment(COUNT=2, MIG_0=self.SLICES)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        slices = [(self.slice_uuid(slot), LockId(self.slice_uuid(slot), uuid(0))) for slot in (2, 5)]
        assert done.stdout.strip() == str([*slices, (uuid(1), LockId(uuid(1)))])


class TestVisible:
    @pytest.mark.parametrize(("told", "index"), [("1", 1), (uuid(2), 2), ("2,0", 2), (uuid(1)[:12], 1)])
    def test_auto_takes_what_cuda_would(
        self, library: Path, monkeypatch: pytest.MonkeyPatch, told: str, index: int
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
        assert find(library, COUNT=3)["id"] == uuid(index)

    @pytest.mark.parametrize("told", ["", "7", "GPU-none"])
    def test_where_cuda_sees_none_it_is_the_cpu(
        self, library: Path, monkeypatch: pytest.MonkeyPatch, told: str
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
        device = find(library, COUNT=3)
        assert device["kind"] == "cpu"
        assert "CUDA_VISIBLE_DEVICES" in device["note"]


class TestOneOfSeveral:
    """GPUs that can't be opened, beside some that can."""

    unopened = pytest.mark.parametrize(("code", "says"), [(4, "Insufficient Permissions"), (15, "lost")])

    @unopened
    @pytest.mark.parametrize("wanted", ["auto", "0", uuid(0), "2", uuid(2)])
    def test_the_others_can_be_measured(self, library: Path, code: int, says: str, wanted: str) -> None:
        device = find(library, wanted, COUNT=3, ERROR_nvmlDeviceGetHandleByIndex_v2_1=code)
        index = 2 if wanted in ("2", uuid(2)) else 0
        assert (device["id"], device["index"]) == (uuid(index), index)
        assert says not in device["note"]

    @unopened
    def test_it_is_an_error_to_want_it(self, library: Path, code: int, says: str) -> None:
        for wanted in ("1", uuid(1)):
            found = find(library, wanted, COUNT=3, ERROR_nvmlDeviceGetHandleByIndex_v2_1=code)
            assert found["error"] == "DeviceError"
            assert "can't open GPU 1" in found["message"]
            assert says in found["message"]
        assert "NVML sees 3 GPUs" in find(library, "3", COUNT=3, ERROR_nvmlDeviceGetHandleByIndex_v2_1=code)["message"]

    @pytest.mark.parametrize("told", ["1", "1,0", uuid(1)])
    def test_nor_is_another_taken_where_cuda_is_shown_it(
        self, library: Path, monkeypatch: pytest.MonkeyPatch, told: str
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
        found = find(library, COUNT=2, ERROR_nvmlDeviceGetHandleByIndex_v2_1=15)
        assert found["error"] == "NvmlError"
        assert "can't open GPU 1" in found["message"]

    def test_where_cuda_is_shown_none_it_is_the_cpu(self, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert find(library, COUNT=2, ERROR_nvmlDeviceGetHandleByIndex_v2_1=15)["kind"] == "cpu"

    def test_auto_says_that_it_has_passed_one_over(self, library: Path) -> None:
        device = find(library, COUNT=2, LOST_AT_0=0)
        assert device["index"] == 1
        assert "GPU 0" in device["note"]
        assert "lost" in device["note"]

    def test_a_failure_of_another_kind_is_an_error(self, library: Path) -> None:
        assert find(library, COUNT=2, ERROR_nvmlDeviceGetHandleByIndex_v2_1=999)["error"] == "NvmlError"

    def test_the_monitor_watches_the_others(self, library: Path) -> None:
        code = "from pytest_gpuperf.device import Monitor, find_device; Monitor([find_device('0')]).close()"
        env = {**os.environ, **MockNvml(library).environment(COUNT=2, ERROR_nvmlDeviceGetHandleByIndex_v2_1=4)}
        subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)


class TestTrouble:
    @pytest.mark.parametrize(
        ("code", "says"), [(18, "mismatch"), (15, "lost"), (999, "Unknown"), (2, "Invalid Argument")]
    )
    @pytest.mark.parametrize("wanted", ["auto", "0"])
    def test_a_driver_that_can_not_be_used_is_an_error_and_never_absence(
        self, library: Path, code: int, says: str, wanted: str
    ) -> None:
        found = find(library, wanted, ERROR_nvmlInitWithFlags=code)
        assert found.get("error") == "NvmlError"
        assert says in found["message"]
        assert "nvidia-smi" in found["message"]
        assert "--gpuperf-device cpu" in found["message"]

    @pytest.mark.parametrize(("code", "says"), [(9, "Driver Not Loaded"), (4, "Insufficient Permissions")])
    def test_no_driver_behind_the_library_leaves_the_cpu_and_says_why(
        self, library: Path, code: int, says: str
    ) -> None:
        device = find(library, ERROR_nvmlInitWithFlags=code)
        assert device["kind"] == "cpu"
        assert says in device["note"]
        assert find(library, "0", ERROR_nvmlInitWithFlags=code)["error"] == "DeviceError"

    @pytest.mark.parametrize(
        "function",
        [
            "nvmlDeviceGetCount_v2",
            "nvmlDeviceGetHandleByIndex_v2",
            "nvmlDeviceGetName",
            "nvmlDeviceGetUUID",
            "nvmlDeviceGetPowerManagementLimit",
            "nvmlSystemGetDriverVersion",
        ],
    )
    def test_a_gpu_that_fails_while_it_is_described(self, library: Path, function: str) -> None:
        gpu_is_lost = 15
        found = find(library, **{f"ERROR_{function}": gpu_is_lost})
        assert found["error"] == "NvmlError"
        assert "lost" in found["message"]

    def test_cpu_does_not_ask_nvml(self, library: Path) -> None:
        assert find(library, "cpu", ERROR_nvmlInitWithFlags=999)["kind"] == "cpu"


def test_no_library_leaves_the_cpu_and_says_why() -> None:
    # In a process of its own, since the mock may be loaded into this one.
    load = [sys.executable, "-c", "import ctypes; ctypes.CDLL('libnvidia-ml.so.1')"]
    if subprocess.run(load, capture_output=True, check=False).returncode == 0:
        pytest.skip("this machine has an NVIDIA driver")
    device = find(None)
    assert device["kind"] == "cpu"
    assert "no NVIDIA driver library" in device["note"]
    found = find(None, "0")
    assert found["error"] == "DeviceError"
    assert "no NVIDIA driver library" in found["message"]
