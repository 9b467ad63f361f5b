"""The hardware under test: what it is called, what of it belongs into a key, who may use it now."""

from pytest_gpuperf.device.contention import CpuReading, others_share, read_cpu
from pytest_gpuperf.device.device import Device, find_device
from pytest_gpuperf.device.lock import DeviceLock

__all__ = ["CpuReading", "Device", "DeviceLock", "find_device", "others_share", "read_cpu"]
