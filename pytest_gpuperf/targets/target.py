"""The seam of the targets layer."""

from __future__ import annotations

from typing import Protocol

from pytest_gpuperf.model import PlainMapping, ServerTimes, Workload


class RunningTarget(Protocol):
    """A started target.

    Attributes:
        local: all its work is done by this process and those that descend from it.
        processes: the roots of its process trees on this machine (this process, where it runs inside); empty for a
            remote one.
        metrics_url: of its Prometheus metrics; None where it has none.
    """

    local: bool

    @property
    def processes(self) -> tuple[int, ...]: ...

    @property
    def metrics_url(self) -> str | None: ...

    def workload(self, batch_size: int, in_flight: int = 1) -> Workload:
        """What one request of that batch size is.

        Args:
            in_flight: the most requests that will be unanswered at any one time.

        Raises:
            OptionError: the target can't take that batch size.
            TargetError: what the requests need can't be had.
        """

    def under_test(self) -> PlainMapping:
        """Digests, versions and configuration of what is measured; recorded, never part of the key."""

    def server_times(self) -> ServerTimes | None:
        """The server's own cumulative times; None where it has none."""

    def check(self) -> None:
        """Return if it is alive.

        Raises:
            TargetDied: it isn't; with the end of its log.
        """

    def stop(self) -> None:
        """End it and wait until nothing of it is left. May be called twice."""


class Target(Protocol):
    """The description of something that can be started, stopped and started again."""

    @property
    def name(self) -> str:
        """What people call it; the default name of its sweeps."""

    def start(self) -> RunningTarget:
        """Start it and wait until it answers.

        Raises:
            TargetError: it does not come up; says why.
        """
