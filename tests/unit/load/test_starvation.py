"""A load generator that is kept from running is a finding: otherwise it would measure itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil
import pytest

from pytest_gpuperf.load import Recording, WindowSpec
from pytest_gpuperf.load.inprocess import ThreadLoop
from pytest_gpuperf.load.process import WorkerProcesses
from pytest_gpuperf.model import CallWorkload, Constant
from tests.unit.load.hostile import Server, answers, response
from tests.unit.load.wire import workload

CLOSED = WindowSpec(2, 0.6)
OPEN = WindowSpec(0, 0.6, arrivals=Constant(50.0))


@contextmanager
def stopped(pid: int, stopped_s: float, every_s: float = 0.1) -> Iterator[None]:
    """Stop a process again and again, from another process, which can also stop this one."""
    code = (
        "import os, signal, time; print(flush=True)\n"
        f"while os.getppid() == {os.getpid()}:\n"
        f"    os.kill({pid}, signal.SIGSTOP); time.sleep({stopped_s})\n"
        f"    os.kill({pid}, signal.SIGCONT); time.sleep({every_s - stopped_s})\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as nagging:
        assert nagging.stdout is not None
        try:
            nagging.stdout.readline()
            yield
        finally:
            nagging.kill()
            nagging.wait()
            os.kill(pid, signal.SIGCONT)


def share(recording: Recording, seconds: float) -> float:
    return seconds * 1e9 / (recording.stop_ns - recording.start_ns)


@pytest.mark.parametrize("spec", [CLOSED, OPEN], ids=["closed loop", "open loop"])
def test_a_worker_that_is_stopped_shows_for_how_long(spec: WindowSpec) -> None:
    with Server(answers(response(), after_s=0.004)) as server, closing(WorkerProcesses()) as generator:
        load = workload(server)
        calm = generator.window(load, spec)
        with stopped(generator._workers[0].process.pid, 0.04):
            nagged = generator.window(load, spec)
    assert calm.stops == 0
    assert nagged.stops >= 3
    # The machine of a test may be busy: then it waits for a CPU for a part of the time as well.
    # Of 40 ms the loop sees what is beyond its own sleep of 20 ms.
    assert share(nagged, nagged.halted_s + nagged.wait_s) > 0.1
    assert share(calm, calm.halted_s) < share(nagged, nagged.halted_s + nagged.wait_s) / 2


def test_a_slow_target_is_no_stop() -> None:
    """The loop has nothing to do for longer than it sleeps."""
    with Server(answers(response(), after_s=0.15)) as server, closing(WorkerProcesses()) as generator:
        recording = generator.window(workload(server), WindowSpec(1, 0.6))
    assert share(recording, recording.halted_s) < 0.2


def test_short_stops_are_counted() -> None:
    """Stops of 4 ms are shorter than the loop's own sleep."""
    with Server(answers(response(), after_s=0.004)) as server, closing(WorkerProcesses()) as generator:
        load = workload(server)
        with stopped(generator._workers[0].process.pid, 0.004, 0.02):
            assert generator.window(load, CLOSED).stops >= 5


def test_a_worker_that_shares_a_core_with_others_shows_how_long_it_waits() -> None:
    with Server(answers(response())) as server, closing(WorkerProcesses()) as generator:
        load, pid = workload(server), generator._workers[0].process.pid
        psutil.Process(pid).cpu_affinity([max(os.sched_getaffinity(0))])
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
        try:
            for process in busy:
                psutil.Process(process.pid).cpu_affinity([max(os.sched_getaffinity(0))])
            # Other work on the machine may move in on the busy processes instead of on the worker.
            windows = [generator.window(load, CLOSED)]
            while share(windows[-1], windows[-1].wait_s) <= 0.05 and len(windows) < 5:
                windows.append(generator.window(load, CLOSED))
            crowded = windows[-1]
        finally:
            for process in busy:
                process.kill()
                process.wait()
    assert share(crowded, crowded.wait_s) > 0.05
    assert crowded.stops == 0


def test_callers_in_a_process_that_is_stopped() -> None:
    loop, spec = ThreadLoop(), WindowSpec(1, 0.5)
    load = CallWorkload(lambda: time.sleep(0.004))
    assert loop.window(load, spec).stops == 0
    handler = signal.getsignal(signal.SIGCONT)
    assert handler is signal.SIG_DFL
    with stopped(os.getpid(), 0.04):
        assert loop.window(load, spec).stops >= 2
    assert signal.getsignal(signal.SIGCONT) is handler


def test_another_handler_of_the_signal_is_called_too() -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGCONT, lambda number, _: calls.append(number))
    try:
        with stopped(os.getpid(), 0.04):
            ThreadLoop().window(CallWorkload(lambda: time.sleep(0.004)), WindowSpec(1, 0.3))
    finally:
        signal.signal(signal.SIGCONT, before)
    assert calls


def test_callers_may_be_started_from_any_thread() -> None:
    """Only the main thread may set a handler."""
    recordings: list[Recording] = []
    load = CallWorkload(lambda: time.sleep(0.004))
    thread = threading.Thread(target=lambda: recordings.append(ThreadLoop().window(load, WindowSpec(1, 0.1))))
    thread.start()
    thread.join()
    assert recordings[0].stops == 0
    assert recordings[0].answered
