"""The one place that talks to NVML, through ``pynvml`` (the module of ``nvidia-ml-py``).

Every error of NVML becomes an ``NvmlError`` here. NVML being absent is a fact about the machine; NVML being there and
failing is an error, never taken for absence. A reading that this GPU or driver doesn't have, or doesn't show to this
user, is None.

Source: the NVML API reference and ``nvml.h``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from pytest_gpuperf.errors import NvmlError

Value = TypeVar("Value")

_KINDS = {
    "absent": ("LIBRARY_NOT_FOUND", "DRIVER_NOT_LOADED"),
    "driver": ("UNINITIALIZED", "LIB_RM_VERSION_MISMATCH"),
    "lost": ("GPU_IS_LOST", "RESET_REQUIRED"),
    "no_permission": ("NO_PERMISSION",),
    "not_supported": ("NOT_SUPPORTED", "FUNCTION_NOT_FOUND", "ARGUMENT_VERSION_MISMATCH"),
    "not_found": ("NOT_FOUND",),
}
_NOT_SHOWN = frozenset({"no_permission", "not_supported"})
#: Why clocks are lower than they could be, by bit. Idle, and clocks that somebody has set, are no throttling.
_REASONS = {
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "power_brake",
}
#: What is wrong with one GPU alone, when it can't be opened.
_UNOPENED = frozenset({"no_permission", "lost"})
_MIG_NAME = re.compile(r" MIG (\S+)$")


@dataclass(frozen=True)
class GpuProcess:
    """A process on the GPU; None where NVML doesn't tell its memory."""

    pid: int
    memory_bytes: int | None


