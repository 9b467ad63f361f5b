"""The protocols of the targets layer: what a target must offer, and what it may offer in addition."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from pytest_gpuperf.model import Finding, PlainMapping, ServerTimes, StartTimes, Workload


class StartedTarget(Protocol):
    """A started target.

    Attributes:
        local: True if this process and its descendants do all of the target's work.
        processes: PIDs of the roots of its process trees on this machine (this process for an in-process target);
            empty for a remote target.
        metrics_url: URL of its Prometheus metrics; None if it has none.
    """

    local: bool

    @property
    def processes(self) -> tuple[int, ...]: ...

    @property
    def metrics_url(self) -> str | None: ...

    def workload(self, batch_size: int, in_flight: int = 1) -> Workload:
        """Return the requests of a batch size.

        Args:
            in_flight: Largest number of requests that will be unanswered at any time.

        Raises:
            OptionError: The target does not support the batch size.
            TargetError: A resource that the requests need is not available.
        """

    def under_test(self) -> PlainMapping:
        """Return digests, versions and configuration of what is measured; stored, never part of the comparison key."""

    def server_times(self) -> ServerTimes | None:
        """Return the server's own cumulative times; None if it reports none."""

    def check(self) -> None:
        """Return if the target is alive.

        Raises:
            TargetDied: It is not; the message ends with an excerpt of its log.
        """

    def stop(self) -> None:
        """Stop the target and wait until its processes and resources are gone. May be called twice."""


class StartedInProcess:
    """Base of started targets that compute in this process and need no cleanup."""

    local = True
    metrics_url = None

    @property
    def processes(self) -> tuple[int, ...]:
        return (os.getpid(),)

    def server_times(self) -> ServerTimes | None:
        return None

    def check(self) -> None:
        """Do nothing: the target lives as long as this process."""

    def stop(self) -> None:
        """There is nothing to stop."""


class Target(Protocol):
    """The description of something that can be started, stopped and started again."""

    @property
    def name(self) -> str:
        """Display name; the default name of its sweeps."""

    def start(self) -> StartedTarget:
        """Start the target and wait until it answers.

        Raises:
            TargetError: It does not start; the message gives the reason.
        """


@runtime_checkable
class Replicated(Protocol):
    """Additional interface of a started target of several servers.

    Its ``server_times`` contacts every server and raises ``TargetDied`` if a lost server ends the measurement.
    """

    def current(self, workload: Workload) -> Workload:
        """Return the workload without the servers that were lost."""

    def requests_by_server(self) -> Mapping[str, int]:
        """Return the requests that each server, lost ones included, had answered at the last ``server_times``."""

    def findings(self) -> tuple[Finding, ...]:
        """Return what disturbs every window from now on; empty while all servers are alive."""


@runtime_checkable
class TimedStart(Protocol):
    """Additional interface of a started target that knows more about its start than how long it took."""

    @property
    def start_times(self) -> StartTimes | None:
        """The parts of its start, without the total; None if nothing was started, so that there is no startup time."""


@runtime_checkable
class Sequential(Protocol):
    """Additional interface of a started target that may be stateful: its requests form sequences."""

    @property
    def sequences_at_once(self) -> int:
        """Sequences at the same time in open loop; 0 for a stateless model."""


@runtime_checkable
class OnDevices(Protocol):
    """Additional interface of a target, started or not, that chooses its GPUs itself."""

    @property
    def device_ids(self) -> tuple[str, ...]:
        """GPUs and MIG slices as CUDA_VISIBLE_DEVICES names them; empty if the target does not choose."""


class Scalable(Protocol):
    """A target whose number of replicas can be chosen.

    Attributes:
        max_replicas: Largest number of replicas.
    """

    @property
    def name(self) -> str: ...

    @property
    def max_replicas(self) -> int: ...

    def at(self, replicas: int) -> Target:
        """Return a target of that many replicas.

        Raises:
            OptionError: ``replicas`` is not between 1 and ``max_replicas``.
        """
