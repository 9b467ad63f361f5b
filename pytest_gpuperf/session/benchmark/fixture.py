"""A test's use of pytest-benchmark's ``benchmark`` fixture, which measures; here its rounds are taken over."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

from pytest_gpuperf.analysis.guard import cpu_findings, device_findings
from pytest_gpuperf.analysis.window import rounds_problem, rounds_window
from pytest_gpuperf.clock import cpu_wait_s, time
from pytest_gpuperf.device import Monitor, others_share, python_mode, read_cpu, steal_share, tracers
from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.model import ROUNDS, Finding, PlainMapping, Resources
from pytest_gpuperf.model.finding import INSTRUMENTED, PYTHON_INSTRUMENTED
from pytest_gpuperf.session.measured_test import MeasuredTest

_MODULE = "pytest_benchmark.fixture"
_USUAL_TIMER = "time.perf_counter"
#: pytest-benchmark's options that change what a round is.
_OPTIONS = ("disable_gc", "warmup")


def is_benchmark_fixture(value: object) -> bool:
    """Return whether a fixture's value is pytest-benchmark's; other plugins have fixtures of this name, too."""
    module = sys.modules.get(_MODULE)
    return module is not None and isinstance(value, module.BenchmarkFixture)


class WatchedBenchmark:
    """A benchmark fixture in use: the devices are locked and watched from its setup to the end of the test's call.

    Args:
        test: Test that its rounds are added to.
        fixture: Value of the fixture.
    """

    def __init__(self, test: MeasuredTest, fixture: Any) -> None:
        self._test, self.fixture = test, fixture
        self._watch = ExitStack()
        self._monitor: Monitor | None = None
        self._ended = False

    def begin(self) -> None:
        """Lock and watch the devices, unless pytest-benchmark is disabled and measures nothing.

        Raises:
            DeviceError: A device can't be locked or read.
        """
        if self.fixture.disabled:
            return
        devices = self._test.devices
        self._watch.enter_context(devices.locked())
        if not devices.watch_cpu:  # beside the CPU's own work, a thread that reads would disturb short rounds
            self._monitor = devices.monitor()
            self._monitor.attach((os.getpid(),), None, local=True)
            self._watch.enter_context(self._monitor.watching())
        self._cpu, self._ran_s, self._waited_s = read_cpu(), time.thread_time(), cpu_wait_s()
        self._start_ns = time.monotonic_ns()

    def close(self) -> None:
        """Release the devices. May be called twice."""
        self._watch.close()

    def end(self, error: BaseException | None) -> None:
        """Release the devices, and add the rounds to the test; the first call counts.

        Args:
            error: Exception that ended the test's call.

        Raises:
            LoadError: The rounds have no figures, although the test passed.
        """
        if self._ended:
            return
        self._ended = True
        if self.fixture.disabled:
            self._test.unmeasured_reason = _why_disabled()
            return
        stop_ns = time.monotonic_ns()
        ran_s, waited_s, cpu = time.thread_time() - self._ran_s, cpu_wait_s() - self._waited_s, read_cpu()
        watched_s, others = (stop_ns - self._start_ns) / 1e9, others_share(self._cpu, cpu)
        self.close()
        stats = self.fixture.stats
        if stats is None or not stats.stats.data:
            return
        if problem := rounds_problem(stats.stats.data):
            if error is None:
                raise LoadError(f"{self._test.test} {problem}\nNothing was measured: its clock is {_timer(stats)}.")
            return
        resources = Resources() if self._monitor is None else self._monitor.window(self._start_ns, stop_ns)
        timer = _timer(stats)
        window = rounds_window(
            ROUNDS if timer == _USUAL_TIMER else f"{ROUNDS}, {timer}", stats.stats.data, stats.iterations
        )
        instruments = tuple(filter(None, (*tracers(), python_mode())))
        findings = device_findings(resources.gpus, resources.failures) + cpu_findings(
            window_s=watched_s,
            steal_share=steal_share(self._cpu, cpu),
            others_share=others,
            target_cpu_s=ran_s,
            target_wait_s=waited_s,
        )
        findings += (Finding(PYTHON_INSTRUMENTED, INSTRUMENTED, names=instruments),) if instruments else ()
        window = replace(
            window,
            others_cpu_share=others if self._test.devices.watch_cpu else None,
            caller_wait_share=min(max(waited_s / watched_s, 0.0), 1.0),
            memory=resources.memory,
            gpus=resources.gpus,
            findings=findings,
        )
        cut_short = self.fixture.has_error or (error is not None and _passes_through(error.__traceback__, _MODULE))
        self._test.add_window(window, _under_test(stats), complete=not cut_short)


def _timer(stats: Any) -> str:
    """Return the name of the function that times the rounds: figures of different clocks are not compared."""
    timer: Callable[[], float] = stats.options.get("timer", time.perf_counter)
    module, name = getattr(timer, "__module__", None), getattr(timer, "__qualname__", None)
    return f"{module}.{name}" if module and name else type(timer).__qualname__


def _under_test(stats: Any) -> PlainMapping:
    version = sys.modules["pytest_benchmark"].__version__
    options = {name: bool(stats.options.get(name)) for name in _OPTIONS}
    return {"pytest_benchmark": str(version), "iterations": int(stats.iterations), **options}


def _passes_through(traceback: TracebackType | None, module: str) -> bool:
    """Return whether an exception was raised inside a module's functions."""
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") == module:
            return True
        traceback = traceback.tb_next
    return False


def _why_disabled() -> str:
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return "pytest-benchmark disables itself under pytest-xdist; run these tests without -n (-n 0)"
    return "pytest-benchmark is disabled (--benchmark-disable); add --benchmark-enable to measure it"
