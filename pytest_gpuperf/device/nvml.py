"""The one place that talks to NVML, through ``pynvml`` (the module of ``nvidia-ml-py``).

NVML being absent is a fact about the machine; NVML being there and failing is an error, never taken for absence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_gpuperf.errors import DeviceError
from pytest_gpuperf.model import PlainMapping


@dataclass(frozen=True)
class Gpu:
    """One GPU as NVML describes it."""

    name: str
    uuid: str
    key: PlainMapping
    environment: PlainMapping


@dataclass(frozen=True)
class NoGpu:
    """There is no such GPU here, and why."""

    reason: str


def find_gpu(wanted: str) -> Gpu | NoGpu:
    """Describe a GPU.

    Args:
        wanted: an NVML index, or a UUID.

    Raises:
        DeviceError: NVML is there but can't be used.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return NoGpu("no NVIDIA driver library (libnvidia-ml.so.1) on this machine")
        if error.value in (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_NO_PERMISSION):
            return NoGpu(f"NVML is installed but has no GPU to show: {error}")
        raise DeviceError(
            f"NVML is installed but can't be used: {error}.\n"
            "Repair the driver (nvidia-smi should work), or measure on the CPU with --gpuperf-device cpu."
        ) from error
    try:
        return _describe(pynvml, wanted)
    except pynvml.NVMLError as error:
        raise DeviceError(f"NVML can't describe GPU {wanted}: {error}.\nDoes nvidia-smi work?") from error
    finally:
        pynvml.nvmlShutdown()


def _describe(pynvml: Any, wanted: str) -> Gpu | NoGpu:
    count = pynvml.nvmlDeviceGetCount()
    if wanted.isdigit():
        if int(wanted) >= count:
            return NoGpu(f"NVML sees {count} GPU{'' if count == 1 else 's'}, so there is no index {wanted}")
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(wanted))
    else:
        uuids = {pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index)): index for index in range(count)}
        if wanted not in uuids:
            return NoGpu(f"NVML sees no GPU with UUID {wanted} (it sees: {', '.join(uuids) or 'none'})")
        handle = pynvml.nvmlDeviceGetHandleByIndex(uuids[wanted])
    name = pynvml.nvmlDeviceGetName(handle)
    power_limit_mw = _optional(pynvml, lambda: pynvml.nvmlDeviceGetPowerManagementLimit(handle))
    cuda = _optional(pynvml, pynvml.nvmlSystemGetCudaDriverVersion_v2)
    return Gpu(
        name=name,
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        key={
            "device": name,
            "device_count": 1,
            "mig_profile": None,
            "power_limit_w": None if power_limit_mw is None else power_limit_mw // 1000,
            "clock_policy": "default",
        },
        environment={
            "gpu_uuid": pynvml.nvmlDeviceGetUUID(handle),
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "cuda_driver": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        },
    )


def _optional(pynvml: Any, read: Callable[[], int]) -> int | None:
    """A reading that not every GPU has; None says that this one hasn't."""
    try:
        return read()
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        return None
