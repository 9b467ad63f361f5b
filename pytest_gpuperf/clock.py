"""The real clock, which neither freezegun nor a patch of ``time`` changes.

Suites freeze the time, and some leave it frozen while they measure. ``time`` here is a second copy of the built-in
module: its functions are other objects than those that freezegun searches for and replaces in every loaded module.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING

__all__ = ["cpu_wait_s", "time", "wall_s"]

if TYPE_CHECKING:
    import time
else:
    _spec = importlib.util.find_spec("time")
    time = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(time)

_real_sleep = time.sleep


def _sleep(seconds: float) -> None:
    """Sleep in real time; where gevent has replaced threads by greenlets, let the others run meanwhile."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("time"):
        sys.modules["time"].sleep(seconds)
    else:
        _real_sleep(seconds)


vars(time)["sleep"] = _sleep

#: time-machine replaces the wall clock for every copy of the module, but not the time since the machine's start.
_WALL_AT_BOOT_S = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def wall_s() -> float:
    """Return the seconds since 1970, as ``time.time`` does."""
    return _WALL_AT_BOOT_S + time.clock_gettime(time.CLOCK_BOOTTIME)


def cpu_wait_s(thread: str = "thread-self") -> float:
    """Return how long a thread has been ready to run, but waiting for a CPU; 0 if the kernel does not report it.

    Args:
        thread: Directory of the thread in ``/proc``, for example ``self/task/1234``; the calling thread by default.
    """
    try:
        # Files of /proc are read in one piece; without buffers this takes a third of the time.
        descriptor = os.open(f"/proc/{thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0.0
    try:
        return int(os.read(descriptor, 128).split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0  # the thread has ended
    finally:
        os.close(descriptor)
