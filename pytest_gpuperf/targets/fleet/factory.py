"""The type of the ``triton_fleet`` fixture, from which editors complete its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, overload

from pytest_gpuperf.targets.fleet.fleet import TritonFleet
from pytest_gpuperf.targets.fleet.slices import DeviceLike
from pytest_gpuperf.targets.input_data import InputData
from pytest_gpuperf.targets.kserve.sequences import Sequences
from pytest_gpuperf.targets.kserve.settings import Expected
from pytest_gpuperf.targets.triton import DynamicBatching, Step, TritonEndpoint
from pytest_gpuperf.targets.triton.endpoint import Source

if TYPE_CHECKING:
    from typing_extensions import Unpack  # typing has it from Python 3.11 on

    from pytest_gpuperf.model import Tls


class RequestOptions(TypedDict, total=False):
    """Settings that ``TritonEndpoint`` and ``KServeEndpoint`` share."""

    inputs: Mapping[str, Any]
    shapes: Mapping[str, Sequence[int]]
    input_data: InputData
    payloads: int
    seed: int
    string_length: int
    string_data: str | None
    protocol: str | None
    streaming: bool
    expected: Expected | None
    tolerance: float
    shared_memory: str
    output_shared_memory_size: int | None
    parameters: Mapping[str, str | int | float | bool]
    input_tensor_format: str
    output_tensor_format: str
    composing_models: Sequence[str]
    sequences: Sequences


class EndpointOptions(RequestOptions, total=False):
    """Settings of ``TritonEndpoint`` that all servers of a fleet share."""

    max_batch_size: int | None
    dynamic_batching: bool | DynamicBatching
    instances: int
    gpus: Sequence[int] | None
    backend: str | None
    threads: int | None
    providers: Sequence[str] | None
    input_tensors: Mapping[str, str]
    output_tensors: Mapping[str, str]
    function: str
    model: str | None
    repository: Source | None
    server: Source | None
    start_timeout_s: float


class BalancerOptions(RequestOptions, total=False):
    """Settings of ``KServeEndpoint`` that remain where a balancer exists already."""

    version: str
    headers: Mapping[str, str]
    bearer_token: str | None
    tls: Tls | None
    metrics_url: str | None


class TritonFleetFactory(Protocol):
    """Makes fleets: ``triton_fleet(model, devices=gpu(mig="1g.10gb", count=7), balancer="envoy")``."""

    @overload
    def __call__(
        self,
        source: str,
        *,
        replicas: Literal[0],
        balancer: str,
        on_loss: str = ...,
        **settings: Unpack[BalancerOptions],
    ) -> TritonFleet: ...

    @overload
    def __call__(
        self,
        source: TritonEndpoint | Source | Step | Sequence[Source | Step] | None = None,
        devices: Sequence[DeviceLike] | DeviceLike | None = None,
        *,
        replicas: int | None = None,
        balancer: str = ...,
        on_loss: str = ...,
        first_port: int | None = None,
        **settings: Unpack[EndpointOptions],
    ) -> TritonFleet: ...
