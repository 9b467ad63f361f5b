"""The only module that calls NVML, through ``pynvml`` (the module of ``nvidia-ml-py``).

Every error of NVML becomes an ``NvmlError`` here. Absence of NVML is a property of the machine; a failure of an
installed NVML is an error and never taken for absence. A reading is None if this GPU or driver lacks it, or if this
user may not see it.

Source: the NVML API reference and ``nvml.h``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from pytest_gpuperf.errors import NvmlError

Value = TypeVar("Value")

_KINDS = {
    "no_library": ("LIBRARY_NOT_FOUND",),
    "absent": ("DRIVER_NOT_LOADED",),
    "driver": ("UNINITIALIZED", "LIB_RM_VERSION_MISMATCH"),
    "lost": ("GPU_IS_LOST", "RESET_REQUIRED"),
    "no_permission": ("NO_PERMISSION",),
    "not_supported": ("NOT_SUPPORTED", "FUNCTION_NOT_FOUND", "ARGUMENT_VERSION_MISMATCH"),
    "not_found": ("NOT_FOUND",),
}
_NOT_SHOWN = frozenset({"no_permission", "not_supported"})
#: Reasons for lowered clocks, by bit. Idle clocks and clocks set by a user are not throttling.
_REASONS = {
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "power_brake",
}
#: Kinds of errors that concern one GPU only when it can't be opened.
_UNOPENED = frozenset({"no_permission", "lost"})
_MIG_NAME = re.compile(r" MIG (\S+)$")


@dataclass(frozen=True)
class GpuProcess:
    """A process on the GPU; its memory is None if NVML does not report it."""

    pid: int
    memory_bytes: int | None


class Nvml:
    """NVML, initialised until it is closed; a context manager.

    Attributes:
        unopened: Errors of the GPUs that ``gpus`` could not open, by index.

    Raises:
        NvmlError: NVML fails; of kind ``no_library`` or ``absent`` without a driver.
    """

    def __init__(self) -> None:
        import pynvml

        self._pynvml: Any = pynvml
        self.unopened: dict[int, NvmlError] = {}
        self.call("be initialised", pynvml.nvmlInit)
        self._open = True

    def close(self) -> None:
        """Shut NVML down. May be called twice."""
        if self._open:
            self._open = False
            with suppress(self._pynvml.NVMLError):
                self._pynvml.nvmlShutdown()

    def __enter__(self) -> Nvml:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, what: str, function: Callable[..., Value], *arguments: object) -> Value:
        """Call a function of pynvml and translate its errors.

        Raises:
            NvmlError: The message says that NVML can't ``what``.
        """
        try:
            return function(*arguments)
        except self._pynvml.NVMLError as error:
            raise NvmlError(self._kind(error), f"NVML can't {what}: {error}") from error

    def _kind(self, error: Any) -> str:
        for kind, names in _KINDS.items():
            if any(error.value == getattr(self._pynvml, f"NVML_ERROR_{name}", None) for name in names):
                return kind
        return "other"

    def optional(self, what: str, function: Callable[..., Value], *arguments: object) -> Value | None:
        """Call a function for a reading; return None if the GPU lacks it or this user may not see it."""
        try:
            return self.call(what, function, *arguments)
        except NvmlError as error:
            if error.kind in _NOT_SHOWN:
                return None
            raise

    @property
    def driver(self) -> str:
        return str(self.call("read the driver's version", self._pynvml.nvmlSystemGetDriverVersion))

    @property
    def cuda(self) -> str | None:
        """Newest CUDA version that the driver supports."""
        value = self.optional("read the driver's CUDA version", self._pynvml.nvmlSystemGetCudaDriverVersion_v2)
        return None if value is None else f"{value // 1000}.{value % 1000 // 10}"

    def gpus(self) -> list[Handle]:
        """Return all GPUs by index, without those that are lost or that this user may not open."""
        opened, self.unopened = [], {}
        for index in range(self.call("count GPUs", self._pynvml.nvmlDeviceGetCount)):
            try:
                opened.append(self.gpu(index))
            except NvmlError as error:
                if error.kind not in _UNOPENED:
                    raise
                self.unopened[index] = error
        return opened

    def gpu(self, index: int) -> Handle:
        """Return the GPU with an index, which must exist."""
        raw: Any = self.call(f"open GPU {index}", self._pynvml.nvmlDeviceGetHandleByIndex, index)
        return Handle(self, raw, index)

    def find(self, uuid: str) -> Handle:
        """Return the GPU or MIG slice with a UUID.

        Raises:
            NvmlError: There is none (kind ``not_found``), or a GPU that may be it could not be opened.
        """
        for gpu in self.gpus():
            slices = gpu.slices() if uuid.startswith("MIG-") else []
            for handle in [gpu, *slices]:
                if handle.uuid == uuid:
                    return handle
        raise self.why_unopened(uuid) or NvmlError("not_found", f"NVML shows no {uuid}")

    def why_unopened(self, name: str) -> NvmlError | None:
        """Return the error of the GPU with an index; for a UUID, of a GPU that may be or contain it."""
        if name.isdigit():
            return self.unopened.get(int(name))
        return next(iter(self.unopened.values()), None) if name.startswith(("GPU-", "MIG-")) else None


class Handle:
    """One GPU, or one MIG slice of it.

    Attributes:
        index: Index of the GPU.
        board: The whole GPU, which has the clocks, the power and the temperature; the handle itself unless it is a
            slice.
        slot: Index of a slice; None for a whole GPU.
        uuid: UUID as in CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, nvml: Nvml, raw: Any, index: int, board: Handle | None = None, slot: int | None = None) -> None:
        self._nvml, self._raw, self.index, self.slot = nvml, raw, index, slot
        self.board: Handle = board or self
        pynvml: Any = nvml._pynvml
        self._pynvml = pynvml
        self.uuid = str(nvml.call(f"read the UUID of GPU {index}", pynvml.nvmlDeviceGetUUID, raw))
        self._name = str(nvml.call(f"read the name of GPU {index}", pynvml.nvmlDeviceGetName, raw))

    def is_called(self, name: str) -> bool:
        """Return whether an item of CUDA_VISIBLE_DEVICES, an index or the beginning of a UUID, means this device."""
        return self.index == int(name) if name.isdigit() else self.uuid.startswith(name)

    @property
    def name(self) -> str:
        """Product name; for a slice, of its GPU."""
        return str(self.board._name)

    @property
    def mig_enabled(self) -> bool:
        """Whether the GPU can be used in slices only."""
        mode = self._read("read the MIG mode", self._pynvml.nvmlDeviceGetMigMode)
        return mode is not None and mode[0] == 1

    def slices(self) -> list[Handle]:
        """Return the MIG slices. Their indices have gaps."""
        if not self.mig_enabled:
            return []
        pynvml, slices = self._pynvml, []
        most = self._read("count slices", pynvml.nvmlDeviceGetMaxMigDeviceCount) or 0
        for slot in range(most):
            try:
                raw = self._call(f"open slice {slot}", pynvml.nvmlDeviceGetMigDeviceHandleByIndex, slot)
            except NvmlError as error:
                if error.kind != "not_found":
                    raise
                continue
            slices.append(Handle(self._nvml, raw, self.index, self, slot))
        return slices

    @property
    def profile(self) -> str | None:
        """MIG profile, for example ``1g.10gb``; None for a whole GPU."""
        if self.slot is None:
            return None
        match = _MIG_NAME.search(self._name)
        if match:
            return match[1]
        # Older drivers name the slice like its GPU.
        parts = self._call("describe the slice", self._pynvml.nvmlDeviceGetAttributes)
        compute_slices, gpu_slices = int(parts.computeInstanceSliceCount), int(parts.gpuInstanceSliceCount)
        compute = f"{compute_slices}c." if compute_slices != gpu_slices else ""
        return f"{compute}{gpu_slices}g.{round(parts.memorySizeMB / 1024)}gb"

    # Readings.

    @property
    def energy_j(self) -> float | None:
        """Energy since the driver was loaded; for whole GPUs from Volta on."""
        value = self._read("read the energy", self._pynvml.nvmlDeviceGetTotalEnergyConsumption)
        return None if value is None else value / 1e3

    @property
    def power_w(self) -> float | None:
        """Power now (field 186), or NVML's average over 1 s on Ampere and later."""
        pynvml = self._pynvml
        field = getattr(pynvml, "NVML_FI_DEV_POWER_INSTANT", 186)
        value = self._read("read the power", pynvml.nvmlDeviceGetFieldValues, [field])
        if value is not None and value[0].nvmlReturn == pynvml.NVML_SUCCESS:
            return int(value[0].value.uiVal) / 1e3
        usage = self._read("read the power", pynvml.nvmlDeviceGetPowerUsage)
        return None if usage is None else usage / 1e3

    @property
    def power_limit_w(self) -> int | None:
        limit = self._read("read the power limit", self._pynvml.nvmlDeviceGetPowerManagementLimit, board=True)
        return None if limit is None else limit // 1000

    @property
    def sm_clock_mhz(self) -> float | None:
        return self._number("read the clocks", self._pynvml.nvmlDeviceGetClockInfo, self._pynvml.NVML_CLOCK_SM)

    @property
    def memory_clock_mhz(self) -> float | None:
        return self._number("read the clocks", self._pynvml.nvmlDeviceGetClockInfo, self._pynvml.NVML_CLOCK_MEM)

    @property
    def max_sm_clock_mhz(self) -> int | None:
        return self._number("read the clocks", self._pynvml.nvmlDeviceGetMaxClockInfo, self._pynvml.NVML_CLOCK_SM)

    @property
    def temperature_c(self) -> float | None:
        names = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")
        value = self._read_any("read the temperature", names, self._pynvml.NVML_TEMPERATURE_GPU)
        return None if value is None else float(value)

    @property
    def throttle_reasons(self) -> tuple[str, ...] | None:
        """Reasons for lowered clocks."""
        names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        bits = self._read_any("read the throttle reasons", names)
        return None if bits is None else tuple(name for bit, name in _REASONS.items() if bits & bit)

    @property
    def utilization(self) -> float | None:
        """Share of the time during which a kernel ran, 0 to 1; None with MIG."""
        value = self._read("read the utilisation", self._pynvml.nvmlDeviceGetUtilizationRates)
        return None if value is None else value.gpu / 100

    @property
    def used_bytes(self) -> int | None:
        """Memory in use on the GPU or slice."""
        value = self._read("read the memory", self._pynvml.nvmlDeviceGetMemoryInfo)
        return None if value is None else int(value.used)

    @property
    def memory_bytes(self) -> int | None:
        """Memory of the GPU or slice."""
        value = self._read("read the memory", self._pynvml.nvmlDeviceGetMemoryInfo)
        return None if value is None else int(value.total)

    @property
    def processes(self) -> tuple[GpuProcess, ...] | None:
        """Processes that compute on the GPU or slice."""
        # With an old driver, the name without a version raises an error that is not an NVMLError.
        names = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
        processes = self._read_any("list the processes", names)
        if processes is None:
            return None
        return tuple(GpuProcess(int(process.pid), process.usedGpuMemory) for process in processes)

    # Configuration.

    @property
    def setup(self) -> dict[str, bool | int | None]:
        """ECC, persistence mode and PCIe link; None if the GPU lacks it."""
        pynvml = self._pynvml
        ecc = self._read("read the ECC mode", pynvml.nvmlDeviceGetEccMode, board=True)
        persistence = self._read("read the persistence mode", pynvml.nvmlDeviceGetPersistenceMode, board=True)
        return {
            "ecc": None if ecc is None else bool(ecc[0]),
            "persistence": None if persistence is None else bool(persistence),
            "pcie_generation": self._read("read the link", pynvml.nvmlDeviceGetCurrPcieLinkGeneration, board=True),
            "pcie_width": self._read("read the link", pynvml.nvmlDeviceGetCurrPcieLinkWidth, board=True),
        }

    def _number(self, what: str, function: Callable[..., Any], *arguments: object) -> int | None:
        value = self._read(what, function, *arguments)
        return None if value is None else int(value)

    def _call(self, what: str, function: Callable[..., Value], *arguments: object) -> Value:
        return self._nvml.call(f"{what} (GPU {self.index})", function, self._raw, *arguments)

    def _read(self, what: str, function: Callable[..., Any], *arguments: object, board: bool = False) -> Any:
        raw = self.board._raw if board else self._raw
        return self._nvml.optional(f"{what} (GPU {self.index})", function, raw, *arguments)

    def _read_any(self, what: str, names: Sequence[str], *arguments: object) -> Any:
        """Read with the first of several functions, newest first, that the bindings, driver and GPU support."""
        for name in names:
            function = getattr(self._pynvml, name, None)
            value = None if function is None else self._read(what, function, *arguments)
            if value is not None:
                return value
        return None
