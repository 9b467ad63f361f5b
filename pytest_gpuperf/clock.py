"""The real clock, which neither freezegun nor a patch of ``time`` changes.

Suites freeze the time, and some leave it frozen while they measure. ``time`` here is a second copy of the built-in
module: its functions are other objects than those that freezegun searches for and replaces in every loaded module.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

__all__ = ["time", "wall_s"]

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
