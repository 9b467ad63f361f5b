"""The devices that can be tested, and how to find them."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_gpuperf.device.cpu_model import cpu_model
from pytest_gpuperf.device.host import cpu_quota_cores
from pytest_gpuperf.device.lock import LockId
from pytest_gpuperf.device.machine import machine_id
from pytest_gpuperf.device.nvml import Handle, Nvml
from pytest_gpuperf.device.processes import describe
from pytest_gpuperf.device.rapl import Rapl
from pytest_gpuperf.errors import DeviceError, NvmlError
from pytest_gpuperf.model import Plain, PlainMapping
from pytest_gpuperf.model.resources import NVML_COUNTER, NVML_POWER, RAPL

#: Variable in which CUDA reads the visible devices.
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Device:
    """A GPU, a MIG slice, or the CPU.

    Attributes:
        kind: ``gpu`` or ``cpu``.
        name: Product name of the GPU, or model of the CPU.
        id: Identifier of this piece of hardware on this host: the UUID of a GPU or slice, or ``cpu``.
        key: The device's part of the comparison key.
        environment: Other facts that help to explain a difference.
        note: Why the device was chosen, if that may be a surprise.
        index: NVML's index of the GPU; None for the CPU.
        mig_profile: MIG profile of a slice, for example ``1g.10gb``.
        parent: UUID of the GPU that a slice belongs to; empty for other devices.
        memory_bytes: Memory of the GPU or slice.
        energy_method: How the energy is measured, for example ``nvml-counter`` or ``nvml-counter+rapl``; empty if it
            can't be measured.
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
        """Display name."""
        if self.kind == "gpu":
            return f"GPU {self.name}" + (f" MIG {self.mig_profile}" if self.mig_profile else "")
        quota = f"a quota of {self.key['quota_cores']:g} of its " if "quota_cores" in self.key else ""
        return f"CPU {self.name}, {quota}{self.key['cores']} cores (no GPU)"

    @property
    def visible(self) -> str:
        """Value of CUDA_VISIBLE_DEVICES that shows only this device; empty for the CPU, which hides all GPUs."""
        return self.id if self.kind == "gpu" else ""

    @property
    def lock_id(self) -> LockId:
        """Lock that a process takes to measure on the device."""
        return LockId(self.id, self.parent)


def find_device(wanted: str = "auto", number: int = 0, option: str = "--gpuperf-device") -> Device:
    """Return the device under test.

    Args:
        wanted: ``auto`` (the first GPU or slice that is visible to CUDA, or else the CPU), ``cpu``, an NVML index, or
            the UUID of a GPU or MIG slice.
        number: Which of several equal devices ``auto`` chooses, modulo their number.
        option: Option that names the device, for messages.

    Raises:
        DeviceError: The wanted GPU does not exist, or NVML is installed and fails.
    """
    if wanted == "cpu":
        return cpu()
    try:
        with _nvml(option) as nvml:
            if wanted == "auto":
                handles = _visible_handles(nvml, os.environ.get(VISIBLE))
                if not handles:
                    return cpu(note=_why_none(nvml))
                devices = [_describe(nvml, handle) for handle in handles]
                equal = [device for device in devices if device.key == devices[0].key]
                skipped = (str(error) for index, error in nvml.unopened.items() if index < handles[0].index)
                return replace(equal[number % len(equal)], note=next(skipped, ""))
            return _describe(nvml, _named_handle(nvml, wanted))
    except _MissingDevice as missing:
        raise _no_such(wanted, str(missing), option) from missing
    except NvmlError as error:
        if error.kind != "absent":
            raise
        if wanted == "auto":
            return cpu(note=str(error))
        raise _no_such(wanted, str(error), option) from error


def find_devices(visible: str | None = None) -> tuple[Device, ...]:
    """Return all GPUs by index, with the slices in place of GPUs that are divided by MIG; empty without a GPU.

    Args:
        visible: Value of CUDA_VISIBLE_DEVICES that limits the devices; all when None.

    Raises:
        DeviceError: NVML is installed and fails.
    """
    try:
        with _nvml() as nvml:
            return tuple(_describe(nvml, handle) for handle in _visible_handles(nvml, visible))
    except NvmlError as error:
        if error.kind == "absent":
            return ()
        raise


