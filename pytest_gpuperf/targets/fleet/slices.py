"""What each server of a fleet runs on."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_gpuperf.errors import OptionError

#: A UUID as NVML has it (also the older form of a slice's, ``MIG-GPU-.../1/0``), or an index.
_VISIBLE = re.compile(r"(GPU|MIG)-[\w./-]+|\d+")
_CPU = "cpu"


class DetectedDevice(Protocol):
    """A GPU, MIG slice or CPU as the device layer finds it.

    Attributes:
        kind: ``gpu`` or ``cpu``.
        visible: what CUDA_VISIBLE_DEVICES calls it; of no interest of the CPU.
    """

    @property
    def kind(self) -> str: ...

    @property
    def visible(self) -> str | None: ...


DeviceLike = DetectedDevice | str | int


@dataclass(frozen=True)
class Slice:
    """What one server runs on.

    Attributes:
        visible: what CUDA_VISIBLE_DEVICES says; None on the CPU.
        cpus: the cores that it is kept to; None for all.
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
        row = len(cores) > 2 and list(cores) == list(range(cores[0], cores[-1] + 1))
        return f"cores {cores[0]} to {cores[-1]}" if row else f"cores {', '.join(map(str, cores))}"


def slices_of(devices: Sequence[DeviceLike], replicas: int | None) -> tuple[Slice, ...]:
    """A slice for each server: the devices one after the other, or the cores in equal shares.

    Args:
        devices: GPUs or MIG slices; the CPU, or nothing, for shares of the cores this process may use.
        replicas: how many; one for each device, or each core, when None.

    Raises:
        OptionError: a device can't be used as written, or there are not so many.
    """
    if replicas is not None and (type(replicas) is not int or replicas < 1):
        raise OptionError(f"replicas={replicas!r}: a fleet has one server or more.")
    names = [_visible(device) for device in devices]
    gpus = [name for name in names if name is not None]
    if gpus and len(gpus) < len(names):
        raise OptionError(f"devices={list(devices)} mixes GPUs with the CPU: a fleet is on one of them.")
    if not gpus:
        cores = sorted(os.sched_getaffinity(0))
        count = replicas or len(names) or len(cores)
        return tuple(Slice(cpus=share) for share in core_shares(cores, count))
    if replicas is not None and replicas > len(gpus):
        raise OptionError(
            f"replicas={replicas} for {len(gpus)} device(s): every server has a device. Name more of them, as "
            "devices=gpu(count=4) or devices=gpu(mig='1g.10gb', count=7); one that is named twice gets two servers."
        )
    return tuple(Slice(visible=name) for name in gpus[:replicas])


def core_shares(cores: Sequence[int], count: int) -> tuple[tuple[int, ...], ...]:
    """The cores in ``count`` disjoint shares of one size; what is left over stays free.

    With more servers than cores they take turns, one core each.
    """
    size = len(cores) // count
    if not size:
        return tuple((cores[index % len(cores)],) for index in range(count))
    return tuple(tuple(cores[index * size : (index + 1) * size]) for index in range(count))


def _visible(device: DeviceLike) -> str | None:
    """None for the CPU."""
    kind = getattr(device, "kind", "")
    name = getattr(device, "visible", None) if kind else device
    if _CPU in (kind, name):
        return None
    text = str(name) if isinstance(name, str) or type(name) is int else ""
    if not _VISIBLE.fullmatch(text):
        raise OptionError(
            f"{device!r} is no device of a fleet: write an index, a GPU or MIG UUID (nvidia-smi -L shows them), 'cpu', "
            "or what gpu(...) gives."
        )
    return text
