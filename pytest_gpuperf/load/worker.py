"""A worker process of the load generator: ``python -m pytest_gpuperf.load.worker FD PARENT_PID``.

It imports neither numpy nor pytest, keeps the garbage collector off while a window runs, and ends when the process
that started it closes the pipe or dies.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import GpuperfError, LoadError
from pytest_gpuperf.load.agreement import Agreement
from pytest_gpuperf.load.columns import Column
from pytest_gpuperf.load.generator import WindowSpec
from pytest_gpuperf.load.loop import Loop
from pytest_gpuperf.load.tally import Stops, Tally, column_names
from pytest_gpuperf.model import WireWorkload

_PR_SET_TIMERSLACK = 29


class _Windows:
    """The windows of this process: its workloads, and the loop that keeps their connections."""

    def __init__(self, pipe: Connection[Any, Any], parent: int) -> None:
        self._pipe, self._parent = pipe, parent
        self._loop: Loop | None = None
        self.workloads: dict[int, WireWorkload] = {}
        self.unreadable = ""

    def answer(self, number: int, spec: WindowSpec, worker: tuple[int, int]) -> Tally | GpuperfError:
        """Run a window of a workload, and return its tally or its error."""
        workload = self.workloads.get(number)
        if workload is None:
            return LoadError(
                f"The requests can't be loaded in the load generator's process: {self.unreadable}. Is expected= a "
                "function of a module that can be imported there?"
            )
        columns = {name: Column(recv_handle(self._pipe)) for name in column_names(workload, spec)}
        agreement = Column(recv_handle(self._pipe), Agreement.cells(worker[1]))
        try:
            if self._loop is None or not self._loop.serves_also(workload):
                self.close()
                self._loop = Loop(workload, self._parent)
            gc.disable()
            with Stops() as stops:
                tally, _ = self._loop.window(workload, spec, columns, Agreement(agreement.cells, *worker), worker)
        except GpuperfError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever fails, the asking process is told
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}, line {frame.lineno}"
            return LoadError(f"The load generator failed: {type(error).__name__}: {error} ({place}).")
        finally:
            gc.enable()
            for column in (agreement, *columns.values()):
                column.close()
        return replace(tally, stops=stops.within(tally.start_ns, tally.stop_ns))

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()
        self._loop = None


def serve(pipe: Connection[Any, Any], parent: int) -> None:
    """Answer requests for windows until the pipe is closed."""
    windows = _Windows(pipe, parent)
    # The kernel may wake a sleeper 50 us late to save a wake-up; open loop sends by the clock.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    gc.freeze()
    while True:
        try:
            kind, *arguments = pipe.recv()
        except EOFError:
            break
        except Exception as error:  # noqa: BLE001 - whatever the module of a check raises when it is imported here
            windows.unreadable = f"{type(error).__name__}: {error}"
            continue
        if kind == "path":
            sys.path += [path for path in arguments[0] if path not in sys.path]
        elif kind == "workload":
            number, windows.workloads[number] = arguments
        else:
            pipe.send(windows.answer(*arguments))
    windows.close()


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