class Nvml:
    """NVML, initialised until it is closed; a context manager.

    Attributes:
        unopened: why those that ``gpus`` left out could not be opened, by index.

    Raises:
        NvmlError: of kind ``absent`` where there is no driver.
    """

    def __init__(self) -> None:
        import pynvml

        self._pynvml: Any = pynvml
        self.unopened: dict[int, NvmlError] = {}
        self.call("be initialised", pynvml.nvmlInit)
        self._open = True

    def close(self) -> None:
        """May be called twice."""
        if self._open:
            self._open = False
            self._try(self._pynvml.nvmlShutdown)

    def __enter__(self) -> Nvml:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, what: str, function: Callable[..., Value], *arguments: object) -> Value:
        """A call of pynvml, its errors translated.

        Raises:
            NvmlError: says that NVML can't do ``what``.
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
        """The same for a reading that not every GPU has, and not every user may see: then None."""
        try:
            return self.call(what, function, *arguments)
        except NvmlError as error:
            if error.kind in _NOT_SHOWN:
                return None
            raise

    def _try(self, function: Callable[[], object]) -> None:
        try:
            function()
        except self._pynvml.NVMLError:
            return  # at the end there is nothing left to be done about it

    @property
    def driver(self) -> str:
        return str(self.call("tell the driver's version", self._pynvml.nvmlSystemGetDriverVersion))

    @property
    def cuda(self) -> str | None:
        """The newest CUDA that the driver can run."""
        found = self.optional("tell the driver's CUDA version", self._pynvml.nvmlSystemGetCudaDriverVersion_v2)
        return None if found is None else f"{found // 1000}.{found % 1000 // 10}"

    def gpus(self) -> list[Handle]:
        """All GPUs, by index, but for those that are lost or that this user may not open."""
        found, self.unopened = [], {}
        for index in range(self.call("count GPUs", self._pynvml.nvmlDeviceGetCount)):
            try:
                found.append(self.gpu(index))
            except NvmlError as error:
                if error.kind not in _UNOPENED:
                    raise
                self.unopened[index] = error
        return found

    def gpu(self, index: int) -> Handle:
        """A GPU, which must be there."""
        raw: Any = self.call(f"open GPU {index}", self._pynvml.nvmlDeviceGetHandleByIndex, index)
        return Handle(self, raw, index)

    def find(self, uuid: str) -> Handle:
        """The GPU or MIG slice of that UUID.

        Raises:
            NvmlError: of kind ``not_found`` where there is none; why one that may be it could not be opened.
        """
        for gpu in self.gpus():
            slices = gpu.slices() if uuid.startswith("MIG-") else []
            for one in [gpu, *slices]:
                if one.uuid == uuid:
                    return one
        raise self.why_unopened(uuid) or NvmlError("not_found", f"NVML shows no {uuid}")

    def why_unopened(self, name: str) -> NvmlError | None:
        """Why ``gpus`` does not show the GPU of that index; of a UUID, why it may not show it, or its GPU."""
        if name.isdigit():
            return self.unopened.get(int(name))
        return next(iter(self.unopened.values()), None) if name.startswith(("GPU-", "MIG-")) else None


class Handle:
    """One GPU, or one MIG slice of it.

    Attributes:
        index: of the GPU.
        board: the whole GPU, which alone has clocks, power and a temperature; itself, unless it is a slice.
        slot: of a slice; None for a whole GPU.
        uuid: as CUDA_VISIBLE_DEVICES takes it.
    """

    def __init__(self, nvml: Nvml, raw: Any, index: int, board: Handle | None = None, slot: int | None = None) -> None:
        self._nvml, self._raw, self.index, self.slot = nvml, raw, index, slot
        self.board: Handle = board or self
        pynvml: Any = nvml._pynvml
        self._pynvml = pynvml
        self.uuid = str(nvml.call(f"tell the UUID of GPU {index}", pynvml.nvmlDeviceGetUUID, raw))
        self._name = str(nvml.call(f"tell the name of GPU {index}", pynvml.nvmlDeviceGetName, raw))

    def is_called(self, name: str) -> bool:
        """Whether a part of CUDA_VISIBLE_DEVICES means it: an index, or the beginning of a UUID."""
        return self.index == int(name) if name.isdigit() else self.uuid.startswith(name)

    @property
    def name(self) -> str:
        """The product name, of a slice its GPU's."""
        return str(self.board._name)

    @property
    def mig_enabled(self) -> bool:
        """The GPU is to be used in slices only."""
        mode = self._read("tell whether MIG is on", self._pynvml.nvmlDeviceGetMigMode)
        return mode is not None and mode[0] == 1

    def slices(self) -> list[Handle]:
        """Its MIG slices. Their indices have gaps."""
        if not self.mig_enabled:
            return []
        pynvml, found = self._pynvml, []
        most = self._read("count slices", pynvml.nvmlDeviceGetMaxMigDeviceCount) or 0
        for slot in range(most):
            try:
                raw = self._call(f"open slice {slot}", pynvml.nvmlDeviceGetMigDeviceHandleByIndex, slot)
            except NvmlError as error:
                if error.kind != "not_found":
                    raise
                continue
            found.append(Handle(self._nvml, raw, self.index, self, slot))
        return found

    @property
    def profile(self) -> str | None:
        """Of a slice, as ``1g.10gb``; None for a whole GPU."""
        if self.slot is None:
            return None
        told = _MIG_NAME.search(self._name)
        if told:
            return told[1]
        # Older drivers name the slice like its GPU.
        parts = self._call("describe the slice", self._pynvml.nvmlDeviceGetAttributes)
        own, whole = int(parts.computeInstanceSliceCount), int(parts.gpuInstanceSliceCount)
        compute = f"{own}c." if own != whole else ""
        return f"{compute}{whole}g.{round(parts.memorySizeMB / 1024)}gb"

    # What changes from one reading to the next.

    @property
    def energy_j(self) -> float | None:
        """Since the driver was loaded (mJ in NVML); of whole GPUs, Volta and later."""
        found = self._read("tell its energy", self._pynvml.nvmlDeviceGetTotalEnergyConsumption)
        return None if found is None else found / 1e3

    @property
    def power_w(self) -> float | None:
        """Now (field 186); else NVML's own average, over 1 s on Ampere and later."""
        pynvml = self._pynvml
        field = getattr(pynvml, "NVML_FI_DEV_POWER_INSTANT", 186)
        found = self._read("tell its power", pynvml.nvmlDeviceGetFieldValues, [field])
        if found is not None and found[0].nvmlReturn == pynvml.NVML_SUCCESS:
            return int(found[0].value.uiVal) / 1e3
        usage = self._read("tell its power", pynvml.nvmlDeviceGetPowerUsage)
        return None if usage is None else usage / 1e3

    @property
    def power_limit_w(self) -> int | None:
        limit = self._read("tell its power limit", self._pynvml.nvmlDeviceGetPowerManagementLimit, board=True)
        return None if limit is None else limit // 1000

    @property
    def sm_clock_mhz(self) -> float | None:
        return self._number("tell its clocks", self._pynvml.nvmlDeviceGetClockInfo, self._pynvml.NVML_CLOCK_SM)

    @property
    def memory_clock_mhz(self) -> float | None:
        return self._number("tell its clocks", self._pynvml.nvmlDeviceGetClockInfo, self._pynvml.NVML_CLOCK_MEM)

    @property
    def max_sm_clock_mhz(self) -> int | None:
        return self._number("tell its clocks", self._pynvml.nvmlDeviceGetMaxClockInfo, self._pynvml.NVML_CLOCK_SM)

    @property
    def temperature_c(self) -> float | None:
        names = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")
        found = self._read_any("tell its temperature", names, self._pynvml.NVML_TEMPERATURE_GPU)
        return None if found is None else float(found)

    @property
    def throttle_reasons(self) -> tuple[str, ...] | None:
        """Why its clocks are lower than they could be."""
        names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        bits = self._read_any("tell its throttle reasons", names)
        return None if bits is None else tuple(name for bit, name in _REASONS.items() if bits & bit)

    @property
    def utilization(self) -> float | None:
        """Share of the time in which a kernel ran, 0 to 1; None with MIG."""
        found = self._read("tell its utilisation", self._pynvml.nvmlDeviceGetUtilizationRates)
        return None if found is None else found.gpu / 100

    @property
    def used_bytes(self) -> int | None:
        """Memory in use on it, or on the slice alone."""
        found = self._read("tell its memory", self._pynvml.nvmlDeviceGetMemoryInfo)
        return None if found is None else int(found.used)

    @property
    def memory_bytes(self) -> int | None:
        """All its memory."""
        found = self._read("tell its memory", self._pynvml.nvmlDeviceGetMemoryInfo)
        return None if found is None else int(found.total)

    @property
    def processes(self) -> tuple[GpuProcess, ...] | None:
        """Those that compute on it, or on the slice alone."""
        # Not the name without a version, which answers an old driver with an error that is no NVMLError.
        names = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
        found = self._read_any("list its processes", names)
        if found is None:
            return None
        return tuple(GpuProcess(int(one.pid), one.usedGpuMemory) for one in found)

    # How it is set up.

    @property
    def setup(self) -> dict[str, bool | int | None]:
        """ECC, persistence, PCIe link; None where it has none."""
        pynvml = self._pynvml
        ecc = self._read("tell its ECC mode", pynvml.nvmlDeviceGetEccMode, board=True)
        persistence = self._read("tell its persistence mode", pynvml.nvmlDeviceGetPersistenceMode, board=True)
        return {
            "ecc": None if ecc is None else bool(ecc[0]),
            "persistence": None if persistence is None else bool(persistence),
            "pcie_generation": self._read("tell its link", pynvml.nvmlDeviceGetCurrPcieLinkGeneration, board=True),
            "pcie_width": self._read("tell its link", pynvml.nvmlDeviceGetCurrPcieLinkWidth, board=True),
        }

    def _number(self, what: str, function: Callable[..., Any], *arguments: object) -> int | None:
        found = self._read(what, function, *arguments)
        return None if found is None else int(found)

    def _call(self, what: str, function: Callable[..., Value], *arguments: object) -> Value:
        return self._nvml.call(f"{what} (GPU {self.index})", function, self._raw, *arguments)

    def _read(self, what: str, function: Callable[..., Any], *arguments: object, board: bool = False) -> Any:
        raw = self.board._raw if board else self._raw
        return self._nvml.optional(f"{what} (GPU {self.index})", function, raw, *arguments)

    def _read_any(self, what: str, names: Sequence[str], *arguments: object) -> Any:
        """By the first of pynvml's functions, the newest first, that the bindings, the driver and the GPU have."""
        for name in names:
            function = getattr(self._pynvml, name, None)
            found = None if function is None else self._read(what, function, *arguments)
            if found is not None:
                return found
        return None


def each(nvml: Nvml) -> list[Handle]:
    """What can be computed on: GPUs without MIG, and the slices of those with it.

    Raises:
        NvmlError: there is nothing, and a GPU could not be opened.
    """
    found = [one for gpu in nvml.gpus() for one in (gpu.slices() if gpu.mig_enabled else [gpu])]
    if not found and nvml.unopened:
        raise next(iter(nvml.unopened.values()))
    return found
