"""The seam of the targets layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from pytest_gpuperf.model import Finding, PlainMapping, ServerTimes, Workload


class StartedTarget(Protocol):
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

    def start(self) -> StartedTarget:
        """Start it and wait until it answers.

        Raises:
            TargetError: it does not come up; says why.
        """


@runtime_checkable
class Replicated(Protocol):
    """What a started target of several servers has besides.

    Its ``server_times`` look at every server, and raise ``TargetDied`` where one that is gone ends the measurement.
    """

    def current(self, workload: Workload) -> Workload:
        """The workload without the servers that are gone."""

    def requests_by_server(self) -> Mapping[str, int]:
        """Requests that each server has answered, as of the last ``server_times``; also of those that are gone."""

    def findings(self) -> tuple[Finding, ...]:
        """Return what disturbs every window from now on; empty while all servers are alive."""


@runtime_checkable
class OnDevices(Protocol):
    """What a target, or a started one, has besides that says itself on which GPUs it computes."""

    @property
    def device_ids(self) -> tuple[str, ...]:
        """Those GPUs and MIG slices, as CUDA_VISIBLE_DEVICES names them; empty where it says nothing."""


class Scalable(Protocol):
    """A target of which there can be more or less.

    Attributes:
        max_replicas: the highest number of replicas.
    """

    @property
    def name(self) -> str: ...

    @property
    def max_replicas(self) -> int: ...

    def at(self, replicas: int) -> Target:
        """So many replicas of it.

        Raises:
            OptionError: there can't be so many.
        """
