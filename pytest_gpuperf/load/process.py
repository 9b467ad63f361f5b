"""The load generator in separate processes, so that measuring doesn't compete for pytest's interpreter lock."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from typing import Any

from pytest_gpuperf.clock import time
from pytest_gpuperf.device.instrumentation import without_instrumentation
from pytest_gpuperf.errors import GpuperfError, LoadError
from pytest_gpuperf.limits import OUTPUT_BYTES
from pytest_gpuperf.load.agreement import Agreement
from pytest_gpuperf.load.columns import Column
from pytest_gpuperf.load.generator import Recording, WindowSpec
from pytest_gpuperf.load.tally import Tally, column_names, recording_of, times_of
from pytest_gpuperf.model import WireWorkload, Workload

#: How long a worker may take to end once it is asked to, and to end once it is killed.
#: Time for a process that has closed its pipe to end.
_ENDING_S = 0.5
_STOP_S = 5.0
#: How long a message to a worker may take: it reads while it is idle, and imports the modules of the user's checks.
_MESSAGE_S = 30
#: How often a worker that is awaited is looked at, and how long it may be stopped (SIGSTOP, a debugger).
_LOOK_S, _STOPPED_S = 0.5, 5.0
#: What a worker may take beyond its window: to import a check, and to hand over its times.
_MARGIN_S = 30.0


class _Output(threading.Thread):
    """Reads what a process writes, so that it never waits for a full pipe; keeps the end of it."""

    def __init__(self, fd: int) -> None:
        super().__init__(daemon=True, name="gpuperf-worker-output")
        self._fd = fd
        self._kept = b""
        self.start()

    def run(self) -> None:
        with open(self._fd, "rb", buffering=0) as stream:  # noqa: PTH123 - a descriptor, not a path
            while part := stream.read(OUTPUT_BYTES):
                self._kept = (self._kept + part)[-OUTPUT_BYTES:]

    def tail(self) -> str:
        """Return the end of the output of a process that has ended."""
        self.join(1.0)  # a child of the process may hold the pipe open
        return self._kept.decode("utf-8", "replace")[-2000:]


class _Worker:
    """A process and the pipe to it."""

    def __init__(self) -> None:
        self.pipe: Connection[Any, Any]
        self.pipe, theirs = Pipe()
        _bound_messages(self.pipe)
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
        assert self.process.stderr is not None
        self._output = _Output(os.dup(self.process.stderr.fileno()))
        self.process.stderr.close()
        # A check may be a function of the user, in a module that only this process can find.
        self.pipe.send(("path", sys.path))
        self.known = 0

    @property
    def is_stopped(self) -> bool:
        """Whether a signal or a debugger has stopped the process."""
        try:
            with open(f"/proc/{self.process.pid}/stat", "rb") as file:  # noqa: PTH123 - read twice a second
                return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
        except OSError:
            return False

    def kill_and_report(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_ENDING_S)
        status = self.process.returncode
        self.end(kill=True)
        output = self._output.tail()
        if output.rstrip().endswith("KeyboardInterrupt"):  # Python that starts ends so, with status 1
            status = -signal.SIGINT
        if status is not None and status < 0:
            hint = ", by another process or for lack of memory" if status == -signal.SIGKILL else ""
            ending = f"It was ended by {signal.Signals(-status).name}{hint}."
            # Python's traceback of an interrupt would only say where it was just then.
            return ending if status == -signal.SIGINT else f"{ending} {output}".rstrip()
        return f"Exit status {status}. {output}".rstrip()

    def end(self, *, kill: bool = False) -> None:
        """End the process: in order, unless ``kill`` is set or it takes too long."""
        if kill:
            self.process.kill()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_S)

    def close(self) -> None:
        self.pipe.close()
        if self.process.poll() is None:
            self.process.terminate()


def _bound_messages(pipe: Connection[Any, Any]) -> None:
    """Let a message to a process that doesn't read fail, with BlockingIOError."""
    with socket.socket(fileno=os.dup(pipe.fileno())) as end:
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            end.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _MESSAGE_S, 0))


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
        count = min(count, workload.max_in_flight or count)
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
            answers = self._answers(workers, spec.longest_s + _MARGIN_S)
            undo.pop_all()
            lanes = tuple(
                times_of({name: column.read(tally.rows) for name, column in by_name.items()})
                for by_name, tally in zip(columns, answers, strict=True)
            )
        return recording_of(answers, lanes)

    @staticmethod
    def _answers(workers: list[_Worker], longest_s: float) -> list[Tally]:
        """Return the answers of all workers, in their order."""
        answers: dict[_Worker, Tally] = {}
        end_s = time.monotonic() + longest_s
        running_s = dict.fromkeys(workers, time.monotonic())
        while len(answers) < len(workers):
            waiting: dict[Any, _Worker] = {worker.pipe: worker for worker in workers if worker not in answers}
            for pipe in wait(list(waiting), _LOOK_S):
                worker = waiting.pop(pipe)
                with _blamed(worker):
                    answer: Any = worker.pipe.recv()
                if isinstance(answer, GpuperfError):
                    raise answer
                answers[worker] = answer
            now_s = time.monotonic()
            for worker in waiting.values():
                running_s[worker] = running_s[worker] if worker.is_stopped else now_s
                if now_s - running_s[worker] > _STOPPED_S:
                    worker.end(kill=True)
                    raise LoadError(
                        f"The load generator's process {worker.process.pid} was stopped for {_STOPPED_S:g} s, by "
                        "SIGSTOP or a debugger. It was ended; run the test again."
                    )
                if now_s > end_s:
                    raise LoadError(
                        f"The load generator's process {worker.process.pid} gave no result within {longest_s:.0f} s, "
                        f"the most that its window can take. It was ended; its last output:\n{worker.kill_and_report()}"
                    )
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
        for worker in self._workers:
            worker.end()


def share_of(spec: WindowSpec, index: int, count: int) -> WindowSpec:
    """Return the share of a window of one of several workers."""
    if spec.arrivals is None:
        return replace(spec, concurrency=spec.concurrency // count + (index < spec.concurrency % count))
    return replace(spec, max_in_flight=max(spec.max_in_flight // count, 1))


@contextlib.contextmanager
def _blamed(worker: _Worker) -> Iterator[None]:
    try:
        yield
    except BlockingIOError as error:
        raise LoadError(
            f"The load generator's process {worker.process.pid} did not take a message within {_MESSAGE_S} s: was it "
            f"stopped? It was ended; its last output:\n{worker.kill_and_report()}"
        ) from error
    except (EOFError, OSError) as error:
        raise LoadError(f"The load generator's process ended unexpectedly.\n{worker.kill_and_report()}") from error