def find_named_devices(device_ids: Sequence[str]) -> tuple[Device, ...]:
    """Return the devices that items of CUDA_VISIBLE_DEVICES mean, each once.

    Args:
        device_ids: NVML indices, or UUIDs of GPUs and MIG slices, which may be abbreviated.

    Raises:
        DeviceError: A device does not exist, or NVML fails.
    """
    try:
        with _nvml() as nvml:
            handles = [_named_handle(nvml, name) for name in device_ids]
            return tuple({handle.uuid: _describe(nvml, handle) for handle in handles}.values())
    except _MissingDevice as missing:
        reason = str(missing)
    except NvmlError as error:
        if error.kind != "absent":
            raise
        reason = str(error)
    raise DeviceError(f"A target can't compute on {', '.join(device_ids)}: {reason}.\nnvidia-smi -L lists the devices.")


def joint_key(devices: Sequence[Device], clock_policy: str = "") -> PlainMapping:
    """Return the devices' part of the comparison key.

    Args:
        clock_policy: Policy of clocks that were locked for the measurement.
    """
    key = {**devices[0].key}
    if len(devices) > 1:
        key |= {"device": " + ".join(dict.fromkeys(device.name for device in devices)), "device_count": len(devices)}
    return {**key, "clock_policy": clock_policy} if clock_policy and devices[0].kind == "gpu" else key


def joint_environment(devices: Sequence[Device]) -> PlainMapping:
    """Return the other facts about devices: those of the first, with the UUIDs of all."""
    environment = {**devices[0].environment}
    for name in ("gpu_uuid", "gpu_board_uuid"):
        uuids = [str(device.environment[name]) for device in devices if name in device.environment]
        if uuids:
            environment[name] = ", ".join(dict.fromkeys(uuids))
    return environment


def _nvml(option: str = "--gpuperf-device") -> Nvml:
    try:
        return Nvml()
    except NvmlError as error:
        if error.kind == "no_library":
            raise NvmlError("absent", "no NVIDIA driver library (libnvidia-ml.so.1) on this machine") from error
        if error.kind in ("absent", "no_permission"):
            raise NvmlError("absent", f"NVML is installed but reports no GPU: {error.__cause__}") from error
        raise NvmlError(
            error.kind,
            f"NVML is installed but fails: {error.__cause__}.\n"
            f"Repair the driver until nvidia-smi works, or measure on the CPU with {option} cpu.",
        ) from error


def _visible_handles(nvml: Nvml, visible: str | None) -> list[Handle]:
    """Return the devices that a value of CUDA_VISIBLE_DEVICES makes visible, in its order, with NVML's indices.

    Raises:
        NvmlError: The first of them is a GPU that could not be opened.
    """
    handles = [handle for gpu in nvml.gpus() for handle in (gpu.slices() if gpu.mig_enabled else [gpu])]
    if not handles and nvml.unopened:
        raise next(iter(nvml.unopened.values()))
    if visible is None:
        return handles
    selected: list[Handle] = []
    for name in filter(None, map(str.strip, visible.split(","))):
        matching = [handle for handle in handles if handle.is_called(name)]
        if not matching:
            if not selected and (error := nvml.why_unopened(name)):
                raise error
            break  # as in CUDA, items after an invalid one are hidden
        selected += [handle for handle in matching if handle not in selected]
    return selected


class _MissingDevice(Exception):
    """The device does not exist; the message says why."""


