"""Load from several machines, through any ``concurrent.futures.Executor`` that reaches them.

The workers can't communicate, so each starts its window at the same time of day. A request's latency is measured with
a single clock; only the offset between the windows depends on how well the machines' clocks agree. They are compared at
the beginning, and the difference is reported as the skew.
"""

from __future__ import annotations

import os
import platform
from array import array
from concurrent.futures import Executor, Future
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass, replace
from typing import Any

from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import LoadError, OptionError
from pytest_gpuperf.load.generator import Recording, Times, WindowSpec
from pytest_gpuperf.load.loop import Loop
from pytest_gpuperf.load.process import share_of
from pytest_gpuperf.load.tally import Tally, recording_of, times_of
from pytest_gpuperf.model import WireWorkload, Workload

#: Time for the tasks to reach their workers before the load begins.
_REACH_S = 1.0
#: How much longer than its window a task may take.
_PATIENCE_S = 30.0
#: Clock readings of each worker; the quickest is used.
_READINGS = 4


@dataclass(frozen=True)
class RemoteWorkers:
    """Workers on other machines.

    Attributes:
        executor: Runs tasks on the workers; for dask, ``Client.get_executor(pure=False)``.
        count: Number of tasks that it runs at the same time.
    """

    executor: Executor
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise OptionError(f"RemoteWorkers(count={self.count}): count must be 1 or more.")


@dataclass(frozen=True)
class _Part:
    """A worker's recording: its tally, and its columns as bytes."""

    tally: Tally
    columns: dict[str, bytes]


class RemoteLoad:
    """A ``LoadGenerator`` whose workers are tasks of an executor."""

    def __init__(self, workers: RemoteWorkers) -> None:
        self._workers = workers
        self._skew_s: float | None = None

    def window(self, workload: Workload, spec: WindowSpec) -> Recording:
        assert isinstance(workload, WireWorkload)
        if self._skew_s is None:
            self._skew_s = self._compare_clocks()
        count = self._workers.count if spec.arrivals is not None else min(self._workers.count, spec.concurrency)
        count = 1 if spec.once else min(count, workload.max_in_flight or count)
        start_wall_ns = time.time_ns() + int((_REACH_S + spec.lead_in_s) * 1e9)
        tasks = [
            self._workers.executor.submit(_part, workload, share_of(spec, index, count), start_wall_ns, (index, count))
            for index in range(count)
        ]
        patience_s = _REACH_S + spec.lead_in_s + spec.window_s + spec.deadline_s + _PATIENCE_S
        parts = [self._result(task, patience_s) for task in tasks]
        if late_s := [part for part in parts if isinstance(part, float)]:
            raise LoadError(
                f"{len(late_s)} of {count} remote workers began {max(late_s):.1f} s after the window's start: are "
                f"there {count} free workers? Lower the count of RemoteWorkers, or add workers."
            )
        moved = [_moved(part, parts[0].tally.start_ns - part.tally.start_ns) for part in parts]
        tallies, lanes = zip(*moved, strict=True)
        return replace(recording_of(tallies, lanes), skew_s=self._skew_s)

    def close(self) -> None:
        """Do nothing: the executor belongs to its creator."""

    def _result(self, task: Future[Any], patience_s: float) -> Any:
        try:
            return task.result(patience_s)
        except LoadError:
            raise
        except (NotInTime, TimeoutError) as error:
            raise LoadError(f"A remote worker gave no answer within {patience_s:.0f} s.") from error
        except Exception as error:  # each executor has its own
            raise LoadError(f"A remote worker failed: {type(error).__name__}: {error}") from error

    def _compare_clocks(self) -> float:
        """Return how far the workers' clocks differ, by the quickest reading of each."""
        best: dict[str, tuple[float, float]] = {}
        for _ in range(_READINGS):
            asked_s = time.time()
            tasks = [self._workers.executor.submit(_clock, index) for index in range(self._workers.count)]
            for task in tasks:
                worker, begin_s, end_s = self._result(task, _PATIENCE_S)
                back_s = time.time()
                # The worker read its clock between the request and the answer.
                doubt_s = (back_s - asked_s - (end_s - begin_s)) / 2
                offset_s = ((begin_s - asked_s) + (end_s - back_s)) / 2
                if worker not in best or doubt_s < best[worker][1]:
                    best[worker] = (offset_s, doubt_s)
        (fastest_s, fastest_doubt_s), (slowest_s, slowest_doubt_s) = max(best.values()), min(best.values())
        # A difference below the uncertainty of both readings may be none.
        return fastest_s - slowest_s if fastest_s - slowest_s > fastest_doubt_s + slowest_doubt_s else 0.0


def _clock(_number: int) -> tuple[str, float, float]:
    """Return the worker's name and its clock; takes a moment, so that the next task goes to another worker."""
    begin_s = time.time()
    time.sleep(0.02)
    return f"{platform.node()}:{os.getpid()}", begin_s, time.time()


def _part(workload: WireWorkload, spec: WindowSpec, start_wall_ns: int, worker: tuple[int, int]) -> _Part | float:
    """Run a worker's part of a window, or return by how many seconds it is too late; called on the worker."""
    start_ns = time.monotonic_ns() + start_wall_ns - time.time_ns()
    left_s = (start_ns - time.monotonic_ns()) / 1e9
    if left_s < 0 and not spec.once:
        return -left_s
    time.sleep(max(left_s - spec.lead_in_s, 0))
    loop = Loop(workload)
    try:
        spec = spec if spec.once else replace(spec, start_ns=start_ns)
        tally, columns = loop.window(workload, spec, worker=worker)
        contents = {name: bytes(column.read(tally.rows)) for name, column in columns.items()}
        for column in columns.values():
            column.close()
    finally:
        loop.close()
    return _Part(tally, contents)


def _moved(part: _Part, shift_ns: int) -> tuple[Tally, Times]:
    """Return a worker's tally and times on the first worker's clock, as if both windows had begun together."""
    views = {}
    for name, content in part.columns.items():
        numbers = array("q", content)
        if shift_ns and name not in ("address", "answers"):
            numbers = array("q", (number + shift_ns for number in numbers))
        views[name] = memoryview(numbers)
    tally = part.tally
    return replace(tally, start_ns=tally.start_ns + shift_ns, stop_ns=tally.stop_ns + shift_ns), times_of(views)
