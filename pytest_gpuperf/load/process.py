"""The load generator in separate processes, so that measuring doesn't compete for pytest's interpreter lock."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from typing import Any

from pytest_gpuperf.device.instrumentation import without_instrumentation
from pytest_gpuperf.errors import GpuperfError, LoadError
from pytest_gpuperf.load.agreement import Agreement
from pytest_gpuperf.load.columns import Column
from pytest_gpuperf.load.generator import Recording, WindowSpec
from pytest_gpuperf.load.tally import Tally, column_names, recording_of, times_of
from pytest_gpuperf.model import WireWorkload, Workload

_STOP_S = 5.0


class _Worker:
    """A process and the pipe to it."""

    def __init__(self) -> None:
        self.pipe: Connection[Any, Any]
        self.pipe, theirs = Pipe()
        # In a new process group: Ctrl-C is for pytest, which then ends the worker in order.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest_gpuperf.load.worker", str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # The load generator is no part of what is under test: neither coverage nor a debug mode may slow it down.
            env=without_instrumentation(os.environ),
            start_new_session=True,
        )
        theirs.close()
        # A check may be a function of the user, in a module that only this process can find.
        self.pipe.send(("path", sys.path))
        self.known = 0

    def kill_and_report(self) -> str:
        self.process.kill()
        _, stderr = self.process.communicate()
        return f"Exit status {self.process.returncode}. {stderr.decode('utf-8', 'replace')[-2000:]}".rstrip()

    def close(self) -> None:
        self.pipe.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


class WorkerProcesses:
    """A ``LoadGenerator`` for requests over sockets."""

    def __init__(self, workers: int = 1) -> None:
        """Start ``workers`` processes, which share the load and begin and end each window together."""
        self._workers = [_Worker() for _ in range(workers)]
        self._workloads: list[WireWorkload] = []
        self._closed = False

    def window(self, workload: Workload, spec: WindowSpec) -> Recording:
        assert isinstance(workload, WireWorkload)
        if self._closed:
            raise LoadError("This load generator was closed, or given up after an error; open a new one.")
        # The smoke run sends few requests; a worker without a request in flight has nothing to do.
        count = len(self._workers) if spec.arrivals is not None else min(len(self._workers), spec.concurrency)
        workers = self._workers[: 1 if spec.once else count]
        number = self._number(workload)
        agreement = Column(rows=Agreement.cells(len(workers)))
        columns = [{name: Column() for name in column_names(workload, spec)} for _ in workers]
        with contextlib.ExitStack() as after, contextlib.ExitStack() as undo:
            for column in (agreement, *(column for by_name in columns for column in by_name.values())):
                after.callback(column.close)
            # After an error other workers may still be in this window: their later answers don't belong to the next.
            undo.callback(self.close)
            for index, worker in enumerate(workers):
                with _blamed(worker):
                    self._teach(worker)
                    worker.pipe.send(("window", number, share_of(spec, index, len(workers)), (index, len(workers))))
                    for column in (*columns[index].values(), agreement):
                        send_handle(worker.pipe, column.fd, worker.process.pid)
            answers = self._answers(workers)
            undo.pop_all()
            lanes = tuple(
                times_of({name: column.read(tally.rows) for name, column in by_name.items()})
                for by_name, tally in zip(columns, answers, strict=True)
            )
        return recording_of(answers, lanes)

    @staticmethod
    def _answers(workers: list[_Worker]) -> list[Tally]:
        """Return the answers of all workers, in their order."""
        answers: dict[_Worker, Tally] = {}
        while len(answers) < len(workers):
            waiting: dict[Any, _Worker] = {worker.pipe: worker for worker in workers if worker not in answers}
            for pipe in wait(list(waiting)):
                worker = waiting[pipe]
                with _blamed(worker):
                    answer: Any = worker.pipe.recv()
                if isinstance(answer, GpuperfError):
                    raise answer
                answers[worker] = answer
        return [answers[worker] for worker in workers]

    def _number(self, workload: WireWorkload) -> int:
        for number, known in enumerate(self._workloads):
            if known is workload:
                return number
        self._workloads.append(workload)
        return len(self._workloads) - 1

    def _teach(self, worker: _Worker) -> None:
        """Send new workloads: large requests cross the pipe once."""
        for number in range(worker.known, len(self._workloads)):
            worker.pipe.send(("workload", number, self._workloads[number]))
        worker.known = len(self._workloads)

    def close(self) -> None:
        self._closed = True
        for worker in self._workers:
            worker.close()


def share_of(spec: WindowSpec, index: int, count: int) -> WindowSpec:
    """Return the share of a window of one of several workers."""
    if spec.arrivals is None:
        return replace(spec, concurrency=spec.concurrency // count + (index < spec.concurrency % count))
    return replace(spec, max_in_flight=max(spec.max_in_flight // count, 1))


@contextlib.contextmanager
def _blamed(worker: _Worker) -> Any:
    try:
        yield
    except (EOFError, OSError) as error:
        raise LoadError(f"The load generator's process ended unexpectedly.\n{worker.kill_and_report()}") from error
