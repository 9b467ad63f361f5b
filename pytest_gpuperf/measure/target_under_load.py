"""A target that was started, with all that is needed to measure it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pytest_gpuperf.load import open_generator
from pytest_gpuperf.measure.sweep import workloads_of
from pytest_gpuperf.model import LoadPoint
from pytest_gpuperf.targets import Target

if TYPE_CHECKING:
    from pytest_gpuperf.load.distributed import RemoteWorkers


class TargetUnderLoad:
    """Its requests at some load points, and a load generator that stays open.

    Attributes:
        startup_s: until it answered.
        workloads: by batch size.

    Raises:
        TargetError, LoadError, OptionError: it doesn't come up; nothing of it is left then.
    """

    def __init__(self, target: Target, points: Sequence[LoadPoint], workers: int | RemoteWorkers = 1) -> None:
        begin = time.monotonic()
        self.started = target.start()
        self.startup_s = time.monotonic() - begin
        with ExitStack() as undo:
            undo.callback(self.started.stop)
            self.workloads = workloads_of(self.started, points)
            self.generator = open_generator(next(iter(self.workloads.values())), workers)
            undo.pop_all()

    def close(self) -> None:
        """Stop it."""
        try:
            self.generator.close()
        finally:
            self.started.stop()
