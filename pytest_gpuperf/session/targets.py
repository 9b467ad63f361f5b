"""The target factories that tests get as fixtures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pytest_gpuperf.targets.kserve import KServeEndpoint
from pytest_gpuperf.targets.onnxruntime import OnnxRuntimeEngine
from pytest_gpuperf.targets.payload import Array
from pytest_gpuperf.targets.triton import TritonEndpoint

Inputs = Mapping[str, Array]
Shapes = Mapping[str, Sequence[int]]


class TritonFactory(Protocol):
    """The type of the ``triton_endpoint`` fixture."""

    def __call__(
        self,
        onnx: str | os.PathLike[str],
        *,
        max_batch_size: int | None = None,
        dynamic_batching: bool = False,
        instances: int = 1,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        inputs: Inputs | None = None,
        shapes: Shapes | None = None,
        http_port: int | None = None,
        start_timeout_s: float = 120.0,
    ) -> TritonEndpoint: ...


class KServeFactory(Protocol):
    """The type of the ``kserve_endpoint`` fixture."""

    def __call__(
        self, url: str, model: str, *, inputs: Inputs | None = None, shapes: Shapes | None = None
    ) -> KServeEndpoint: ...


class OnnxRuntimeFactory(Protocol):
    """The type of the ``onnxruntime_engine`` fixture."""

    def __call__(
        self,
        onnx: str | os.PathLike[str],
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        inputs: Inputs | None = None,
        shapes: Shapes | None = None,
    ) -> OnnxRuntimeEngine: ...


def triton_endpoint(
    onnx: str | os.PathLike[str],
    *,
    max_batch_size: int | None = None,
    dynamic_batching: bool = False,
    instances: int = 1,
    threads: int | None = None,
    providers: Sequence[str] | None = None,
    inputs: Inputs | None = None,
    shapes: Shapes | None = None,
    http_port: int | None = None,
    start_timeout_s: float = 120.0,
) -> TritonEndpoint:
    """An ONNX model behind Triton; see ``TritonEndpoint`` for the arguments."""
    return TritonEndpoint(
        Path(onnx),
        max_batch_size=max_batch_size,
        dynamic_batching=dynamic_batching,
        instances=instances,
        threads=threads,
        providers=tuple(providers) if providers else None,
        inputs=inputs or {},
        shapes=shapes or {},
        http_port=http_port,
        start_timeout_s=start_timeout_s,
    )


def kserve_endpoint(
    url: str, model: str, *, inputs: Inputs | None = None, shapes: Shapes | None = None
) -> KServeEndpoint:
    """A model on a running server; see ``KServeEndpoint`` for the arguments."""
    return KServeEndpoint(url, model, inputs=inputs or {}, shapes=shapes or {})


def onnxruntime_engine(
    onnx: str | os.PathLike[str],
    *,
    threads: int | None = None,
    providers: Sequence[str] | None = None,
    inputs: Inputs | None = None,
    shapes: Shapes | None = None,
) -> OnnxRuntimeEngine:
    """An ONNX model in this process; see ``OnnxRuntimeEngine`` for the arguments."""
    return OnnxRuntimeEngine(
        Path(onnx),
        threads=threads,
        providers=tuple(providers) if providers else None,
        inputs=inputs or {},
        shapes=shapes or {},
    )
