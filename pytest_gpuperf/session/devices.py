"""On what the tests of this process are measured, who watches it, and what was set on it."""

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
    find_places,
    joint_key,
)
from pytest_gpuperf.device.clocks import policy
from pytest_gpuperf.device.device import VISIBLE
from pytest_gpuperf.errors import DeviceError, OptionError
from pytest_gpuperf.model import PlainMapping
from pytest_gpuperf.session.gpu import DeviceChooser, Gpu
from pytest_gpuperf.session.settings import Settings


class Devices:
    """The device under test, and those that single tests ask for.

    Args:
        worker: number of this pytest-xdist worker; None without.

    Attributes:
        running: the test that is running.
    """

    def __init__(self, settings: Settings, worker: int | None) -> None:
        self._settings, self._worker = settings, worker
        self.running = ""
        #: As it was before we set it.
        self._visible = os.environ.get(VISIBLE)
        self._chosen: dict[str, tuple[Device, ...]] = {}
        self._monitors: dict[tuple[str, ...], Monitor] = {}
        self._clocks: dict[str, FreeClocks | LockedClocks] = {}

    @cached_property
    def first(self) -> Device:
        """Under test, unless a test asks for others."""
        return find_device(self._settings.device, self._worker or 0)

    def show(self) -> None:
        """Have what runs in this process, and what it starts, use the device that was asked for or assigned."""
        has_gpu = self.first.kind == "gpu"
        if has_gpu:
            # CUDA's own order begins with the fastest GPU, NVML's with the first slot: "the first" has to be the same.
            os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        if self._settings.device != "auto" or (has_gpu and self._worker is not None):
            os.environ[VISIBLE] = self.first.visible

    @cached_property
    def gpu(self) -> Gpu:
        """What the fixture gives."""
        number = self._worker if self._settings.device == "auto" else None
        choice = DeviceChooser(lambda: find_devices(self._visible), self._use, number)
        return Gpu.of(self.first, choice)

    def _use(self, devices: Sequence[Device]) -> None:
        self._chosen[self.running] = tuple(devices)

    def of(self, test: str) -> tuple[Device, ...]:
        """What a test is measured on."""
        return self._chosen.get(test, (self.first,))

    @property
    def now(self) -> tuple[Device, ...]:
        """What the running test is measured on, as far as is known: what targets of its are given unless it says."""
        return self.of(self.running)

    def inside(self, test: str) -> str:
        """Where what a test has computed in this process belongs; empty for the first device that CUDA shows it."""
        first = self.of(test)[0]
        return "" if first.id == self.first.id else first.visible

    def key(self, test: str) -> PlainMapping:
        """What two comparable records of a test share of them."""
        wish = self._settings.lock_clocks
        return joint_key(self.of(test), policy(wish.mhz) if wish is not None else "")

    def place(self, test: str, places: Sequence[str], *, begun: bool) -> None:
        """Have a test measured where its targets say that they compute, as CUDA_VISIBLE_DEVICES names it.

        Args:
            begun: it was measured before, so its devices are in a key.

        Raises:
            DeviceError: there is no such device.
            OptionError: it began on others.
        """
        own = {device.id for device in self.of(test)}
        devices = find_places(places) if not own.issuperset(places) else ()
        if own.issuperset(device.id for device in devices):
            return
        if begun:
            raise OptionError(
                f"This test began on {', '.join(sorted(own))}, and a further target computes on {', '.join(places)}.\n"
                "Give each a test of its own, or ask for all devices before the first measurement: gpu(count=2)."
            )
        self._chosen[test] = devices

    def monitor(self, test: str, family: int | None = None) -> Monitor:
        """Of a test's devices, whose clocks are locked if that was asked for, and else stay free; both last as long as
        this process, since finding a counter's rhythm takes a while.

        Args:
            family: a process whose descendants are no strangers.

        Raises:
            DeviceError: a device is gone, or can't be read, or its clocks can't be locked, or others have locked them.
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
        """Give the clocks back and end the monitors.

        Raises:
            DeviceError: clocks could not be given back.
        """
        kept = []
        for one in (*self._clocks.values(), *self._monitors.values()):
            try:  # each of them, also when another one can't be closed
                one.close()
            except DeviceError as error:
                kept.append(str(error))
        self._monitors.clear()
        self._clocks.clear()
        if kept:
            raise DeviceError("\n".join(kept))
