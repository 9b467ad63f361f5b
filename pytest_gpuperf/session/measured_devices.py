"""The devices of one test while it measures: chosen, locked and monitored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pytest_gpuperf.device import Device, DeviceLock, Monitor
from pytest_gpuperf.session.context import Context
from pytest_gpuperf.targets import OnDevices, Target, anchor


class MeasuredDevices:
    """The devices that a test is measured on."""

    def __init__(self, context: Context, test: str) -> None:
        self._context, self._test = context, test
        self._is_locked = False

    @property
    def _devices(self) -> tuple[Device, ...]:
        return self._context.devices.of(self._test)

    @property
    def kind(self) -> str:
        return self._devices[0].kind

    @property
    def watch_cpu(self) -> bool:
        """Whether the CPU itself is under test."""
        return self.kind == "cpu"

    def anchor_target(self) -> Target:
        """Return the target of the anchor on the first device."""
        device = self._context.devices.in_process(self._test)
        return anchor.anchor_target(self.kind, self._context.settings.triton, device)

    def choose(self, *targets: Target, begun: bool) -> None:
        """Measure the test on the devices that its targets state; see ``Devices.choose``."""
        device_ids = [
            device_id for target in targets if isinstance(target, OnDevices) for device_id in target.device_ids
        ]
        if device_ids:
            self._context.devices.choose(self._test, device_ids, begun=begun)

    @contextmanager
    def monitored(self) -> Iterator[Monitor]:
        """Lock the devices and return their monitor; the progress bar is cleared at the end."""
        with ExitStack() as stack:
            stack.callback(self._context.console.clear)
            stack.enter_context(self.locked())
            yield self.monitor()

    def monitor(self) -> Monitor:
        """Return the devices' monitor; see ``Context.monitor``."""
        return self._context.monitor(self._test)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes off the devices; a sweep inside of a locked test needs no second lock.

        ``gpuperf duet`` holds the lock of the device under test; head locks what a test adds, base nothing.
        """
        if self._is_locked:
            yield
            return
        side, lock_ids = self._context.duet_side, {device.lock_id for device in self._devices}
        if side is not None:
            lock_ids = lock_ids - {self._context.devices.first.lock_id} if side.is_head else set()
        with ExitStack() as stack:
            for lock_id in sorted(lock_ids):  # in one order for all processes, so that no two wait for each other
                stack.enter_context(DeviceLock(lock_id, waiting=self._context.console.waiting))
            self._is_locked = True
            stack.callback(setattr, self, "_is_locked", False)
            yield
