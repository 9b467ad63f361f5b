"""The ``gpu`` fixture: the device under test, and further ones that a test asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import overload

import pytest

from pytest_gpuperf.device import Device, find_devices
from pytest_gpuperf.errors import DeviceError, OptionError

_ASSIGNED = "PYTEST_XDIST_WORKER"


def worker_number() -> int:
    """Of this pytest-xdist worker, from 0; 0 without xdist."""
    name = os.environ.get(_ASSIGNED, "")
    return int(name[2:]) if name.startswith("gw") and name[2:].isdigit() else 0


def _nobody(_devices: Sequence[Device]) -> None:
    """Is told nothing."""


@dataclass(frozen=True)
class Gpu(Device):
    """The device under test; called, it finds others instead, and the calling test is measured on those.

    Attributes:
        use: told on what the running test is measured.
    """

    use: Callable[[Sequence[Device]], None] = field(default=_nobody, repr=False, compare=False)

    @classmethod
    def of(cls, device: Device, use: Callable[[Sequence[Device]], None]) -> Gpu:
        """A device as the fixture gives it."""
        return cls(**{one.name: getattr(device, one.name) for one in fields(Device)}, use=use)

    @overload
    def __call__(self, *, mig: str | None = None) -> Device: ...

    @overload
    def __call__(self, *, mig: str | None = None, count: int) -> tuple[Device, ...]: ...

    def __call__(self, *, mig: str | None = None, count: int | None = None) -> Device | tuple[Device, ...]:
        """A MIG slice of that profile, or several devices that are alike; skips the test where they are not there.

        Args:
            mig: a profile, as ``1g.10gb``; whole GPUs when None.
            count: how many; then a tuple is returned.

        Raises:
            OptionError: an argument can't be used.
            DeviceError: NVML doesn't work.
        """
        if count is not None and (type(count) is not int or count < 1):
            raise OptionError(f"gpu(count={count!r}): write how many devices, 1 or more.")
        wanted = count or 1
        suitable = self._suitable(mig)
        if len(suitable) < wanted:
            what = f"MIG slice{'s' * (wanted != 1)} {mig}" if mig else f"GPU{'s' * (wanted != 1)} alike"
            there = ", ".join(device.label for device in find_devices()) or "no GPU"
            pytest.skip(f"it needs {wanted} {what}, and here is: {there}")
        first = worker_number() * wanted % len(suitable)
        chosen = tuple((suitable[first:] + suitable[:first])[:wanted])
        self.use(chosen)
        return chosen if count is not None else chosen[0]

    def _suitable(self, mig: str | None) -> list[Device]:
        """Devices that share a key with the first of them, the device under test before all others."""
        try:
            found = [device for device in find_devices() if device.mig_profile == mig]
        except DeviceError:
            if self.kind == "cpu":
                return []
            raise
        found.sort(key=lambda device: device.id != self.id)
        return [device for device in found if device.key == found[0].key]
