"""The real ``pynvml`` on a libnvidia-ml.so.1 of our own, in processes of their own, since it is loaded only once."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the compiled mock."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the mock of NVML")
    try:
        files = importlib.metadata.files("nvidia-nvml-dev") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("nvml.h is in the package nvidia-nvml-dev, which is not installed")
    header = next(file for file in files if file.name == "nvml.h")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("nvml_mock.c")
    target = folder / "libnvidia-ml.so.1"
    flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{Path(str(header.locate())).parent}"]
    subprocess.run([compiler, *flags, "-Wl,-soname,libnvidia-ml.so.1", "-o", target, source, "-lm"], check=True)
    return folder


def find(library: Path | None, *wanted: str, **settings: object) -> dict[str, Any]:
    """What ``find_device`` says where NVML is as the mock is told to be."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MOCK_NVML_")}
    env |= {"MOCK_NVML": "1"} | {f"MOCK_NVML_{name}": str(value) for name, value in settings.items()}
    if library is not None:
        env["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [str(library), env.get("LD_LIBRARY_PATH")]))
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
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        pass
    else:
        pytest.skip("this machine has an NVIDIA driver")
    device = find(None)
    assert device["kind"] == "cpu"
    assert "no NVIDIA driver library" in device["note"]
    found = find(None, "0")
    assert found["error"] == "DeviceError"
    assert "no NVIDIA driver library" in found["message"]
