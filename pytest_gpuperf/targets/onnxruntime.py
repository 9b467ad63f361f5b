"""Models in ONNX Runtime in this process. The only module that imports ``onnxruntime``."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.extras import import_extra
from pytest_gpuperf.model import CallWorkload, PlainMapping, StartTimes
from pytest_gpuperf.targets.input_data import InputSettings, make_payloads
from pytest_gpuperf.targets.model_file import check_model_file
from pytest_gpuperf.targets.payload import DTYPES, Array, TensorSpec, first_is_batch
from pytest_gpuperf.targets.target import StartedInProcess

#: KServe's type for each of ONNX Runtime's, which calls most of them by the same name in lower case.
_DATATYPES = {f"tensor({name.lower()})": name for name in DTYPES} | {
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of an ONNX model.

    Attributes:
        batched: Whether the first dimension of all of them is free, and therefore taken as the batch.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool


def import_onnxruntime(purpose: str) -> Any:
    """Import and return the ``onnxruntime`` module."""
    return import_extra("onnxruntime", "onnxruntime", "onnxruntime", purpose)


def open_session(path: Path, threads: int | None, providers: Sequence[str] | None) -> Any:
    """Open an ``InferenceSession``.

    Args:
        threads: Intra-op threads; ONNX Runtime's default when None.
        providers: Execution providers; those of ``choose_providers`` when None.

    Raises:
        TargetError: The file can't be read as a model.
        OptionError: An execution provider is not available.
        MissingExtra: ONNX Runtime is not installed.
    """
    runtime = import_onnxruntime(f"run {path.name}")
    check_model_file(path, "ONNX model")
    for part in external_files(path):
        check_model_file(part, "file of weights")
    providers = choose_providers(runtime, providers)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return runtime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise TargetError(
            f"ONNX Runtime can't load {path}:\n{error}\nCheck that the file is a complete ONNX model."
        ) from error


def choose_providers(runtime: Any, wanted: Sequence[str] | None) -> list[str]:
    """Return the wanted execution providers; by default CUDA, if this build of ONNX Runtime has it, and the CPU.

    A wanted provider that the build lacks is refused, since ONNX Runtime would only warn and use the CPU.
    """
    available = runtime.get_available_providers()
    for name in wanted or ():
        if name not in available:
            raise OptionError(f"This build of ONNX Runtime has no {name}; it has {', '.join(available)}.")
    defaults = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    return list(wanted or defaults)


def signature_of(session: Any) -> Signature:
    """Return the inputs and outputs of an ``InferenceSession``."""
    inputs, outputs = (tuple(map(_spec, tensors)) for tensors in (session.get_inputs(), session.get_outputs()))
    return Signature(inputs, outputs, first_is_batch((*inputs, *outputs)))


def _spec(tensor: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) and size > 0 else -1 for size in tensor.shape or ())
    return TensorSpec(tensor.name, _DATATYPES.get(tensor.type, tensor.type), shape)


def external_files(path: Path) -> list[Path]:
    """Return the files with the external weights of an ONNX model that have the usual names."""
    return [file for suffix in (".data", "_data") if (file := path.with_name(path.name + suffix)).is_file()]


def digest_of(path: Path, external: Sequence[Path] | None = None) -> str:
    """Return the first half of the SHA-256 of a model and its external weights.

    Args:
        external: Files with the weights; those with the usual names when None.
    """
    digest = hashlib.sha256()
    if external is None:
        external = external_files(path)
    for part in (path, *external):
        if part.is_file():
            with part.open("rb") as file:
                while block := file.read(_READ_BYTES):
                    digest.update(block)
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class OnnxRuntimeEngine(InputSettings):
    """An ONNX model in this process; every start opens a new ``InferenceSession``.

    Attributes:
        onnx: Path of the model.
        threads: ONNX Runtime's intra-op threads; its default when None.
        providers: Execution providers; CUDA (if available) and CPU when None.
    """

    onnx: str | os.PathLike[str]
    _: KW_ONLY
    threads: int | None = None
    providers: Sequence[str] | None = None

    @property
    def path(self) -> Path:
        return Path(self.onnx)

    @property
    def name(self) -> str:
        return f"onnxruntime {self.path.stem}"

    def start(self) -> _StartedOnnxRuntime:
        return _StartedOnnxRuntime(self)


def _decode_strings(values: Array) -> Array:
    """Decode strings: for bytes objects, ONNX Runtime would use their ``repr``."""
    if values.dtype != np.object_:
        return values
    text = np.empty(values.shape, dtype=np.object_)
    try:
        text.reshape(-1)[:] = [value.decode() for value in values.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise OptionError(f"ONNX Runtime accepts only UTF-8 strings: {error}.") from error
    return text


class _StartedOnnxRuntime(StartedInProcess):
    def __init__(self, engine: OnnxRuntimeEngine) -> None:
        self._engine = engine
        import_onnxruntime(f"run {engine.path.name}")  # not a part of loading the model
        begin = time.monotonic()
        self._session = open_session(engine.path, engine.threads, engine.providers)
        self.start_times = StartTimes(model_load_s=time.monotonic() - begin)
        self._signature = signature_of(self._session)

    def workload(self, batch_size: int, in_flight: int = 1) -> CallWorkload:  # noqa: ARG002 - calls need no memory
        session, signature = self._session, self._signature
        payloads = make_payloads(
            self._engine, signature.inputs, batch_size=batch_size, batched=signature.batched, outputs=signature.outputs
        )
        # Shared by all threads, since next() of a cycle is atomic in CPython.
        feeds = itertools.cycle(
            [{name: _decode_strings(values) for name, values in payload.inputs.items()} for payload in payloads]
        )

        def infer() -> None:
            session.run(None, next(feeds))

        return CallWorkload(infer, batch_size)

    def under_test(self) -> PlainMapping:
        return {
            "model": self._engine.path.name,
            "model_digest": digest_of(self._engine.path),
            "onnxruntime": import_onnxruntime("run a model").__version__,
            "providers": ", ".join(self._session.get_providers()),
            "threads": self._engine.threads,
            **self._engine.facts(),
        }

    def stop(self) -> None:
        self._session = None
