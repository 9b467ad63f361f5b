"""The hardware under test: what it is called, what of it belongs into a key, who may use it now."""

from pytest_gpuperf.device.device import Device, find_device
from pytest_gpuperf.device.lock import DeviceLock

__all__ = ["Device", "DeviceLock", "find_device"]
