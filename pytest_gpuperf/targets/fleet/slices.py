"""The device or cores of each server of a fleet."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_gpuperf.errors import OptionError

#: A UUID in NVML's form (including the older form of a slice's, ``MIG-GPU-.../1/0``), or an index.
_VISIBLE = re.compile(r"(GPU|MIG)-[\w./-]+|\d+")
_CPU = "cpu"


class DetectedDevice(Protocol):
    """A GPU, MIG slice or CPU as described by the device layer."""

    @property
    def kind(self) -> str:
        """``gpu`` or ``cpu``."""

    @property
    def visible(self) -> str | None:
        """Name in CUDA_VISIBLE_DEVICES; ignored for the CPU."""


DeviceLike = DetectedDevice | str | int


@dataclass(frozen=True)
class Slice:
    """The device or cores of a server.

    Attributes:
        visible: The server's CUDA_VISIBLE_DEVICES; None on the CPU.
        cpus: Cores that the server is bound to; all when None.
    """

    visible: str | None = None
    cpus: tuple[int, ...] | None = None

    @property
    def label(self) -> str:
        if self.visible is not None:
            return f"GPU {self.visible}" if self.visible.isdigit() else self.visible
        cores = self.cpus or ()
        if len(cores) == 1:
            return f"core {cores[0]}"
        contiguous = len(cores) > 2 and list(cores) == list(range(cores[0], cores[-1] + 1))
        return f"cores {cores[0]} to {cores[-1]}" if contiguous else f"cores {', '.join(map(str, cores))}"


def slices_of(devices: Sequence[DeviceLike], replicas: int | None) -> tuple[Slice, ...]:
    """Return a slice for each server: the devices in order, or equal shares of the cores.

    Args:
        devices: GPUs or MIG slices; the CPU, or nothing, for shares of the cores that this process may use.
        replicas: Number of servers; the number of devices, or of cores, when None.
    """
    if replicas is not None and (type(replicas) is not int or replicas < 1):
        raise OptionError(f"replicas={replicas!r} must be 1 or more.")
    names = [_visible(device) for device in devices]
    gpus = [name for name in names if name is not None]
    if gpus and len(gpus) < len(names):
        raise OptionError(f"devices={list(devices)} mixes GPUs with the CPU; use either.")
    if not gpus:
        cores = sorted(os.sched_getaffinity(0))
        count = replicas or len(names) or len(cores)
        return tuple(Slice(cpus=share) for share in core_shares(cores, count))
    if replicas is not None and replicas > len(gpus):
        raise OptionError(
            f"replicas={replicas} for {len(gpus)} device(s): every server needs a device. Name more, such as "
            "devices=gpu(count=4) or devices=gpu(mig='1g.10gb', count=7); a device named twice gets two servers."
        )
    return tuple(Slice(visible=name) for name in gpus[:replicas])


def core_shares(cores: Sequence[int], count: int) -> tuple[tuple[int, ...], ...]:
    """Return the cores in ``count`` disjoint shares of equal size; the remaining cores stay unused.

    With more servers than cores, each server gets a single core, and cores are shared.
    """
    size = len(cores) // count
    if not size:
        return tuple((cores[index % len(cores)],) for index in range(count))
    return tuple(tuple(cores[index * size : (index + 1) * size]) for index in range(count))


def _visible(device: DeviceLike) -> str | None:
    """Return the device's name in CUDA_VISIBLE_DEVICES; None for the CPU."""
    kind = getattr(device, "kind", "")
    name = getattr(device, "visible", None) if kind else device
    if _CPU in (kind, name):
        return None
    text = str(name) if isinstance(name, str) or type(name) is int else ""
    if not _VISIBLE.fullmatch(text):
        raise OptionError(
            f"{device!r} is not a device: use an index, a GPU or MIG UUID (see nvidia-smi -L), 'cpu', or the result of "
            "gpu(...)."
        )
    return text
