"""The hardware under test: its description and key, its locks and clocks, and readings of it during a window."""

from pytest_gpuperf.device.clocks import FreeClocks, LockedClocks
from pytest_gpuperf.device.contention import (
    CpuReading,
    others_share,
    read_cpu,
    read_threads,
    steal_share,
    threads_between,
)
from pytest_gpuperf.device.device import (
    Device,
    find_device,
    find_devices,
    find_named_devices,
    joint_environment,
    joint_key,
)
from pytest_gpuperf.device.instrumentation import instruments, python_mode, tracers, without_instrumentation
from pytest_gpuperf.device.lock import DeviceLock, LockId
from pytest_gpuperf.device.monitor import Monitor

__all__ = [
    "CpuReading",
    "Device",
    "DeviceLock",
    "FreeClocks",
    "LockId",
    "LockedClocks",
    "Monitor",
    "find_device",
    "find_devices",
    "find_named_devices",
    "instruments",
    "joint_environment",
    "joint_key",
    "others_share",
    "python_mode",
    "read_cpu",
    "read_threads",
    "steal_share",
    "threads_between",
    "tracers",
    "without_instrumentation",
]
