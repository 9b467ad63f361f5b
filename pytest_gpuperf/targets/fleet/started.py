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
from pytest_gpuperf.model import GRPC, HTTP, Address, Plain, PlainMapping, ServerTimes, WireWorkload, Workload
from pytest_gpuperf.targets.fleet.envoy import Envoy
from pytest_gpuperf.targets.kserve import RequestSettings, Servers, StartedEndpoint
from pytest_gpuperf.targets.kserve.client_http import leave_thread
from pytest_gpuperf.targets.kserve.server import locate
from pytest_gpuperf.targets.triton import TritonEndpoint
from pytest_gpuperf.targets.triton.endpoint import StartedTriton

Result = TypeVar("Result")


class Member:
    """One server of a fleet.

    All that is done to it is done by a thread of its own, for two reasons: servers are started, asked and stopped side
    by side; and ``tritonclient.http`` speaks through gevent, whose sockets belong to the thread that opened them.

    Attributes:
        endpoint: what it is.
        place: the device or cores that it has.
        label: names it and its place.
        times: its own times when they were last read; None before, and where it has none.
        ended: nothing can be done to it any more.
    """

    def __init__(self, endpoint: TritonEndpoint, place: str, number: int, count: int) -> None:
        """Server ``number`` of ``count``, from 1."""
        self.endpoint, self.place = endpoint, place
        self.label = f"server {number} of {count} ({place})"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gpuperf-fleet")
        self._server: StartedTriton | None = None
        self.ended = False
        self.times: ServerTimes | None = None

    @property
    def server(self) -> StartedTriton:
        assert self._server is not None
        return self._server

    def address(self, protocol: str) -> Address:
        place = locate(self.server.grpc_address if protocol == GRPC else self.server.address)
        return Address(place.host, place.port)

    def begin(self, work: Callable[[], Result]) -> Future[Result]:
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

    def end(self) -> None:
        """The thread has nothing more to do."""
        self.ended = True
        self.begin(leave_thread)
        self._thread.shutdown(wait=True)


@dataclass(frozen=True)
class Front:
    """What stands before the servers.

    Attributes:
        name: of the model in the servers.
        settings: how it is asked.
        servers: given the addresses of our servers or our Envoy, what the load generator speaks to.
        envoy: start one.
        outside: a balancer that is there already.
        goes_on: the others are measured when a server dies.
        facts: more of what is under test.
        metrics_url: of servers that are there already.
    """

    name: str
    settings: RequestSettings
    servers: Callable[[Sequence[str]], Servers]
    envoy: bool = False
    outside: bool = False
    goes_on: bool = False
    facts: PlainMapping = field(default_factory=dict)
    metrics_url: str | None = None


def start_all(members: Sequence[Member]) -> None:
    """Start servers side by side.

    Raises:
        TargetError: one doesn't start; names it. None is left running then.
    """
    with ExitStack() as undo:
        undo.callback(stop_all, members)
        begun = [member.begin(member.start) for member in members]
        wait(begun)
        _blame(members, begun)
        undo.pop_all()


def join(members: Sequence[Member], front: Front) -> StartedFleet:
    """Put in front of servers that are up what the load generator speaks to.

    Raises:
        MissingExtra: there is no Envoy.
        TargetError: the balancer doesn't start, or isn't there. The servers are left as they are.
    """
    protocol = front.settings.protocol or HTTP
    addresses = _addresses(members)
    with ExitStack() as undo:
        envoy = None
        urls = [one.label for one in addresses[protocol]]
        if front.envoy:
            envoy = Envoy(addresses)
            undo.callback(envoy.stop)
            urls = [envoy.address(protocol).label]
        prefix = members[0].server.memory_prefix if members else ""
        try:
            asked = StartedEndpoint(front.servers(urls), front.name, front.settings, memory_prefix=prefix)
        except TargetDied as error:
            if not front.outside:
                raise
            raise TargetError(f"{error}\nStart the balancer, or correct the URL in balancer=.") from error
        started = StartedFleet(members, front, asked, envoy)
        undo.pop_all()
    return started


def _addresses(members: Iterable[Member]) -> dict[str, list[Address]]:
    members = list(members)
    return {protocol: [member.address(protocol) for member in members] for protocol in (HTTP, GRPC)}


