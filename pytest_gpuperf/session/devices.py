"""The devices that this process measures on, their monitors, and their clocks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property

from pytest_gpuperf.device import (
    Device,
    FreeClocks,
    LockedClocks,
    Monitor,
    find_device,
    find_devices,
    find_named_devices,
    joint_key,
)
from pytest_gpuperf.device.clocks import policy
from pytest_gpuperf.device.device import VISIBLE
from pytest_gpuperf.errors import DeviceError, OptionError
from pytest_gpuperf.model import PlainMapping
from pytest_gpuperf.session.gpu import DeviceChooser, Gpu
from pytest_gpuperf.session.settings import Settings


class Devices:
    """The device under test, and the devices that single tests ask for.

    Args:
        worker: Number of this pytest-xdist worker; None without pytest-xdist.

    Attributes:
        running: Id of the running test.
    """

    def __init__(self, settings: Settings, worker: int | None) -> None:
        self._settings, self._worker = settings, worker
        self.running = ""
        #: CUDA_VISIBLE_DEVICES before ``export`` set it.
        self._visible = os.environ.get(VISIBLE)
        self._chosen: dict[str, tuple[Device, ...]] = {}
        self._monitors: dict[tuple[str, ...], Monitor] = {}
        self._clocks: dict[str, FreeClocks | LockedClocks] = {}

    @cached_property
    def first(self) -> Device:
        """The device under test, unless a test asks for others."""
        return find_device(self._settings.device, self._worker or 0)

    def export(self) -> None:
        """Make this process, and the processes it starts, compute on the device under test."""
        has_gpu = self.first.kind == "gpu"
        if has_gpu:
            # CUDA's default order begins with the fastest GPU, NVML's with the first slot: both must mean the same.
            os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        if self._settings.device != "auto" or (has_gpu and self._worker is not None):
            os.environ[VISIBLE] = self.first.visible

    @cached_property
    def gpu(self) -> Gpu:
        """The value of the ``gpu`` fixture."""
        number = self._worker if self._settings.device == "auto" else None
        return Gpu.of(self.first, DeviceChooser(lambda: find_devices(self._visible), self._use, number))

    def _use(self, devices: Sequence[Device]) -> None:
        self._chosen[self.running] = tuple(devices)

    def of(self, test: str) -> tuple[Device, ...]:
        """Return the devices that a test is measured on."""
        return self._chosen.get(test, (self.first,))

    @property
    def current(self) -> tuple[Device, ...]:
        """The devices of the running test, which its targets compute on by default."""
        return self.of(self.running)

    def in_process(self, test: str) -> str:
        """Return the device that a test's targets in this process compute on, as CUDA_VISIBLE_DEVICES names it.

        Empty for the first device that CUDA shows this process.
        """
        first = self.of(test)[0]
        return "" if first.id == self.first.id else first.visible

    def key(self, test: str) -> PlainMapping:
        """Return the part of a test's comparison key that its devices decide."""
        wish = self._settings.lock_clocks
        return joint_key(self.of(test), policy(wish.mhz) if wish is not None else "")

    def choose(self, test: str, device_ids: Sequence[str], *, begun: bool) -> None:
        """Measure a test on the devices that its targets compute on.

        Args:
            device_ids: Devices as CUDA_VISIBLE_DEVICES names them.
            begun: Whether the test has measured before, so that its devices are part of a key already.

        Raises:
            DeviceError: There is no such device.
            OptionError: The test began on other devices.
        """
        chosen = {device.id for device in self.of(test)}
        devices = find_named_devices(device_ids) if not chosen.issuperset(device_ids) else ()
        if chosen.issuperset(device.id for device in devices):
            return
        if begun:
            raise OptionError(
                f"This test began on {', '.join(sorted(chosen))}, and a further target computes on "
                f"{', '.join(device_ids)}.\n"
                "Give each target a test of its own, or ask for all devices before the first measurement: gpu(count=2)."
            )
        self._chosen[test] = devices

    def monitor(self, test: str, family: int | None = None) -> Monitor:
        """Return the monitor of a test's devices, and lock their clocks if the user asked for that.

        Monitors and clocks last as long as this process, since finding a counter's rhythm takes a while.

        Args:
            family: Process whose descendants are not reported as co-tenants.

        Raises:
            DeviceError: A device is gone or can't be read, or its clocks can't be locked or are locked by others.
        """
        devices = self.of(test)
        wish = self._settings.lock_clocks
        for device in devices:
            if device.id in self._clocks:
                continue
            if wish is not None:
                self._clocks[device.id] = LockedClocks(device, wish.mhz)
            elif device.kind == "gpu":
                self._clocks[device.id] = FreeClocks(device)
        ids = tuple(device.id for device in devices)
        if ids not in self._monitors:
            self._monitors[ids] = Monitor(devices, family=family)
        return self._monitors[ids]

    def close(self) -> None:
        """Restore the clocks and end the monitors. May be called twice.

        Raises:
            DeviceError: Clocks could not be restored.
        """
        problems = []
        for resource in (*self._clocks.values(), *self._monitors.values()):
            try:  # each of them, also when another one can't be closed
                resource.close()
            except DeviceError as error:
                problems.append(str(error))
        self._monitors.clear()
        self._clocks.clear()
        if problems:
            raise DeviceError("\n".join(problems))
