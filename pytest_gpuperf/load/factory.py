"""The choice of the load generator for a workload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gpuperf.load.generator import LoadGenerator
from pytest_gpuperf.model import WireWorkload, Workload

if TYPE_CHECKING:
    from pytest_gpuperf.load.distributed import RemoteWorkers


def open_generator(workload: Workload, workers: int | RemoteWorkers = 1) -> LoadGenerator:
    """Open the load generator that can replay this kind of workload.

    Args:
        workers: Processes on this machine, or workers on others. Calls in this process need neither.
    """
    if isinstance(workload, WireWorkload):
        if not isinstance(workers, int):
            from pytest_gpuperf.load.distributed import RemoteLoad

            return RemoteLoad(workers)
        from pytest_gpuperf.load.process import WorkerProcesses

        return WorkerProcesses(workers)
    from pytest_gpuperf.load.inprocess import ThreadLoop

    return ThreadLoop()
