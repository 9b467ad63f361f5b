"""The ``gpu`` fixture: the device under test, and the devices that a test asks for instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import overload

import pytest

from pytest_gpuperf.device import Device
from pytest_gpuperf.errors import DeviceError, OptionError


def worker_number(config: pytest.Config) -> int | None:
    """Return the number of this pytest-xdist worker, from 0; None without pytest-xdist."""
    # Not from the environment, which a pytest started by a test inherits.
    name = str(getattr(config, "workerinput", {}).get("workerid", ""))
    return int(name[2:]) if name.startswith("gw") and name[2:].isdigit() else None


@dataclass(frozen=True)
class DeviceChooser:
    """Finds devices for a test, and has the test measured on them.

    Attributes:
        find: Returns all devices that this process may use.
        use: Called with the devices that the running test is measured on.
        number: Number of this worker, so that workers begin with different devices; None to begin with the device under
            test.
    """

    find: Callable[[], tuple[Device, ...]]
    use: Callable[[Sequence[Device]], None]
    number: int | None = None


@dataclass(frozen=True)
class Gpu(Device):
    """The device under test. A call returns other devices, on which the calling test is then measured.

    Attributes:
        chooser: Finds the other devices.
    """

    chooser: DeviceChooser = field(kw_only=True, repr=False, compare=False)

    @classmethod
    def of(cls, device: Device, chooser: DeviceChooser) -> Gpu:
        """Return a device as the fixture's value."""
        return cls(**{field.name: getattr(device, field.name) for field in fields(Device)}, chooser=chooser)

    @overload
    def __call__(self, *, mig: str | None = None) -> Device: ...

    @overload
    def __call__(self, *, mig: str | None = None, count: int) -> tuple[Device, ...]: ...

    def __call__(self, *, mig: str | None = None, count: int | None = None) -> Device | tuple[Device, ...]:
        """Return a MIG slice, or several devices of one model; skip the test on a machine that lacks them.

        Args:
            mig: MIG profile, for example ``1g.10gb``; undivided GPUs when None.
            count: Number of devices, which are returned as a tuple.

        Raises:
            OptionError: An argument can't be used.
            DeviceError: NVML doesn't work.
        """
        if count is not None and (type(count) is not int or count < 1):
            raise OptionError(f"gpu(count={count!r}): write how many devices, 1 or more.")
        wanted = count or 1
        suitable = self._suitable(mig)
        if len(suitable) < wanted:
            plural = wanted != 1
            what = f"MIG slice{'s' * plural} {mig}" if mig else f"GPU{'s of one model' * plural}"
            present = ", ".join(device.label for device in self.chooser.find()) or "no GPU"
            pytest.skip(f"needs {wanted} {what}; this machine has: {present}")
        first = (self.chooser.number or 0) * wanted % len(suitable)
        chosen = tuple((suitable[first:] + suitable[:first])[:wanted])
        self.chooser.use(chosen)
        return chosen if count is not None else chosen[0]

    def _suitable(self, mig: str | None) -> list[Device]:
        """Return the devices of a MIG profile that share a key with the first of them."""
        try:
            devices = [device for device in self.chooser.find() if device.mig_profile == mig]
        except DeviceError:
            if self.kind == "cpu":
                return []
            raise
        if self.chooser.number is None:
            devices.sort(key=lambda device: device.id != self.id)
        return [device for device in devices if device.key == devices[0].key]
