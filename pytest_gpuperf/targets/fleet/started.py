"""A started fleet: its servers, its balancer, and the handling of lost servers."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TypeVar

from pytest_gpuperf.errors import TargetDied, TargetError
from pytest_gpuperf.model import (
    GRPC,
    HTTP,
    Address,
    Finding,
    Plain,
    PlainMapping,
    ServerTimes,
    StartTimes,
    WireWorkload,
    Workload,
)
from pytest_gpuperf.model.finding import SERVERS, SERVERS_LOST
from pytest_gpuperf.targets.fleet.envoy import Envoy
from pytest_gpuperf.targets.kserve import KServeEndpoint, Servers, StartedEndpoint
from pytest_gpuperf.targets.triton import TritonEndpoint
from pytest_gpuperf.targets.triton.endpoint import StartedTriton

ENVOY = "envoy"
Result = TypeVar("Result")


class Member:
    """A server of a fleet, with a thread for all its operations.

    Servers are started, asked and stopped concurrently.

    Args:
        number: Number of the server, from 1.

    Attributes:
        times: The server's times at the last ``read``; None before, or if it reports none.
        ended: Whether the thread has finished.
    """

    def __init__(self, endpoint: TritonEndpoint, device_label: str, number: int, count: int) -> None:
        self.endpoint, self.device_label = endpoint, device_label
        self.label = f"server {number} of {count} ({device_label})"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gpuperf-fleet")
        self._server: StartedTriton | None = None
        self.ended = False
        self.times: ServerTimes | None = None

    @property
    def server(self) -> StartedTriton:
        assert self._server is not None
        return self._server

    def address(self, protocol: str) -> Address:
        return self.server.ports.address(protocol)

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        return self._thread.submit(work)

    def start(self) -> None:
        self._server = self.endpoint.start()

    def read(self) -> None:
        """Read the server's times.

        Raises:
            TargetDied: The server was lost; the message ends with an excerpt of its log.
        """
        try:
            self.times = self.server.server_times()
        except TargetDied:
            self.server.check()  # raises with the cause, if it knows it
            raise

    def check(self) -> None:
        self.server.check()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def finish_thread(self) -> None:
        """End the thread."""
        self.ended = True
        self._thread.shutdown(wait=True)


@dataclass(frozen=True)
class Frontend:
    """The description of what the load generator sends requests to: the servers, an Envoy, or a running balancer.

    Attributes:
        endpoint: Name of the model, and settings of requests.
        servers: Function from the URLs of the fleet's servers or its Envoy to the servers of the load.
        external_balancer: Whether requests go to a running balancer.
        continues_on_loss: Whether the remaining servers are measured if a server dies.
    """

    endpoint: TritonEndpoint | KServeEndpoint
    servers: Callable[[Sequence[str]], Servers]
    balancer: str
    external_balancer: bool
    continues_on_loss: bool

    @property
    def metrics_url(self) -> str | None:
        """URL given for servers behind a running balancer; None otherwise, since NVML reads this machine's devices."""
        return self.endpoint.metrics_url if isinstance(self.endpoint, KServeEndpoint) else None


def start_all(members: Sequence[Member]) -> None:
    """Start servers concurrently."""
    with ExitStack() as undo:
        undo.callback(stop_all, members)
        starts = [member.submit(member.start) for member in members]
        wait(starts)
        _raise_first_failure(members, starts)
        undo.pop_all()


def attach_frontend(members: Sequence[Member], frontend: Frontend) -> StartedFleet:
    """Connect a frontend to started servers.

    Raises:
        MissingExtra: Envoy is not installed.
        TargetError: The balancer does not start or answer. The servers keep running.
    """
    settings, addresses = frontend.endpoint, _addresses(members)
    protocol = settings.protocol or HTTP
    with ExitStack() as undo:
        envoy = None
        urls = [address.label for address in addresses[protocol]]
        if frontend.balancer == ENVOY:
            envoy = Envoy(addresses)
            undo.callback(envoy.stop)
            urls = [envoy.address(protocol).label]
        prefix = members[0].server.memory_prefix if members else ""
        try:
            endpoint = StartedEndpoint(
                frontend.servers(urls),
                settings.name,
                settings,
                version=settings.version if isinstance(settings, KServeEndpoint) else "",
                memory_prefix=prefix,
            )
        except TargetDied as error:
            if not frontend.external_balancer:
                raise
            raise TargetError(f"{error}\nStart the balancer, or correct the URL in balancer=.") from error
        started = StartedFleet(members, frontend, endpoint, envoy)
        undo.pop_all()
    return started


def _addresses(members: Iterable[Member]) -> dict[str, list[Address]]:
    members = list(members)
    return {protocol: [member.address(protocol) for member in members] for protocol in (HTTP, GRPC)}


