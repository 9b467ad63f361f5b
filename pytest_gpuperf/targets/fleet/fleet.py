"""The description of a fleet: which servers, on what, behind which balancer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import Any

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import HTTP, LEAST_OUTSTANDING, ROUND_ROBIN
from pytest_gpuperf.targets.fleet.envoy import find_envoy
from pytest_gpuperf.targets.fleet.slices import DeviceLike, Slice, slices_of
from pytest_gpuperf.targets.fleet.started import Frontend, Member, StartedFleet, attach_frontend, start_all, stop_all
from pytest_gpuperf.targets.kserve import KServeEndpoint, Servers
from pytest_gpuperf.targets.kserve.settings import NO_MEMORY
from pytest_gpuperf.targets.triton import TritonEndpoint

ENVOY = "envoy"
FAIL, CONTINUE = "fail", "continue"
#: Between the first ports of two servers: 8000 and 8001, 8010 and 8011, ...
PORT_STEP = 10


@dataclass(frozen=True)
class TritonFleet:
    """Several servers of one model that share one load.

    Attributes:
        endpoint: what each of them is; where there are none of ours, how the model is asked.
        devices: GPUs or MIG slices, one server each; shares of the cores when there are none, or when it is the CPU.
        replicas: how many servers; one for each device, or for each core, when None. 0: none of ours, where
            ``balancer`` is a URL.
        balancer: ``round_robin`` or ``least_outstanding`` in the load generator, ``envoy``, or the URL of a balancer
            that is there already.
        on_loss: what happens when a server dies while it is measured: ``fail``, or ``continue`` with the others.
        first_port: the servers' fixed ports: HTTP on this one, gRPC on the next, the next server's 10 higher; free
            ports when None.
    """

    endpoint: TritonEndpoint | KServeEndpoint
    _: KW_ONLY
    devices: Sequence[DeviceLike] = ()
    replicas: int | None = None
    balancer: str = "round_robin"
    on_loss: str = FAIL
    first_port: int | None = None

    def __post_init__(self) -> None:
        if self.on_loss not in (FAIL, CONTINUE):
            raise OptionError(f"on_loss={self.on_loss!r}: write 'fail' or 'continue'.")
        if self.balance is None and self.balancer != ENVOY and ":" not in self.balancer:
            raise OptionError(
                f"balancer={self.balancer!r}: write 'round_robin', 'least_outstanding', 'envoy', or the URL of a "
                "balancer that is there already, for example 'http://127.0.0.1:50050'."
            )
        if self.replicas != 0 and not isinstance(self.endpoint, TritonEndpoint):
            raise OptionError("A server that is there already can't be started again: give a model, or replicas=0.")
        if self.replicas == 0 and self.url is None:
            raise OptionError("replicas=0 leaves nothing to be asked; it is for balancer=URL alone.")
        if isinstance(self.endpoint, TritonEndpoint) and (self.endpoint.http_port or self.endpoint.grpc_port):
            raise OptionError("http_port= and grpc_port= can't be those of several servers: write first_port=8000.")
        if self.endpoint.shared_memory != NO_MEMORY and self.balance is None:
            raise OptionError(
                f"shared_memory={self.endpoint.shared_memory!r} has to be known to every server, and through "
                f"balancer={self.balancer!r} not every one can be told: use 'round_robin' or 'least_outstanding'."
            )
        self.load_servers(())
        _ = self.slices

    @classmethod
    def create(
        cls,
        source: Any = None,
        devices: Sequence[DeviceLike] | DeviceLike = (),
        *,
        replicas: int | None = None,
        balancer: str = "round_robin",
        on_loss: str = FAIL,
        first_port: int | None = None,
        **settings: Any,
    ) -> TritonFleet:
        """A fleet of what ``TritonEndpoint`` serves, or of one that is given.

        Args:
            source: as of ``TritonEndpoint``, or one; with ``replicas=0`` the model's name in the servers.
            settings: of ``TritonEndpoint``; with ``replicas=0`` of ``KServeEndpoint``.

        Raises:
            OptionError: an argument can't be used.
        """
        endpoint: TritonEndpoint | KServeEndpoint
        if isinstance(source, TritonEndpoint):
            endpoint = replace(source, **settings)
        elif replicas == 0:
            endpoint = KServeEndpoint(balancer, str(source), **settings)
        else:
            endpoint = TritonEndpoint(source, **settings)
        several = devices if isinstance(devices, Sequence) and not isinstance(devices, str) else (devices,)
        return cls(
            endpoint,
            devices=tuple(several),
            replicas=replicas,
            balancer=balancer,
            on_loss=on_loss,
            first_port=first_port,
        )

    @property
    def name(self) -> str:
        return self.endpoint.name

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """What each server runs on.

        Raises:
            OptionError: a device can't be used as written, or there are not so many.
        """
        return () if self.replicas == 0 else slices_of(self.devices, self.replicas)

    @property
    def device_ids(self) -> tuple[str, ...]:
        """The GPUs and slices of all its servers."""
        return tuple(one.visible for one in self.slices if one.visible is not None)

    @property
    def max_replicas(self) -> int:
        """How many servers there can be."""
        return len(self.slices)

    @property
    def balance(self) -> str | None:
        """How the load generator itself spreads the requests; None where a balancer does it."""
        return {"round_robin": ROUND_ROBIN, "least_outstanding": LEAST_OUTSTANDING}.get(self.balancer.replace("-", "_"))

    @property
    def url(self) -> str | None:
        """Of a balancer that is there already."""
        return self.balancer if self.balance is None and self.balancer != ENVOY else None

    @property
    def frontend(self) -> Frontend:
        """What stands before the servers."""
        return Frontend(
            self.name,
            self.endpoint,
            self.load_servers,
            envoy=self.balancer == ENVOY,
            external_balancer=self.url is not None,
            continues_on_loss=self.on_loss == CONTINUE,
            facts={"balancer": self.balancer},
            metrics_url=self.endpoint.metrics_url if isinstance(self.endpoint, KServeEndpoint) else None,
        )

    def load_servers(self, urls: Sequence[str]) -> Servers:
        """What the load generator speaks to.

        Args:
            urls: of our servers or our balancer; a balancer that is there already goes before them.

        Raises:
            OptionError: the balancer's URL can't be used.
        """
        protocol = self.endpoint.protocol
        return Servers.from_urls(
            [self.url] if self.url is not None else list(urls) or ["127.0.0.1:1"],
            protocol=protocol if self.url is not None else protocol or HTTP,
            headers={},
            bearer_token=None,
            tls=None,
            balance=self.balance or ROUND_ROBIN,
            weights=None,
        )

    @cached_property
    def endpoints(self) -> tuple[TritonEndpoint, ...]:
        """The servers. Kept, since each reads the model once."""
        found: list[TritonEndpoint] = []
        for number, one in enumerate(self.slices):
            assert isinstance(self.endpoint, TritonEndpoint)
            http = None if self.first_port is None else self.first_port + PORT_STEP * number
            grpc = None if http is None else http + 1
            found.append(replace(self.endpoint, visible=one.visible, cpus=one.cpus, http_port=http, grpc_port=grpc))
        return tuple(found)

    def members(self, count: int) -> list[Member]:
        """The first so many servers, not started yet."""
        return [
            Member(endpoint, one.label, number, count)
            for number, (endpoint, one) in enumerate(zip(self.endpoints[:count], self.slices, strict=False), 1)
        ]

    def at(self, replicas: int) -> FleetSubset:
        """The first so many servers, each on the slice that it has in the whole fleet.

        Raises:
            OptionError: there are not so many.
        """
        if type(replicas) is not int or not 1 <= replicas <= self.max_replicas:
            raise OptionError(
                f"replicas={replicas!r}: this fleet has {self.max_replicas} server(s). Create it with "
                f"replicas={replicas!r} or more, or with as many devices=."
            )
        return FleetSubset(self, replicas)

    def start(self) -> StartedFleet:
        return _start(self, self.max_replicas)


@dataclass(frozen=True)
class FleetSubset:
    """The first ``count`` servers of a fleet."""

    fleet: TritonFleet
    count: int

    @property
    def name(self) -> str:
        return f"{self.fleet.name} x{self.count}"

    @property
    def device_ids(self) -> tuple[str, ...]:
        """Those of the whole fleet: a test that scales it has all of them, whichever part is measured first."""
        return self.fleet.device_ids

    def start(self) -> StartedFleet:
        return _start(self.fleet, self.count)


def _start(fleet: TritonFleet, count: int) -> StartedFleet:
    if fleet.balancer == ENVOY:
        find_envoy()  # before the servers have been waited for
    members = fleet.members(count)
    start_all(members)
    with ExitStack() as undo:
        undo.callback(stop_all, members)
        started = attach_frontend(members, fleet.frontend)
        undo.pop_all()
    return started
