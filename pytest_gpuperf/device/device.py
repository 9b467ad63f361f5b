"""Finding the devices that can be tested."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_gpuperf.device.nvml import Handle, Nvml, each
from pytest_gpuperf.device.processes import describe
from pytest_gpuperf.device.rapl import Rapl
from pytest_gpuperf.errors import DeviceError, NvmlError
from pytest_gpuperf.model import Plain, PlainMapping
from pytest_gpuperf.model.resources import NVML_COUNTER, NVML_POWER, RAPL

#: What CUDA itself looks at.
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Device:
    """A GPU, a MIG slice of one, or the CPU where there is none.

    Attributes:
        kind: ``gpu`` or ``cpu``.
        name: the GPU's product name, or the CPU's model.
        id: names this very piece of hardware on this host: the UUID of a GPU or slice.
        key: what of it two comparable records share.
        environment: what else is worth knowing when numbers differ.
        note: why it was chosen, when that may surprise.
        index: NVML's number of the GPU; None for the CPU.
        mig_profile: of a slice, as ``1g.10gb``.
        parent: UUID of the slice's GPU; empty for what is no slice.
        memory_bytes: of the GPU or slice.
        energy_method: how its energy can be measured here, as ``nvml-counter`` or ``nvml-counter+rapl``; empty where
            it can't.
    """

    kind: str
    name: str
    id: str
    key: PlainMapping
    environment: PlainMapping = field(default_factory=dict)
    note: str = ""
    index: int | None = None
    mig_profile: str | None = None
    parent: str = ""
    memory_bytes: int | None = None
    energy_method: str = ""

    @property
    def label(self) -> str:
        """How people read it."""
        if self.kind == "gpu":
            return f"GPU {self.name}" + (f" MIG {self.mig_profile}" if self.mig_profile else "")
        return f"CPU {self.name}, {self.key['cores']} cores (no GPU)"

    @property
    def visible(self) -> str:
        """The value of CUDA_VISIBLE_DEVICES that shows it alone; empty for the CPU, as that hides all GPUs."""
        return self.id if self.kind == "gpu" else ""

    @property
    def lock(self) -> str:
        """What ``DeviceLock`` takes."""
        return f"{self.id} in {self.parent}" if self.parent else self.id


def find_device(wanted: str = "auto", number: int = 0) -> Device:
    """The device under test.

    Args:
        wanted: ``auto`` (the first GPU or slice that CUDA shows, else the CPU), ``cpu``, an NVML index, or the UUID of
            a GPU or MIG slice.
        number: with ``auto`` and several that are alike: which of them, counted modulo how many there are.

    Raises:
        DeviceError: the wanted GPU isn't there, or NVML is there and doesn't work.
    """
    if wanted == "cpu":
        return cpu()
    try:
        with _nvml() as nvml:
            if wanted == "auto":
                handles = _shown(nvml, os.environ.get(VISIBLE))
                if not handles:
                    return cpu(note=_why_none(nvml))
                devices = [_describe(nvml, handle) for handle in handles]
                alike = [device for device in devices if device.key == devices[0].key]
                passed = (str(error) for index, error in nvml.unopened.items() if index < handles[0].index)
                return replace(alike[number % len(alike)], note=next(passed, ""))
            return _describe(nvml, _named(nvml, wanted))
    except _Missing as missing:
        raise _no_such(wanted, str(missing)) from missing
    except NvmlError as error:
        if error.kind != "absent":
            raise
        if wanted == "auto":
            return cpu(note=str(error))
        raise _no_such(wanted, str(error)) from error


def find_devices(visible: str | None = None) -> tuple[Device, ...]:
    """All that can be computed on: GPUs, by index, with the slices in place of those that are divided by MIG.

    Empty where there is no GPU.

    Args:
        visible: leaves those that this value of CUDA_VISIBLE_DEVICES would; all when None.

    Raises:
        DeviceError: NVML is there and doesn't work.
    """
    try:
        with _nvml() as nvml:
            return tuple(_describe(nvml, handle) for handle in _shown(nvml, visible))
    except NvmlError as error:
        if error.kind == "absent":
            return ()
        raise


def find_places(places: Sequence[str]) -> tuple[Device, ...]:
    """What parts of CUDA_VISIBLE_DEVICES mean, each device once.

    Args:
        places: indices as NVML counts, or UUIDs of GPUs and MIG slices, which may be cut short.

    Raises:
        DeviceError: there is no such device, or NVML doesn't work.
    """
    try:
        with _nvml() as nvml:
            return tuple({one.uuid: _describe(nvml, one) for one in (_named(nvml, name) for name in places)}.values())
    except _Missing as missing:
        reason = str(missing)
    except NvmlError as error:
        if error.kind != "absent":
            raise
        reason = str(error)
    raise DeviceError(f"A target is to compute on {', '.join(places)}: {reason}.\nnvidia-smi -L lists what is there.")


def joint_key(devices: Sequence[Device], clock_policy: str = "") -> PlainMapping:
    """What records on several devices at once share; of one device, its own key.

    Args:
        clock_policy: of clocks that were locked for the record.
    """
    key = {**devices[0].key}
    if len(devices) > 1:
        key |= {"device": " + ".join(dict.fromkeys(one.name for one in devices)), "device_count": len(devices)}
    return {**key, "clock_policy": clock_policy} if clock_policy and devices[0].kind == "gpu" else key


def _nvml() -> Nvml:
    try:
        return Nvml()
    except NvmlError as error:
        if error.kind == "absent" and "ibrary" in str(error):
            raise NvmlError("absent", "no NVIDIA driver library (libnvidia-ml.so.1) on this machine") from error
        if error.kind in ("absent", "no_permission"):
            raise NvmlError("absent", f"NVML is installed but has no GPU to show: {error.__cause__}") from error
        raise NvmlError(
            error.kind,
            f"NVML is installed but can't be used: {error.__cause__}.\n"
            "Repair the driver (nvidia-smi should work), or measure on the CPU with --gpuperf-device cpu.",
        ) from error


def _shown(nvml: Nvml, told: str | None) -> list[Handle]:
    """Those that a value of CUDA_VISIBLE_DEVICES leaves, in its order; numbers are taken as NVML's.

    Raises:
        NvmlError: the first of them is a GPU that could not be opened.
    """
    handles = each(nvml)
    if told is None:
        return handles
    found: list[Handle] = []
    for one in filter(None, map(str.strip, told.split(","))):
        own = [handle for handle in handles if handle.is_called(one)]
        if not own:
            if not found and (error := nvml.why_unopened(one)):
                raise error
            break  # as CUDA does: what comes after an invalid one is hidden
        found += [handle for handle in own if handle not in found]
    return found


class _Missing(Exception):
    """There is no such device; says why."""


def _named(nvml: Nvml, wanted: str) -> Handle:
    gpus = nvml.gpus()
    if wanted.isdigit():
        handle = next((gpu for gpu in gpus if gpu.index == int(wanted)), None)
        if handle is None:
            if error := nvml.why_unopened(wanted):
                raise _Missing(str(error))
            count = len(gpus) + len(nvml.unopened)
            raise _Missing(f"NVML sees {count} GPU{'' if count == 1 else 's'}, so there is no index {wanted}")
    else:
        every = [one for gpu in gpus for one in (gpu, *gpu.slices())]
        own = [one for one in every if one.uuid == wanted] or [one for one in every if one.is_called(wanted)]
        if len(own) != 1:
            what = "slice" if wanted.startswith("MIG") else "GPU"
            what = f"several {what}s" if own else f"no {what}"
            seen = ", ".join(one.uuid for one in every) or "none"
            seen += "".join(f"; {error}" for error in nvml.unopened.values())
            raise _Missing(f"NVML sees {what} with UUID {wanted} (it sees: {seen})")
        (handle,) = own
    if handle.slot is None and handle.mig_enabled:
        slices = ", ".join(f"{one.uuid} ({one.profile})" for one in handle.slices())
        raise _Missing(
            f"GPU {handle.index} is divided by MIG, and CUDA computes on its slices only: {slices or 'none yet'}"
        )
    return handle


def _no_such(wanted: str, reason: str) -> DeviceError:
    return DeviceError(
        f"--gpuperf-device {wanted}: {reason}.\n"
        f"Measure on the CPU with --gpuperf-device cpu, or on what is there with auto."
    )


def _why_none(nvml: Nvml) -> str:
    gpus = nvml.gpus()
    if gpus and all(gpu.mig_enabled and not gpu.slices() for gpu in gpus):
        return "MIG is on, and there is no slice yet (nvidia-smi mig -cgi makes some)"
    if gpus:
        return f"{VISIBLE}={os.environ.get(VISIBLE)} hides all GPUs"
    return "NVML sees 0 GPUs"


def _describe(nvml: Nvml, handle: Handle) -> Device:
    try:
        return _device(nvml, handle)
    except NvmlError as error:
        raise NvmlError(error.kind, f"{error}.\nDoes nvidia-smi work?") from error


def _device(nvml: Nvml, handle: Handle) -> Device:
    board = handle.board
    profile = handle.profile
    method = _energy_method(handle)
    key: dict[str, Plain] = {
        "device": handle.name,
        "device_count": 1,
        "mig_profile": profile,
        "power_limit_w": handle.power_limit_w,
        "clock_policy": "default",
    }
    setup = handle.setup
    environment: dict[str, Plain] = {
        "gpu_uuid": handle.uuid,
        "driver": nvml.driver,
        "cuda_driver": nvml.cuda,
        "gpu_ecc": setup["ecc"],
        "gpu_persistence": setup["persistence"],
        "gpu_pcie_generation": setup["pcie_generation"],
        "gpu_pcie_width": setup["pcie_width"],
        "gpu_max_sm_clock_mhz": board.max_sm_clock_mhz,
        "gpu_sm_clock_mhz": board.sm_clock_mhz,
        "gpu_temperature_c": board.temperature_c,
        "gpu_co_tenants": describe([one.pid for one in handle.processes or ()]),
        **_host(),
    }
    return Device(
        kind="gpu",
        name=handle.name,
        id=handle.uuid,
        key=_with_method(key, method),
        environment=environment,
        index=handle.index,
        mig_profile=profile,
        parent=board.uuid if board is not handle else "",
        memory_bytes=handle.memory_bytes,
        energy_method=method,
    )


def _energy_method(handle: Handle | None) -> str:
    """What there is now, by one reading of each."""
    own = []
    # A slice's share of its board's energy can't be told.
    if handle is not None and handle.slot is None:
        if handle.energy_j is not None:
            own.append(NVML_COUNTER)
        elif handle.power_w is not None:
            own.append(NVML_POWER)
    if Rapl.find() is not None:
        own.append(RAPL)
    return "+".join(own)


def _with_method(key: dict[str, Plain], method: str) -> PlainMapping:
    """Without one the field is left out, so that machines which show no energy keep the keys they have."""
    return {**key, "energy_method": method} if method else key


def cpu(note: str = "") -> Device:
    """The CPU as the device under test."""
    name = _cpu_model()
    cores = len(os.sched_getaffinity(0))
    method = _energy_method(None)
    key = _with_method({"device": f"CPU {name}", "cores": cores}, method)
    return Device("cpu", name, "cpu", key, _host(), note, energy_method=method)


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            field_name, _, value = line.partition(":")
            if field_name.strip() in ("model name", "Model", "Hardware") and value.strip():
                return " ".join(value.split())
    except OSError:
        pass  # not every kernel shows it; the architecture is still the truth
    return platform.processor() or platform.machine()


def _host() -> dict[str, Plain]:
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "host": platform.node(),
        "kernel": platform.release(),
        "cpu_governor": governor.read_text().strip() if governor.exists() else None,
    }
