"""The description of a fleet: its servers, their devices and the balancer."""

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
from pytest_gpuperf.targets.fleet.started import (
    ENVOY,
    Frontend,
    Member,
    StartedFleet,
    attach_frontend,
    start_all,
    stop_all,
)
from pytest_gpuperf.targets.kserve import KServeEndpoint, Servers
from pytest_gpuperf.targets.kserve.settings import NO_MEMORY
from pytest_gpuperf.targets.triton import TritonEndpoint

FAIL, CONTINUE = "fail", "continue"
#: Distance of the HTTP ports of two servers: 8000 and 8001, 8010 and 8011, ...
PORT_STEP = 10


@dataclass(frozen=True)
class TritonFleet:
    """Several servers of a model that share a load.

    Attributes:
        endpoint: Description of each server; with ``replicas=0``, the settings of requests to the existing servers.
        devices: GPUs or MIG slices in the order of the servers; when empty or the CPU, servers get shares of the cores.
        replicas: Number of servers; the number of devices, or of cores, when None. 0 to start no server and use the
            balancer at a URL.
        balancer: ``round_robin`` or ``least_outstanding`` in the load generator, ``envoy``, or the URL of a running
            balancer.
        on_loss: ``fail`` or ``continue`` with the remaining servers if a server dies during the measurement.
        first_port: HTTP port of the first server; gRPC uses the next port, and every further server ports higher by
            10. Free ports when None.

    Raises:
        OptionError: There are fewer devices or cores than replicas, or the balancer is unknown.
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
            raise OptionError(f"on_loss={self.on_loss!r} must be 'fail' or 'continue'.")
        if self.balance is None and self.balancer != ENVOY and ":" not in self.balancer:
            raise OptionError(
                f"balancer={self.balancer!r} must be 'round_robin', 'least_outstanding', 'envoy', or the URL of a "
                "running balancer, for example 'http://127.0.0.1:50050'."
            )
        if self.replicas != 0 and not isinstance(self.endpoint, TritonEndpoint):
            raise OptionError("A fleet can't start the servers of a KServeEndpoint: pass a model, or replicas=0.")
        if self.replicas == 0 and self.url is None:
            raise OptionError("replicas=0 needs balancer= with the URL of a running balancer.")
        if isinstance(self.endpoint, TritonEndpoint) and (self.endpoint.http_port or self.endpoint.grpc_port):
            raise OptionError("http_port= and grpc_port= apply to a single server; use first_port=8000 for a fleet.")
        if self.endpoint.shared_memory != NO_MEMORY and self.balance is None:
            raise OptionError(
                f"shared_memory={self.endpoint.shared_memory!r} must be registered with every server, which is not "
                f"possible through balancer={self.balancer!r}: use 'round_robin' or 'least_outstanding'."
            )
        self.load_servers(())  # raises for an invalid URL
        _ = self.slices  # raises for invalid devices

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
        """Create a fleet from the arguments of the fixture ``triton_fleet``.

        Args:
            source: A ``TritonEndpoint`` or its source; with ``replicas=0``, the model's name in the servers.
            settings: Settings of ``TritonEndpoint``; with ``replicas=0``, of ``KServeEndpoint``.
        """
        endpoint: TritonEndpoint | KServeEndpoint
        if isinstance(source, TritonEndpoint):
            endpoint = replace(source, **settings)
        elif replicas == 0:
            endpoint = KServeEndpoint(balancer, str(source), **settings)
        else:
            endpoint = TritonEndpoint(source, **settings)
        several = tuple(devices) if isinstance(devices, Sequence) and not isinstance(devices, str) else (devices,)
        return cls(
            endpoint, devices=several, replicas=replicas, balancer=balancer, on_loss=on_loss, first_port=first_port
        )

    @property
    def name(self) -> str:
        return self.endpoint.name

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """The device or cores of each server."""
        return () if self.replicas == 0 else slices_of(self.devices, self.replicas)

    @property
    def device_ids(self) -> tuple[str, ...]:
        """GPUs and MIG slices of all servers."""
        return tuple(slice_.visible for slice_ in self.slices if slice_.visible is not None)

    @property
    def max_replicas(self) -> int:
        """Number of servers of the fleet."""
        return len(self.slices)

    @property
    def balance(self) -> str | None:
        """The load generator's distribution of requests; None if a balancer distributes them."""
        return {"round_robin": ROUND_ROBIN, "least_outstanding": LEAST_OUTSTANDING}.get(self.balancer.replace("-", "_"))

    @property
    def url(self) -> str | None:
        """URL of a running balancer; None if the fleet uses none."""
        return self.balancer if self.balance is None and self.balancer != ENVOY else None

    @property
    def frontend(self) -> Frontend:
        """The description of what the load generator sends requests to."""
        return Frontend(self.endpoint, self.load_servers, self.balancer, self.url is not None, self.on_loss == CONTINUE)

    def load_servers(self, urls: Sequence[str]) -> Servers:
        """Return the servers that the load generator sends requests to.

        Args:
            urls: URLs of the fleet's servers or its Envoy; ignored for a running balancer.
        """
        if isinstance(self.endpoint, KServeEndpoint):
            return replace(self.endpoint, url=self.balancer).servers
        protocol = self.endpoint.protocol
        if self.url is not None:
            return Servers.from_urls([self.url], protocol=protocol, balance=ROUND_ROBIN)
        return Servers.from_urls(
            list(urls) or ["127.0.0.1:1"], protocol=protocol or HTTP, balance=self.balance or ROUND_ROBIN
        )

    @cached_property
    def endpoints(self) -> tuple[TritonEndpoint, ...]:
        """Descriptions of the servers. Cached, since each reads the model once."""
        endpoints: list[TritonEndpoint] = []
        for index, slice_ in enumerate(self.slices):
            assert isinstance(self.endpoint, TritonEndpoint)
            http = None if self.first_port is None else self.first_port + PORT_STEP * index
            grpc = None if http is None else http + 1
            endpoints.append(
                replace(self.endpoint, visible=slice_.visible, cpus=slice_.cpus, http_port=http, grpc_port=grpc)
            )
        return tuple(endpoints)

    def members(self, count: int) -> list[Member]:
        """Return the first ``count`` servers, not yet started."""
        return [
            Member(endpoint, slice_.label, number, count)
            for number, (endpoint, slice_) in enumerate(zip(self.endpoints[:count], self.slices, strict=False), 1)
        ]

    def at(self, replicas: int) -> FleetSubset:
        """Return the first ``replicas`` servers, each on its slice of the full fleet."""
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
        """Devices of the full fleet: a scaling test uses all of them, whichever subset is measured first."""
        return self.fleet.device_ids

    def start(self) -> StartedFleet:
        return _start(self.fleet, self.count)


def _start(fleet: TritonFleet, count: int) -> StartedFleet:
    if fleet.balancer == ENVOY:
        find_envoy()  # raises before the servers are started
    members = fleet.members(count)
    start_all(members)
    with ExitStack() as undo:
        undo.callback(stop_all, members)
        started = attach_frontend(members, fleet.frontend)
        undo.pop_all()
    return started
