"""Tracers, profilers and debug modes, which slow Python down during a measurement, but not in production.

A tracer multiplies the time of Python code (coverage's by 2 to 30). No statistic can tell that from a regression, so
each of them is named in the record, and is part of its comparison key.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import threading
import tracemalloc
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pytest_gpuperf.device.processes import descendants, describe

#: Variables that start coverage in every new Python process.
SUBPROCESS_TRACERS = (
    "COVERAGE_PROCESS_START",
    "COVERAGE_PROCESS_CONFIG",
    "COV_CORE_SOURCE",
    "COV_CORE_CONFIG",
    "COV_CORE_DATAFILE",
)
#: Variables that put Python into a debug mode.
_DEBUG_VARIABLES = ("PYTHONDEVMODE", "PYTHONMALLOC", "PYTHONTRACEMALLOC", "PYTHONPROFILEIMPORTTIME")
#: Preloaded libraries that check or profile memory.
_CHECKING_LIBRARY = re.compile(
    r"\b(lib)?(a|t|l|m|ub)san\b|vgpreload|heaptrack|memray|efence|duma|dmalloc|tcmalloc_debug"
)
#: Variables of profilers and debug modes of CUDA.
_CUDA_VARIABLES = ("CUDA_INJECTION64_PATH", "NVTX_INJECTION64_PATH", "CUDA_LAUNCH_BLOCKING")
#: Packages whose functions are called for events, by the name that people know.
_KNOWN_PACKAGES = {"_pydevd_bundle": "pydevd", "pydevd_tracing": "pydevd", "bdb": "pdb", "_lsprof": "cProfile"}


def python_mode(environ: Mapping[str, str] = os.environ) -> str:
    """Return in which debug or optimised mode this process runs, such as ``-O``; empty for the usual one."""
    modes = []
    if sys.flags.optimize:
        modes.append("python -" + "O" * sys.flags.optimize)
    if sys.flags.dev_mode:
        modes.append("python -X dev")
    if hasattr(sys, "gettotalrefcount"):
        modes.append("debug build of Python")
    allocator = environ.get("PYTHONMALLOC", "")
    if "debug" in allocator:
        modes.append(f"PYTHONMALLOC={allocator}")
    modes += [name for name in ("MALLOC_CHECK_", "MALLOC_PERTURB_") if environ.get(name, "0") != "0"]
    preloaded = re.split(r"[:\s]+", environ.get("LD_PRELOAD", ""))
    modes += [Path(library).name for library in preloaded if _CHECKING_LIBRARY.search(Path(library).name)]
    modes += [name for name in _CUDA_VARIABLES if environ.get(name, "0") != "0"]
    return ", ".join(modes)


def tracers(processes: Sequence[int] = (), environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return what traces or profiles this process now, or a process of the target, for example ``coverage``.

    Args:
        processes: Roots of the target's process trees.
    """
    names = [
        _package_of(hook)
        for hook in (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile())
        if hook is not None
    ]
    if monitoring := getattr(sys, "monitoring", None):
        names += [str(name) for tool in range(6) if (name := monitoring.get_tool(tool)) is not None]
    if tracemalloc.is_tracing():
        names.append("tracemalloc")
    if gc.get_debug():
        names.append("gc debugging")
    if any(signal.getitimer(timer)[1] for timer in (signal.ITIMER_PROF, signal.ITIMER_VIRTUAL)):
        names.append("a profiling timer")
    if any(environ.get(name) for name in SUBPROCESS_TRACERS):
        names.append("coverage in subprocesses")
    pids = descendants(processes) if processes else ()
    names += [f"a debugger ({command})" for command in _debuggers([os.getpid(), *pids])]
    # sys.monitoring's name of a tool may have a suffix: "coverage.py".
    return tuple(sorted({name.removesuffix(".py") for name in names}))


def instruments(processes: Sequence[int] = ()) -> tuple[str, ...]:
    """Return everything that slows Python down during a measurement: the tracers, and the mode of this process."""
    return tuple(filter(None, (*tracers(processes), python_mode())))


def without_instrumentation(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that must not be slowed down by it: the load generator."""
    return {name: value for name, value in environ.items() if name not in (*SUBPROCESS_TRACERS, *_DEBUG_VARIABLES)}


def _package_of(hook: object) -> str:
    function = getattr(hook, "__self__", None) or hook
    module = getattr(function, "__module__", None) or type(function).__module__
    if module == "builtins":
        module = type(function).__module__
    package = str(module).partition(".")[0]
    return _KNOWN_PACKAGES.get(package, package)


def _debuggers(pids: Iterable[int]) -> list[str]:
    """Return the commands of the processes that trace the given ones (ptrace)."""
    commands = []
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        except OSError:
            continue  # the process has ended
        tracer = re.search(r"^TracerPid:\s+(\d+)", status, re.MULTILINE)
        if tracer is not None and tracer[1] != "0":
            # Without the number, which differs from record to record.
            commands.append(describe([int(tracer[1])]).partition(" ")[2] or "of another container")
    return commands
