"""A target in this process that can be made to go wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pytest_gpuperf.errors import TargetDied
from pytest_gpuperf.model import CallWorkload, PlainMapping, ServerTimes, Workload
from tests.unit.load.hostile import Server
from tests.unit.load.wire import workload

#: Duration of a call.
CALL_S = 0.003


def nothing(*_: int) -> None:
    """Nothing goes wrong."""


@dataclass
class FakeTarget:
    """A target whose every step can be made to go wrong.

    Attributes:
        on_call: done in every call, in the callers' threads.
        on_times: done at every reading of the server's times, with its number in this run.
        alive: what ``check`` says.
        log: what was asked of it, in order.
        in_flight: the most requests of each batch size that it was told to expect at once.
    """

    on_call: Callable[[int], None] = nothing
    on_times: Callable[[int], None] = nothing
    on_start: Callable[[], None] = nothing
    on_workload: Callable[[int], None] = nothing
    on_stop: Callable[[], None] = nothing
    gives_times: bool = True
    alive: bool = True
    local: bool = True
    server: Server | None = None
    name: str = "fake"
    log: list[str] = field(default_factory=list)
    calls: int = 0
    in_flight: dict[int, int] = field(default_factory=dict)

    def start(self) -> FakeStarted:
        self.on_start()
        self.log.append("start")
        return FakeStarted(self)


class FakeStarted:
    processes = ()
    metrics_url = None

    def __init__(self, target: FakeTarget) -> None:
        self._target = target
        self.local = target.local
        self._readings = 0
        self._lock = threading.Lock()

    def workload(self, batch_size: int, in_flight: int = 1) -> Workload:
        self._target.on_workload(batch_size)
        self._target.in_flight[batch_size] = in_flight
        if self._target.server is not None:
            return workload(self._target.server, batch_size=batch_size)

        def call() -> None:
            with self._lock:
                self._target.calls += 1
            self._target.on_call(batch_size)
            time.sleep(CALL_S)

        return CallWorkload(call, batch_size)

    def under_test(self) -> PlainMapping:
        self._target.log.append("under_test")
        return {"model": "fake"}

    def server_times(self) -> ServerTimes | None:
        number = self._readings
        self._readings += 1
        self._target.on_times(number)
        return (
            ServerTimes(10 * number, 5 * number, number, 2 * number, 3 * number, 4 * number)
            if self._target.gives_times
            else None
        )

    def check(self) -> None:
        if not self._target.alive:
            raise TargetDied("the fake is gone.")

    def stop(self) -> None:
        self._target.log.append("stop")
        self._target.on_stop()
