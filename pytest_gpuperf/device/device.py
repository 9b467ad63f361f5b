"""Finding the device under test."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

from pytest_gpuperf.device import nvml
from pytest_gpuperf.errors import DeviceError
from pytest_gpuperf.model import Plain, PlainMapping


@dataclass(frozen=True)
class Device:
    """A GPU, or the CPU where there is none.

    Attributes:
        kind: ``gpu`` or ``cpu``.
        name: the GPU's product name, or the CPU's model.
        id: names this very piece of hardware on this host, for locks.
        key: what of it two comparable sessions share.
        environment: what else is worth knowing when numbers differ.
        note: why it was chosen, when that may surprise.
    """

    kind: str
    name: str
    id: str
    key: PlainMapping
    environment: PlainMapping = field(default_factory=dict)
    note: str = ""

    @property
    def visible(self) -> str | None:
        """What CUDA_VISIBLE_DEVICES calls it; None for the CPU."""
        return self.id if self.kind == "gpu" else None

    @property
    def label(self) -> str:
        """How people read it."""
        if self.kind == "gpu":
            return f"GPU {self.name}"
        return f"CPU {self.name}, {self.key['cores']} cores (no GPU)"


def find_device(wanted: str = "auto") -> Device:
    """The device under test.

    Args:
        wanted: ``auto`` (the first GPU, else the CPU), ``cpu``, an NVML index, or a GPU UUID.

    Raises:
        DeviceError: the wanted GPU isn't there, or NVML is there and doesn't work.
    """
    if wanted == "cpu":
        return cpu()
    found = nvml.find_gpu("0" if wanted == "auto" else wanted)
    if isinstance(found, nvml.Gpu):
        return Device("gpu", found.name, found.uuid, found.key, {**found.environment, **_host()})
    if wanted == "auto":
        return cpu(note=found.reason)
    raise DeviceError(
        f"--gpuperf-device {wanted}: {found.reason}.\n"
        f"Measure on the CPU with --gpuperf-device cpu, or on what is there with auto."
    )


def cpu(note: str = "") -> Device:
    """The CPU as the device under test."""
    name = _cpu_model()
    cores = len(os.sched_getaffinity(0))
    return Device("cpu", name, "cpu", {"device": f"CPU {name}", "cores": cores}, _host(), note)


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
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
