"""One model of a repository with everything decided: backend, tensors, batch size, devices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.targets.onnxruntime import (
    Signature,
    check_providers,
    default_providers,
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
)

TENSORRT, ONNXRUNTIME, PYTHON_BACKEND = "tensorrt", "onnxruntime", "python"
#: What can run a file of a kind, the best first.
_BACKENDS = {PLAN: (TENSORRT,), ONNX: (ONNXRUNTIME, PYTHON_BACKEND), PYTHON: (PYTHON_BACKEND,)}
_DEFAULT_BATCH = 32


@dataclass(frozen=True)
class ServerCapabilities:
    """What a plan needs to know of the server.

    Attributes:
        label: what people call it.
        backends: that it has.
        gpu: it will see one.
        cores: that it may use.
    """

    label: str
    backends: frozenset[str]
    gpu: bool
    cores: int


@dataclass(frozen=True)
class ResolvedModel:
    """What is written into a repository.

    Attributes:
        signature: with the batch dimension first where ``batched``; None: Triton reads it from the plan.
        max_batch_size: None: as above.
        gpus: None: all that the server sees.
        kind: ``KIND_GPU`` or ``KIND_CPU``.
        function: of a Python file; empty where the file brings the whole model.
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
    """Decide what the user left open.

    Raises:
        OptionError: the settings contradict the file.
        TargetError: the server can't run it, or the file can't be read.
        MissingExtra: ONNX Runtime is needed to read an ONNX model.
    """
    kind = model_kind(source)
    if not source.is_file() and kind != ONNX:  # ONNX Runtime says it better
        raise TargetError(f"There is no model at {source}.")
    backend = choose_backend(source, settings.backend, server)
    signature = read_signature(source, settings)
    whole = kind == PYTHON and defines_triton_model(source, settings.function)
    if kind == PYTHON and not (settings.input_tensors and settings.output_tensors):
        raise OptionError(
            f"{source.name} doesn't say what it takes and gives: add input_tensors= and output_tensors=, for example "
            "{'image': 'UINT8[-1,-1,3]'}."
        )
    return ResolvedModel(
        name=name,
        source=source,
        backend=backend,
        signature=signature,
        max_batch_size=max_batch_size_of(source, settings, signature),
        dynamic_batching=_batching(settings.dynamic_batching),
        instances=settings.instances,
        gpus=tuple(settings.gpus) if settings.gpus is not None else None,
        kind=_device_kind(name, backend, settings, server),
        threads=settings.threads or max(1, server.cores // settings.instances),
        providers=execution_providers(settings) if kind == ONNX and backend == PYTHON_BACKEND else (),
        function="" if whole or kind != PYTHON else settings.function,
    )


def choose_backend(source: Path, wanted: str | None, server: ServerCapabilities) -> str:
    """The backend that runs the file.

    Raises:
        OptionError: the wanted one can't.
        TargetError: the server doesn't have it.
    """
    able = _BACKENDS[model_kind(source)]
    if wanted is not None and wanted not in able:
        more = " Build a plan of it with tensorrt_engine(...) first." if wanted == TENSORRT else ""
        raise OptionError(f"backend={wanted!r} can't run {source.name}: use {' or '.join(map(repr, able))}.{more}")
    for backend in (wanted,) if wanted is not None else able:
        if backend in server.backends:
            return backend
    raise TargetError(
        f"{source.name} needs Triton's backend {' or '.join(able if wanted is None else [wanted])}, and {server.label} "
        f"has only {', '.join(sorted(server.backends)) or 'none'}.\n"
        "Use a server that has it: --gpuperf-triton docker (NVIDIA's image, which has them all), or the path of its "
        "tritonserver."
    )


def read_signature(source: Path, settings: ModelSettings) -> Signature | None:
    """What the model takes and gives, with the batch first where it has one; None where only Triton can tell."""
    kind = model_kind(source)
    if kind == ONNX:
        return signature_of(open_session(source, 1, ("CPUExecutionProvider",)))
    inputs, outputs = settings.declared_tensors()
    if bool(inputs) != bool(outputs):
        raise OptionError(f"{source.name}: declare both input_tensors= and output_tensors=, or neither.")
    if not inputs:
        return None
    batched = settings.max_batch_size != 0
    return Signature(_add_batch_dimension(inputs, batched), _add_batch_dimension(outputs, batched), batched)


def _add_batch_dimension(specs: Sequence[TensorSpec], batched: bool) -> tuple[TensorSpec, ...]:
    return tuple(replace(spec, shape=(-1, *spec.shape)) if batched else spec for spec in specs)


def max_batch_size_of(source: Path, settings: ModelSettings, signature: Signature | None) -> int | None:
    """``max_batch_size`` of ``config.pbtxt``; None where Triton reads it from the plan.

    Raises:
        OptionError: the model takes no batches.
    """
    limit = settings.max_batch_size
    if signature is None:
        return limit or None
    if limit and not signature.batched:
        raise OptionError(
            f"{source.name} has a fixed first dimension, so Triton can't batch it: leave max_batch_size out, or export "
            "the model with a free first dimension."
        )
    return limit if limit is not None else _DEFAULT_BATCH if signature.batched else 0


def execution_providers(settings: ModelSettings) -> tuple[str, ...]:
    """ONNX Runtime's execution providers in the Python backend.

    Raises:
        OptionError: one of them isn't there.
    """
    runtime = import_onnxruntime("serve an ONNX model")
    check_providers(runtime, settings.providers or ())
    return tuple(settings.providers or default_providers(runtime))


def _batching(asked: bool | DynamicBatching) -> DynamicBatching | None:
    if isinstance(asked, DynamicBatching):
        return asked
    return DynamicBatching() if asked else None


def _device_kind(name: str, backend: str, settings: ModelSettings, server: ServerCapabilities) -> str:
    """Where Triton puts the instances. The Python backend's ONNX Runtime finds its GPU by its provider."""
    wants = backend == TENSORRT or settings.gpus is not None
    if wants and not server.gpu:
        why = "a TensorRT plan" if backend == TENSORRT else f"gpus={list(settings.gpus or ())}"
        raise TargetError(
            f"{name!r} needs a GPU ({why}), and the server will see none here.\n"
            "Run it where nvidia-smi lists a GPU, and look at CUDA_VISIBLE_DEVICES and --gpuperf-device."
        )
    return "KIND_GPU" if wants or (backend == ONNXRUNTIME and server.gpu) else "KIND_CPU"


def count_usable_cores(cpus: Sequence[int] | None) -> int:
    """How many cores a server may use.

    Raises:
        OptionError: this process may not use one of them.
    """
    allowed = os.sched_getaffinity(0)
    if cpus is None:
        return len(allowed)
    if not cpus or not set(cpus) <= allowed:
        raise OptionError(
            f"cpus={list(cpus)}: this process may use the cores {', '.join(map(str, sorted(allowed)))}; name "
            "one or more of these."
        )
    return len(set(cpus))
