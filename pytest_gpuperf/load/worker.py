"""A worker process of the load generator: ``python -m pytest_gpuperf.load.worker FD PARENT_PID``.

It imports neither numpy nor pytest, keeps the garbage collector off while a window runs, and ends when the process
that started it closes the pipe or dies.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any

from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.load.agreement import Agreement
from pytest_gpuperf.load.columns import Column
from pytest_gpuperf.load.loop import Loop
from pytest_gpuperf.load.tally import column_names
from pytest_gpuperf.model import WireWorkload

_PR_SET_TIMERSLACK = 29


def serve(pipe: Connection[Any, Any], parent: int) -> None:
    """Answer requests for windows until the pipe is closed."""
    loop: Loop | None = None
    workloads: dict[int, WireWorkload] = {}
    # The kernel may wake a sleeper 50 us late to save a wake-up; open loop sends by the clock.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    gc.freeze()
    while True:
        try:
            kind, *arguments = pipe.recv()
        except EOFError:
            break
        if kind == "path":
            sys.path += [path for path in arguments[0] if path not in sys.path]
            continue
        if kind == "workload":
            number, workload = arguments
            workloads[number] = workload
            continue
        number, spec, worker = arguments
        workload = workloads[number]
        columns = {name: Column(recv_handle(pipe)) for name in column_names(workload, spec)}
        agreement = Column(recv_handle(pipe), Agreement.cells(worker[1]))
        try:
            if loop is None or not loop.serves_also(workload):
                if loop is not None:
                    loop.close()
                loop = Loop(workload, parent)
            gc.disable()
            answer: object
            answer, _ = loop.window(workload, spec, columns, Agreement(agreement.cells, *worker), worker)
        except GpuperfError as error:
            answer = error
        finally:
            gc.enable()
            for column in (agreement, *columns.values()):
                column.close()
        pipe.send(answer)
    if loop is not None:
        loop.close()


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