class StartedFleet:
    """Servers that are ready, and what is in front of them.

    Args:
        asked: what the load generator speaks to.
    """

    def __init__(self, members: Sequence[Member], front: Front, asked: StartedEndpoint, envoy: Envoy | None) -> None:
        self._members, self._alive = list(members), list(members)
        self._front, self._asked, self._envoy = front, asked, envoy
        self._labels = {member: member.address(asked.protocol).label for member in members}
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
        return self._front.metrics_url

    @property
    def places(self) -> tuple[str, ...]:
        """The GPUs and slices of its servers, also of those that are gone: none else has them."""
        return tuple(place for member in self._members for place in member.endpoint.places)

    @property
    def servers(self) -> tuple[StartedTriton, ...]:
        """Those that are there."""
        return tuple(member.server for member in self._alive)

    def workload(self, batch_size: int, in_flight: int = 1) -> Workload:
        return self._asked.workload(batch_size, in_flight)

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

    def remarks(self) -> tuple[str, ...]:
        gone = [member.label for member in self._members if member not in self._alive]
        if not gone:
            return ()
        verb = "is" if len(gone) == 1 else "are"
        return (f"{len(gone)} of {len(self._members)} servers {verb} gone: {', '.join(gone)}",)

    def under_test(self) -> PlainMapping:
        facts: dict[str, Plain] = dict(self._asked.under_test())
        if self._members:
            first = self._members[0]
            facts |= first.begin(first.server.under_test).result()
            facts["endpoints"] = len(self._members)
            facts["slices"] = "; ".join(member.place for member in self._members)
            # It covers the path of the model file, which changes with every start.
            facts.pop("config_digest", None)
        if self._envoy is not None:
            facts["envoy"] = self._envoy.version
        return {**facts, **self._front.facts}

    def server_times(self) -> ServerTimes | None:
        self._look(Member.read)
        known = [member.times for member in self._members if member.times is not None]
        return functools.reduce(operator.add, known) if known else None

    def check(self) -> None:
        self._look(Member.check)
        if self._envoy is not None:
            self._envoy.check()
        if self._front.outside:
            self._asked.check()

    def _look(self, at: Callable[[Member], None]) -> None:
        """Ask all servers, and take those that are gone out of the fleet.

        Raises:
            TargetDied: one is gone and the others are not to go on without it, or all are.
        """
        found = [(member, member.begin(functools.partial(at, member))) for member in self._alive]
        gone = [(member, error) for member, future in found if isinstance(error := future.exception(), TargetDied)]
        if not gone:
            for _, future in found:
                future.result()
            return
        member, error = gone[0]
        if not self._front.goes_on:
            advice = "\non_loss='continue' goes on with the others." if len(self._members) > 1 else ""
            raise TargetDied(f"{_capital(member.label)} is gone: {error}{advice}") from error
        for member, _ in gone:
            self._alive.remove(member)
        if not self._alive:
            raise TargetDied(f"No server is left. The last was {member.label}: {error}") from error
        if self._envoy is not None:
            self._envoy.use(_addresses(self._alive))

    def stop(self) -> None:
        with ExitStack() as stack:
            stack.callback(stop_all, self._members)
            stack.callback(self.leave)

    def leave(self) -> None:
        """End what is in front of the servers. May be called twice."""
        with ExitStack() as stack:
            if self._envoy is not None:
                stack.callback(self._envoy.stop)
            stack.callback(self._asked.stop)


def stop_all(members: Iterable[Member]) -> None:
    """Stop servers side by side, also those that are still starting. May be called twice."""
    members = [member for member in members if not member.ended]
    begun = [member.begin(member.stop) for member in members]
    wait(begun)
    for member in members:
        member.end()
    for future in begun:
        future.result()


def _blame(members: Sequence[Member], begun: Sequence[Future[None]]) -> None:
    """Raise what the first server that didn't start says."""
    failed = [(member, error) for member, one in zip(members, begun, strict=True) if (error := one.exception())]
    if not failed:
        return
    member, error = failed[0]
    if not isinstance(error, TargetError):
        raise error  # not of one server more than of another
    others = f"\nThat of {len(failed) - 1} more did not either." if len(failed) > 1 else ""
    raise TargetError(f"{_capital(member.label)} did not start: {error}{others}") from error


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
