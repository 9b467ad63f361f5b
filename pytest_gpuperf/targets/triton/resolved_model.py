"""A model of a repository with every setting resolved: backend, tensors, batch size, devices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.targets.model_file import check_model_file
from pytest_gpuperf.targets.onnxruntime import (
    Signature,
    choose_providers,
    import_onnxruntime,
    open_session,
    signature_of,
)
from pytest_gpuperf.targets.payload import TensorSpec
from pytest_gpuperf.targets.triton.step import (
    ONNX,
    PLAN,
    PYTHON,
    DynamicBatching,
    ModelSettings,
    defines_triton_model,
    model_kind,
    parse_tensor,
)

TENSORRT, ONNXRUNTIME, PYTHON_BACKEND = "tensorrt", "onnxruntime", "python"
#: Backends that can run a file of a kind, the preferred backend first.
_BACKENDS = {PLAN: (TENSORRT,), ONNX: (ONNXRUNTIME, PYTHON_BACKEND), PYTHON: (PYTHON_BACKEND,)}
_DEFAULT_BATCH = 32


@dataclass(frozen=True)
class ServerCapabilities:
    """Properties of a server that decide how it serves a model.

    Attributes:
        label: Display name.
        backends: Names of its backends.
        gpu: Whether a GPU is visible to it.
        cores: Number of cores that it may use.
    """

    label: str
    backends: frozenset[str]
    gpu: bool
    cores: int


@dataclass(frozen=True)
class ResolvedModel:
    """A model as it is written into a repository.

    Attributes:
        signature: Tensors, with the batch dimension first if ``batched``; None if Triton reads them from the plan.
        max_batch_size: Largest batch size, 0 for none; None if Triton reads it from the plan.
        gpus: Indices among the GPUs visible to the server; all of them when None.
        kind: ``KIND_GPU`` or ``KIND_CPU``.
        function: Function of a Python file; empty if the file defines a ``TritonPythonModel``.
    """

    name: str
    source: Path
    backend: str
    signature: Signature | None
    max_batch_size: int | None
    dynamic_batching: DynamicBatching | None
    instances: int
    gpus: tuple[int, ...] | None
    kind: str
    threads: int
    providers: tuple[str, ...] = ()
    function: str = ""

    @property
    def batched(self) -> bool:
        return bool(self.max_batch_size)

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        return (*self.signature.inputs, *self.signature.outputs) if self.signature else ()


def resolve_model(name: str, source: Path, settings: ModelSettings, server: ServerCapabilities) -> ResolvedModel:
    """Choose every setting that the user left open."""
    kind = model_kind(source)
    if kind != ONNX:  # opening the file checks it, too
        check_model_file(source)
    backend = choose_backend(source, settings.backend, server)
    signature = read_signature(source, settings)
    is_triton_model = kind == PYTHON and defines_triton_model(source, settings.function)
    if kind == PYTHON and not (settings.input_tensors and settings.output_tensors):
        raise OptionError(
            f"The tensors of {source.name} are unknown: add input_tensors= and output_tensors=, for example "
            "{'image': 'UINT8[-1,-1,3]'}."
        )
    providers: Sequence[str] = ()
    if kind == ONNX and backend == PYTHON_BACKEND:
        providers = choose_providers(import_onnxruntime("serve an ONNX model"), settings.providers)
    batching = settings.dynamic_batching
    return ResolvedModel(
        name=name,
        source=source,
        backend=backend,
        signature=signature,
        max_batch_size=max_batch_size_of(source, settings, signature),
        dynamic_batching=batching if isinstance(batching, DynamicBatching) else DynamicBatching() if batching else None,
        instances=settings.instances,
        gpus=tuple(settings.gpus) if settings.gpus is not None else None,
        kind=_device_kind(name, backend, settings, server),
        threads=settings.threads or max(1, server.cores // settings.instances),
        providers=tuple(providers),
        function="" if is_triton_model or kind != PYTHON else settings.function,
    )


def choose_backend(source: Path, wanted: str | None, server: ServerCapabilities) -> str:
    """Return the backend that runs the file."""
    suitable = _BACKENDS[model_kind(source)]
    if wanted is not None and wanted not in suitable:
        hint = " Build a plan from it with tensorrt_engine(...) first." if wanted == TENSORRT else ""
        raise OptionError(f"backend={wanted!r} can't run {source.name}: use {' or '.join(map(repr, suitable))}.{hint}")
    accepted = suitable if wanted is None else (wanted,)
    for backend in accepted:
        if backend in server.backends:
            return backend
    raise TargetError(
        f"{source.name} needs Triton's backend {' or '.join(accepted)}, but {server.label} has only "
        f"{', '.join(sorted(server.backends)) or 'none'}.\n"
        "Use a server that has it: --gpuperf-triton docker (NVIDIA's image, which has all backends), or the path of a "
        "tritonserver."
    )


def read_signature(source: Path, settings: ModelSettings) -> Signature | None:
    """Return the model's tensors, with the batch dimension, if any, first; None if only Triton can read them."""
    kind = model_kind(source)
    if kind == ONNX:
        return signature_of(open_session(source, 1, ("CPUExecutionProvider",)))
    batched = settings.max_batch_size != 0
    inputs, outputs = (
        tuple(parse_tensor(name, text, batched=batched) for name, text in tensors.items())
        for tensors in (settings.input_tensors, settings.output_tensors)
    )
    if bool(inputs) != bool(outputs):
        raise OptionError(f"{source.name}: declare both input_tensors= and output_tensors=, or neither.")
    return Signature(inputs, outputs, batched) if inputs else None


def max_batch_size_of(source: Path, settings: ModelSettings, signature: Signature | None) -> int | None:
    """Return ``max_batch_size`` of ``config.pbtxt``; None if Triton reads it from the plan."""
    limit = settings.max_batch_size
    if signature is None:
        return limit or None
    if limit and not signature.batched:
        raise OptionError(
            f"Triton can't batch {source.name}, since its first dimension is fixed: leave max_batch_size out, or "
            "export the model with a free first dimension."
        )
    return limit if limit is not None else _DEFAULT_BATCH if signature.batched else 0


def _device_kind(name: str, backend: str, settings: ModelSettings, server: ServerCapabilities) -> str:
    """Return Triton's kind of the instances. ONNX Runtime in the Python backend chooses its GPU by the provider."""
    needs_gpu = backend == TENSORRT or settings.gpus is not None
    if needs_gpu and not server.gpu:
        why = "a TensorRT plan" if backend == TENSORRT else f"gpus={list(settings.gpus or ())}"
        raise TargetError(
            f"{name!r} needs a GPU ({why}), but none is visible to the server.\n"
            "Run it where nvidia-smi lists a GPU, and check CUDA_VISIBLE_DEVICES and --gpuperf-device."
        )
    return "KIND_GPU" if needs_gpu or (backend == ONNXRUNTIME and server.gpu) else "KIND_CPU"


def count_usable_cores(cpus: Sequence[int] | None) -> int:
    """Return the number of cores that a server may use."""
    allowed = os.sched_getaffinity(0)
    if cpus is None:
        return len(allowed)
    if not cpus or not set(cpus) <= allowed:
        raise OptionError(
            f"cpus={list(cpus)} must name cores that this process may use: {', '.join(map(str, sorted(allowed)))}."
        )
    return len(set(cpus))