def _named_handle(nvml: Nvml, wanted: str) -> Handle:
    gpus = nvml.gpus()
    if wanted.isdigit():
        handle = next((gpu for gpu in gpus if gpu.index == int(wanted)), None)
        if handle is None:
            if error := nvml.why_unopened(wanted):
                raise _MissingDevice(str(error))
            count = len(gpus) + len(nvml.unopened)
            raise _MissingDevice(f"NVML sees {count} GPU{'' if count == 1 else 's'}, so there is no index {wanted}")
    else:
        handles = [handle for gpu in gpus for handle in (gpu, *gpu.slices())]
        matching = [handle for handle in handles if handle.uuid == wanted]
        matching = matching or [handle for handle in handles if handle.is_called(wanted)]
        if len(matching) != 1:
            kind = "slice" if wanted.startswith("MIG") else "GPU"
            quantity = f"several {kind}s" if matching else f"no {kind}"
            known = ", ".join(handle.uuid for handle in handles) or "none"
            known += "".join(f"; {error}" for error in nvml.unopened.values())
            raise _MissingDevice(f"NVML sees {quantity} with UUID {wanted} (it sees: {known})")
        (handle,) = matching
    if handle.slot is None and handle.mig_enabled:
        slices = ", ".join(f"{part.uuid} ({part.profile})" for part in handle.slices())
        raise _MissingDevice(
            f"GPU {handle.index} is divided by MIG, and CUDA computes on its slices only: {slices or 'none yet'}"
        )
    return handle


def _no_such(wanted: str, reason: str, option: str) -> DeviceError:
    return DeviceError(
        f"{option} {wanted}: {reason}.\nMeasure on the CPU with {option} cpu, or let auto choose a device."
    )


def _why_none(nvml: Nvml) -> str:
    gpus = nvml.gpus()
    if gpus and all(gpu.mig_enabled and not gpu.slices() for gpu in gpus):
        return "MIG is on, but no slice exists yet (nvidia-smi mig -cgi creates slices)"
    if gpus:
        return f"{VISIBLE}={os.environ.get(VISIBLE)} hides all GPUs"
    return "NVML sees 0 GPUs"


def _describe(nvml: Nvml, handle: Handle) -> Device:
    try:
        return _device(nvml, handle)
    except NvmlError as error:
        raise NvmlError(error.kind, f"{error}.\nDoes nvidia-smi work?") from error


def _device(nvml: Nvml, handle: Handle) -> Device:
    board, profile, method, setup = handle.board, handle.profile, _energy_method(handle), handle.setup
    key: dict[str, Plain] = {
        "device": handle.name,
        "device_count": 1,
        "mig_profile": profile,
        "power_limit_w": handle.power_limit_w,
        "clock_policy": "default",
    }
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
        "gpu_co_tenants": describe([process.pid for process in handle.processes or ()]),
        **_host(),
    }
    if board is not handle:
        environment["gpu_board_uuid"] = board.uuid
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
    """Return the methods that work now, by one reading of each."""
    methods = []
    # The share of a slice in its board's energy is unknown.
    if handle is not None and handle.slot is None:
        if handle.energy_j is not None:
            methods.append(NVML_COUNTER)
        elif handle.power_w is not None:
            methods.append(NVML_POWER)
    if Rapl.find() is not None:
        methods.append(RAPL)
    return "+".join(methods)


def _with_method(key: dict[str, Plain], method: str) -> PlainMapping:
    """Add the energy method to a key. Without a method the key has no such field."""
    return {**key, "energy_method": method} if method else key


def cpu(note: str = "") -> Device:
    """Return the CPU as the device under test.

    A CPU quota is part of the key: what a container may use of its cores is not the machine without the quota.
    """
    name, method, cores, quota = cpu_model(), _energy_method(None), len(os.sched_getaffinity(0)), cpu_quota_cores()
    key: dict[str, Plain] = {"device": f"CPU {name}", "cores": cores}
    if quota is not None and quota < cores:
        key["quota_cores"] = quota
    return Device("cpu", name, "cpu", _with_method(key, method), _host(), note, energy_method=method)


def _host() -> dict[str, Plain]:
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "host": platform.node(),
        "machine_id": machine_id(),
        "kernel": platform.release(),
        "cpu_governor": governor.read_text().strip() if governor.exists() else None,
        "cpu": cpu_model(),
        "cpu_cores": len(os.sched_getaffinity(0)),
        "cpu_quota_cores": cpu_quota_cores(),
    }