class StartedFleet:
    """Servers that are ready, and their frontend."""

    def __init__(
        self, members: Sequence[Member], frontend: Frontend, endpoint: StartedEndpoint, envoy: Envoy | None
    ) -> None:
        self._members, self._alive = list(members), list(members)
        self._frontend, self._endpoint, self._envoy = frontend, endpoint, envoy
        self._labels = {member: member.address(endpoint.servers.protocol).label for member in members}
        #: Workloads without the lost servers, by the identity of the original, which the load generator relies on.
        self._reduced: dict[int, tuple[Workload, WireWorkload]] = {}
        self.local = bool(members)

    @property
    def processes(self) -> tuple[int, ...]:
        envoy = self._envoy.processes if self._envoy is not None else ()
        return (*(pid for member in self._alive for pid in member.server.processes), *envoy)

    @property
    def metrics_url(self) -> str | None:
        return self._frontend.metrics_url

    @property
    def start_times(self) -> StartTimes | None:
        """The slowest server's; None behind a running balancer without servers of this fleet."""
        loads_s = [load_s for server in self.servers if (load_s := server.start_times.model_load_s) is not None]
        return StartTimes(model_load_s=max(loads_s, default=None)) if self._members else None

    @property
    def device_ids(self) -> tuple[str, ...]:
        """GPUs and MIG slices of all servers, including lost ones."""
        return tuple(device_id for member in self._members for device_id in member.endpoint.device_ids)

    @property
    def servers(self) -> tuple[StartedTriton, ...]:
        """The servers that are alive."""
        return tuple(member.server for member in self._alive)

    def workload(self, batch_size: int, in_flight: int = 1) -> Workload:
        return self._endpoint.workload(batch_size, in_flight)

    def current(self, workload: Workload) -> Workload:
        lost = {self._labels[member] for member in self._members if member not in self._alive}
        if not lost or not isinstance(workload, WireWorkload):
            return workload
        reduced = self._reduced.get(id(workload))
        remaining = tuple(address for address in workload.addresses if address.label not in lost)
        if reduced is None or reduced[0] is not workload or reduced[1].addresses != remaining:
            reduced = self._reduced[id(workload)] = (workload, replace(workload, addresses=remaining))
        return reduced[1]

    def requests_by_server(self) -> Mapping[str, int]:
        return {self._labels[member]: member.times.requests for member in self._members if member.times is not None}

    def findings(self) -> tuple[Finding, ...]:
        lost = tuple(member.label for member in self._members if member not in self._alive)
        return (Finding(SERVERS_LOST, SERVERS, len(lost), len(self._members), names=lost),) if lost else ()

    def under_test(self) -> PlainMapping:
        facts: dict[str, Plain] = {**self._endpoint.under_test(), "balancer": self._frontend.balancer}
        if self._members:
            first = self._members[0]
            facts |= first.submit(first.server.under_test).result()
            facts["endpoints"] = len(self._members)
            facts["slices"] = "; ".join(member.device_label for member in self._members)
            # The digest covers the path of the model file, which changes with every start.
            facts.pop("config_digest", None)
        if self._envoy is not None:
            facts["envoy"] = self._envoy.version
        return facts

    def server_times(self) -> ServerTimes | None:
        self._ask_alive(Member.read)
        times = [member.times for member in self._members if member.times is not None]
        return functools.reduce(operator.add, times) if times else None

    def check(self) -> None:
        self._ask_alive(Member.check)
        if self._envoy is not None:
            self._envoy.check()
        if self._frontend.external_balancer:
            self._endpoint.check()

    def _ask_alive(self, question: Callable[[Member], None]) -> None:
        """Call a function for every server that is alive, and remove lost servers from the fleet."""
        answers = [(member, member.submit(functools.partial(question, member))) for member in self._alive]
        lost = [(member, error) for member, future in answers if isinstance(error := future.exception(), TargetDied)]
        if not lost:
            for _, future in answers:
                future.result()
            return
        member, error = lost[0]
        if not self._frontend.continues_on_loss:
            hint = "\non_loss='continue' measures the remaining servers." if len(self._members) > 1 else ""
            raise TargetDied(f"{_capitalized(member.label)} was lost: {error}{hint}") from error
        for member, _ in lost:
            self._alive.remove(member)
        if not self._alive:
            raise TargetDied(f"All servers were lost, {member.label} last: {error}") from error
        if self._envoy is not None:
            self._envoy.use(_addresses(self._alive))

    def stop(self) -> None:
        with ExitStack() as stack:
            stack.callback(stop_all, self._members)
            stack.callback(self.stop_frontend)

    def stop_frontend(self) -> None:
        """Stop the Envoy and the endpoint, but not the servers. May be called twice."""
        with ExitStack() as stack:
            if self._envoy is not None:
                stack.callback(self._envoy.stop)
            stack.callback(self._endpoint.stop)


def stop_all(members: Iterable[Member]) -> None:
    """Stop servers concurrently, including those that are still starting. May be called twice."""
    members = [member for member in members if not member.ended]
    stops = [member.submit(member.stop) for member in members]
    wait(stops)
    for member in members:
        member.finish_thread()
    for future in stops:
        future.result()


def _raise_first_failure(members: Sequence[Member], starts: Sequence[Future[None]]) -> None:
    """Raise the error of the first server that did not start."""
    failed = [(member, error) for member, start in zip(members, starts, strict=True) if (error := start.exception())]
    if not failed:
        return
    member, error = failed[0]
    if not isinstance(error, TargetError):
        raise error  # an error of the settings, the same for every server
    count = len(failed) - 1
    remaining = f"\n{count} other server{'s' if count > 1 else ''} also failed to start." if count else ""
    raise TargetError(f"{_capitalized(member.label)} did not start: {error}{remaining}") from error


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]
