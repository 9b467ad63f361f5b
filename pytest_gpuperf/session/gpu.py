"""The ``gpu`` fixture: the device under test, and further ones that a test asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import overload

import pytest

from pytest_gpuperf.device import Device
from pytest_gpuperf.errors import DeviceError, OptionError


def worker_number(config: pytest.Config) -> int | None:
    """Of this pytest-xdist worker, from 0; None without xdist."""
    # Not from the environment, which a pytest that a test starts inherits.
    name = str(getattr(config, "workerinput", {}).get("workerid", ""))
    return int(name[2:]) if name.startswith("gw") and name[2:].isdigit() else None


@dataclass(frozen=True)
class DeviceChooser:
    """Among which devices a test chooses.

    Attributes:
        find: all devices of this machine that we may use.
        use: told on what the running test is measured.
        number: of this worker, so that workers begin with different ones, as they do with the device under test; None
            where that is no question of workers, and comes first.
    """

    find: Callable[[], tuple[Device, ...]]
    use: Callable[[Sequence[Device]], None]
    number: int | None = None


@dataclass(frozen=True)
class Gpu(Device):
    """The device under test; called, it finds others instead, and the calling test is measured on those.

    Attributes:
        choice: where the others come from.
    """

    choice: DeviceChooser = field(kw_only=True, repr=False, compare=False)

    @classmethod
    def of(cls, device: Device, choice: DeviceChooser) -> Gpu:
        """A device as the fixture gives it."""
        return cls(**{one.name: getattr(device, one.name) for one in fields(Device)}, choice=choice)

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
            there = ", ".join(device.label for device in self.choice.find()) or "no GPU"
            pytest.skip(f"it needs {wanted} {what}, and here is: {there}")
        first = (self.choice.number or 0) * wanted % len(suitable)
        chosen = tuple((suitable[first:] + suitable[:first])[:wanted])
        self.choice.use(chosen)
        return chosen if count is not None else chosen[0]

    def _suitable(self, mig: str | None) -> list[Device]:
        """Devices that share a key with the first of them."""
        try:
            found = [device for device in self.choice.find() if device.mig_profile == mig]
        except DeviceError:
            if self.kind == "cpu":
                return []
            raise
        if self.choice.number is None:
            found.sort(key=lambda device: device.id != self.id)
        return [device for device in found if device.key == found[0].key]
