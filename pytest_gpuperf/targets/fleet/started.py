"""A fleet that is up: its servers, its balancer, and what happens when one of them dies."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pytest_gpuperf.errors import TargetDied, TargetError
from pytest_gpuperf.model import GRPC, HTTP, Address, Finding, Plain, PlainMapping, ServerTimes, WireWorkload, Workload
from pytest_gpuperf.model.finding import SERVERS, SERVERS_GONE
from pytest_gpuperf.targets.fleet.envoy import Envoy
from pytest_gpuperf.targets.kserve import RequestSettings, Servers, StartedEndpoint
from pytest_gpuperf.targets.kserve.client_http import close_thread_hub
from pytest_gpuperf.targets.kserve.servers import parse_url
from pytest_gpuperf.targets.triton import TritonEndpoint
from pytest_gpuperf.targets.triton.endpoint import StartedTriton

Result = TypeVar("Result")


class Member:
    """One server of a fleet.

    All that is done to it is done by a thread of its own, for two reasons: servers are started, asked and stopped side
    by side; and ``tritonclient.http`` speaks through gevent, whose sockets belong to the thread that opened them.

    Attributes:
        endpoint: what it is.
        device_label: the device or cores that it has.
        label: names it and its place.
        times: its own times when they were last read; None before, and where it has none.
        ended: nothing can be done to it any more.
    """

    def __init__(self, endpoint: TritonEndpoint, device_label: str, number: int, count: int) -> None:
        """Server ``number`` of ``count``, from 1."""
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
        url = parse_url(self.server.grpc_address if protocol == GRPC else self.server.address)
        return Address(url.host, url.port)

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """Do this in its thread."""
        return self._thread.submit(work)

    def start(self) -> None:
        self._server = self.endpoint.start()

    def read(self) -> None:
        """Read its times.

        Raises:
            TargetDied: it is gone; with the end of its log.
        """
        try:
            self.times = self.server.server_times()
        except TargetDied:
            self.server.check()  # knows more of why
            raise

    def check(self) -> None:
        self.server.check()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def finish_thread(self) -> None:
        """The thread has nothing more to do."""
        self.ended = True
        self.submit(close_thread_hub)
        self._thread.shutdown(wait=True)


@dataclass(frozen=True)
class Frontend:
    """What stands before the servers.

    Attributes:
        name: of the model in the servers.
        settings: how it is asked.
        servers: given the addresses of our servers or our Envoy, what the load generator speaks to.
        envoy: start one.
        external_balancer: a balancer that is there already.
        continues_on_loss: the others are measured when a server dies.
        facts: more of what is under test.
        metrics_url: of servers that are there already.
    """

    name: str
    settings: RequestSettings
    servers: Callable[[Sequence[str]], Servers]
    envoy: bool = False
    external_balancer: bool = False
    continues_on_loss: bool = False
    facts: PlainMapping = field(default_factory=dict)
    metrics_url: str | None = None


def start_all(members: Sequence[Member]) -> None:
    """Start servers side by side.

    Raises:
        TargetError: one doesn't start; names it. None is left running then.
    """
    with ExitStack() as undo:
        undo.callback(stop_all, members)
        begun = [member.submit(member.start) for member in members]
        wait(begun)
        _raise_first_failure(members, begun)
        undo.pop_all()


def attach_frontend(members: Sequence[Member], frontend: Frontend) -> StartedFleet:
    """Put in front of servers that are up what the load generator speaks to.

    Raises:
        MissingExtra: there is no Envoy.
        TargetError: the balancer doesn't start, or isn't there. The servers are left as they are.
    """
    protocol = frontend.settings.protocol or HTTP
    addresses = _addresses(members)
    with ExitStack() as undo:
        envoy = None
        urls = [one.label for one in addresses[protocol]]
        if frontend.envoy:
            envoy = Envoy(addresses)
            undo.callback(envoy.stop)
            urls = [envoy.address(protocol).label]
        prefix = members[0].server.memory_prefix if members else ""
        try:
            endpoint = StartedEndpoint(frontend.servers(urls), frontend.name, frontend.settings, memory_prefix=prefix)
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
    """Servers that are ready, and what is in front of them.

    Args:
        endpoint: what the load generator speaks to.
    """

    def __init__(
        self, members: Sequence[Member], frontend: Frontend, endpoint: StartedEndpoint, envoy: Envoy | None
    ) -> None:
        self._members, self._alive = list(members), list(members)
        self._frontend, self._endpoint, self._envoy = frontend, endpoint, envoy
        self._labels = {member: member.address(endpoint.protocol).label for member in members}
        #: Workloads without the servers that are gone; by identity, as the load generator knows them.
        self._reduced: dict[int, tuple[Workload, WireWorkload]] = {}
        self.local = bool(members)

    @property
    def processes(self) -> tuple[int, ...]:
        own = self._envoy.processes if self._envoy is not None else ()
        return (*(pid for member in self._alive for pid in member.server.processes), *own)

    @property
    def metrics_url(self) -> str | None:
        """As it was given, of servers behind a balancer that is there already; ours are on this machine's devices."""
        return self._frontend.metrics_url

    @property
    def device_ids(self) -> tuple[str, ...]:
        """The GPUs and slices of its servers, also of those that are gone: none else has them."""
        return tuple(device_id for member in self._members for device_id in member.endpoint.device_ids)

    @property
    def servers(self) -> tuple[StartedTriton, ...]:
        """Those that are there."""
        return tuple(member.server for member in self._alive)

    def workload(self, batch_size: int, in_flight: int = 1) -> Workload:
        return self._endpoint.workload(batch_size, in_flight)

    def current(self, workload: Workload) -> Workload:
        gone = {self._labels[member] for member in self._members if member not in self._alive}
        if not gone or not isinstance(workload, WireWorkload):
            return workload
        known = self._reduced.get(id(workload))
        left = tuple(address for address in workload.addresses if address.label not in gone)
        if known is None or known[0] is not workload or known[1].addresses != left:
            known = self._reduced[id(workload)] = (workload, replace(workload, addresses=left))
        return known[1]

    def requests_by_server(self) -> Mapping[str, int]:
        return {self._labels[one]: one.times.requests for one in self._members if one.times is not None}

    def findings(self) -> tuple[Finding, ...]:
        gone = tuple(member.label for member in self._members if member not in self._alive)
        return (Finding(SERVERS_GONE, SERVERS, len(gone), len(self._members), names=gone),) if gone else ()

    def under_test(self) -> PlainMapping:
        facts: dict[str, Plain] = dict(self._endpoint.under_test())
        if self._members:
            first = self._members[0]
            facts |= first.submit(first.server.under_test).result()
            facts["endpoints"] = len(self._members)
            facts["slices"] = "; ".join(member.device_label for member in self._members)
            # It covers the path of the model file, which changes with every start.
            facts.pop("config_digest", None)
        if self._envoy is not None:
            facts["envoy"] = self._envoy.version
        return {**facts, **self._frontend.facts}

    def server_times(self) -> ServerTimes | None:
        self._ask_alive(Member.read)
        known = [member.times for member in self._members if member.times is not None]
        return functools.reduce(operator.add, known) if known else None

    def check(self) -> None:
        self._ask_alive(Member.check)
        if self._envoy is not None:
            self._envoy.check()
        if self._frontend.external_balancer:
            self._endpoint.check()

    def _ask_alive(self, at: Callable[[Member], None]) -> None:
        """Ask all servers, and take those that are gone out of the fleet.

        Raises:
            TargetDied: one is gone and the others are not to go on without it, or all are.
        """
        found = [(member, member.submit(functools.partial(at, member))) for member in self._alive]
        gone = [(member, error) for member, future in found if isinstance(error := future.exception(), TargetDied)]
        if not gone:
            for _, future in found:
                future.result()
            return
        member, error = gone[0]
        if not self._frontend.continues_on_loss:
            advice = "\non_loss='continue' goes on with the others." if len(self._members) > 1 else ""
            raise TargetDied(f"{_capitalized(member.label)} is gone: {error}{advice}") from error
        for member, _ in gone:
            self._alive.remove(member)
        if not self._alive:
            raise TargetDied(f"No server is left. The last was {member.label}: {error}") from error
        if self._envoy is not None:
            self._envoy.use(_addresses(self._alive))

    def stop(self) -> None:
        with ExitStack() as stack:
            stack.callback(stop_all, self._members)
            stack.callback(self.stop_frontend)

    def stop_frontend(self) -> None:
        """End what is in front of the servers. May be called twice."""
        with ExitStack() as stack:
            if self._envoy is not None:
                stack.callback(self._envoy.stop)
            stack.callback(self._endpoint.stop)


def stop_all(members: Iterable[Member]) -> None:
    """Stop servers side by side, also those that are still starting. May be called twice."""
    members = [member for member in members if not member.ended]
    begun = [member.submit(member.stop) for member in members]
    wait(begun)
    for member in members:
        member.finish_thread()
    for future in begun:
        future.result()


def _raise_first_failure(members: Sequence[Member], begun: Sequence[Future[None]]) -> None:
    """Raise what the first server that didn't start says."""
    failed = [(member, error) for member, one in zip(members, begun, strict=True) if (error := one.exception())]
    if not failed:
        return
    member, error = failed[0]
    if not isinstance(error, TargetError):
        raise error  # not of one server more than of another
    others = f"\nThat of {len(failed) - 1} more did not either." if len(failed) > 1 else ""
    raise TargetError(f"{_capitalized(member.label)} did not start: {error}{others}") from error


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]
