"""Tracers and profilers of Python are named, whatever started them."""

from __future__ import annotations

import cProfile
import os
import subprocess
import sys
import threading
import tracemalloc
from bdb import Bdb
from collections.abc import Iterator
from types import FrameType

import pytest

from pytest_gpuperf.device.instrumentation import python_mode, tracers, without_instrumentation


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """These tests may run under coverage themselves."""
    trace, profile, threads = sys.gettrace(), sys.getprofile(), threading.gettrace()
    sys.settrace(None)
    sys.setprofile(None)
    threading.settrace(None)
    yield
    sys.settrace(trace)
    sys.setprofile(profile)
    threading.settrace(threads)


def names() -> set[str]:
    return set(tracers(environ={}))


def test_an_ordinary_process_has_none() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    code = "from pytest_gpuperf.device import python_mode, tracers; print([tracers(), python_mode()])"
    found = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[(), '']"


def test_a_debugger() -> None:
    debugger = Bdb()
    debugger.reset()
    sys.settrace(debugger.trace_dispatch)
    found = names()
    sys.settrace(None)
    assert "pdb" in found


def test_a_tracer_of_new_threads_only() -> None:
    """The calls of a sweep run in threads of their own."""

    def trace(_frame: FrameType, _event: str, _argument: object) -> None:
        """Do nothing."""

    threading.settrace(trace)
    found = names()
    threading.settrace(None)
    assert found == {"tests"}


def test_a_profiler() -> None:
    profiler = cProfile.Profile()
    profiler.enable()
    found = names()
    profiler.disable()
    assert "cProfile" in found


def test_memory_tracing() -> None:
    tracemalloc.start()
    found = names()
    tracemalloc.stop()
    assert "tracemalloc" in found


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring exists since 3.12")
def test_a_tool_of_sys_monitoring() -> None:
    monitoring = sys.monitoring  # type: ignore[attr-defined]
    monitoring.use_tool_id(3, "mytool")
    found = names()
    monitoring.free_tool_id(3)
    assert "mytool" in found


def test_coverage_that_is_to_start_in_every_process() -> None:
    assert "coverage in subprocesses" in tracers(environ={"COVERAGE_PROCESS_START": "/p/.coveragerc"})


def test_a_debugger_of_another_process() -> None:
    """A process that traces its child, as gdb does, by ptrace(PTRACE_TRACEME)."""
    code = "import ctypes, time; ctypes.CDLL(None).ptrace(0, 0, 0, 0); print('ready', flush=True); time.sleep(30)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            if child.stdout.readline().strip() != "ready":
                pytest.skip("this machine allows no ptrace")
            assert any(name.startswith("a debugger (") for name in tracers([child.pid], environ={}))
        finally:
            child.kill()


@pytest.mark.parametrize(
    ("arguments", "environ", "mode"),
    [
        (["-O"], {}, "python -O"),
        (["-OO"], {}, "python -OO"),
        (["-X", "dev"], {}, "python -X dev"),
        ([], {"PYTHONDEVMODE": "1"}, "python -X dev"),
        ([], {"PYTHONMALLOC": "malloc_debug"}, "PYTHONMALLOC=malloc_debug"),
        ([], {"MALLOC_PERTURB_": "85"}, "MALLOC_PERTURB_"),
    ],
)
def test_a_mode_of_python(arguments: list[str], environ: dict[str, str], mode: str) -> None:
    code = "from pytest_gpuperf.device import python_mode; print(python_mode())"
    command = [sys.executable, *arguments, "-c", code]
    found = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, check=True)
    assert mode in found.stdout.strip().split(", ")


@pytest.mark.parametrize(
    ("preloaded", "mode"),
    [
        ("/usr/lib/libasan.so.8", "libasan.so.8"),
        ("libjemalloc.so.2:/x/libclang_rt.tsan-x86_64.so", "libclang_rt.tsan-x86_64.so"),
        ("/usr/lib/libjemalloc.so.2", ""),
    ],
)
def test_a_preloaded_library_that_checks_memory(preloaded: str, mode: str) -> None:
    """An allocator is under test, and never part of the key."""
    assert python_mode({"LD_PRELOAD": preloaded}) == mode


def test_the_load_generator_gets_none_of_it() -> None:
    environ = {"PATH": "/bin", "COVERAGE_PROCESS_CONFIG": "x", "COV_CORE_SOURCE": "", "PYTHONDEVMODE": "1"}
    assert without_instrumentation(environ) == {"PATH": "/bin"}
