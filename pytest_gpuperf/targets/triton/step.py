"""A model of a repository as described by the user."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.targets.model_file import check_portable_name
from pytest_gpuperf.targets.payload import DTYPES, TensorSpec

ONNX, PLAN, PYTHON = "onnx", "plan", "python"
_KINDS = {".onnx": ONNX, ".plan": PLAN, ".engine": PLAN, ".trt": PLAN, ".py": PYTHON}
_TENSOR = re.compile(r"([A-Z0-9]+)\s*\[([-\d,\s]*)\]")
#: Class that Triton's Python backend looks for in a model's file.
TRITON_CLASS = "TritonPythonModel"


@dataclass(frozen=True)
class DynamicBatching:
    """Triton's dynamic batching of requests.

    Attributes:
        preferred_batch_sizes: Sizes at which a batch is executed at once; any when empty.
        max_queue_delay_us: Longest time in microseconds that a request waits for others.
    """

    preferred_batch_sizes: Sequence[int] = ()
    max_queue_delay_us: int = 0

    def __post_init__(self) -> None:
        if any(size < 1 for size in self.preferred_batch_sizes):
            raise OptionError(f"preferred_batch_sizes={list(self.preferred_batch_sizes)} must be 1 or more each.")
        if self.max_queue_delay_us < 0:
            raise OptionError(f"max_queue_delay_us={self.max_queue_delay_us} must be 0 or more.")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The content of a model's ``config.pbtxt``.

    Attributes:
        max_batch_size: Largest batch size, 0 for a model without batches. When None: 32 if the first dimension is
            free, else 0; for a plan, the limit of its profile.
        dynamic_batching: Whether Triton batches requests, or a ``DynamicBatching``.
        instances: Number of copies of the model that run in parallel, on each GPU.
        gpus: Indices of the GPUs to use, among those visible to the server; all of them when None.
        backend: ``tensorrt``, ``onnxruntime`` or ``python``; the server's first suitable backend when None.
        threads: ONNX Runtime's threads in each instance; the cores divided among the instances when None.
        providers: ONNX Runtime's execution providers in the Python backend; CUDA (if available) and CPU when None.
        input_tensors, output_tensors: Type and shape without the batch of each tensor of a plan or a Python file, such
            as ``{"image": "FP32[3,224,224]"}``, with -1 for a free size. Not needed for a single plan, which Triton
            reads.
        function: Name of the function in a Python file; it receives the inputs by name and returns the outputs.
    """

    max_batch_size: int | None = None
    dynamic_batching: bool | DynamicBatching = False
    instances: int = 1
    gpus: Sequence[int] | None = None
    backend: str | None = None
    threads: int | None = None
    providers: Sequence[str] | None = None
    input_tensors: Mapping[str, str] = field(default_factory=dict)
    output_tensors: Mapping[str, str] = field(default_factory=dict)
    function: str = "run"

    def validate_model_settings(self) -> None:
        """Check the settings of the model."""
        if self.instances < 1:
            raise OptionError(f"instances={self.instances} must be 1 or more.")
        if self.max_batch_size is not None and self.max_batch_size < 0:
            raise OptionError(
                f"max_batch_size={self.max_batch_size} must be 0 or more (0 for a model without batches)."
            )
        if self.gpus is not None and (not self.gpus or any(gpu < 0 for gpu in self.gpus)):
            raise OptionError(f"gpus={list(self.gpus)} must name GPUs by index; leave it out for all GPUs.")
        for name, text in (*self.input_tensors.items(), *self.output_tensors.items()):
            parse_tensor(name, text)


@dataclass(frozen=True)
class Step(ModelSettings):
    """A model of an ensemble.

    Attributes:
        source: An ONNX model, a TensorRT plan (``.plan``, ``.engine``), or a Python file with a function or a class
            ``TritonPythonModel``.
        name: Name in the server, its statistics and the breakdown; the file's name when None.
        feed: Sources of inputs: an output of an earlier step as ``step.output``, or the name of an input of the
            ensemble. By default an input is connected to the output of the same name of the nearest earlier step; else,
            a step's only input is connected to the only output of the previous step; else it becomes an input of the
            ensemble.
    """

    source: str | os.PathLike[str]
    _: KW_ONLY
    name: str | None = None
    feed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.validate_model_settings()
        model_kind(self.path)
        check_portable_name(self.model_name, "name")

    @property
    def path(self) -> Path:
        return Path(self.source)

    @property
    def model_name(self) -> str:
        """Name of the model in the server."""
        return self.name if self.name is not None else model_name_of(self.path)


def model_name_of(path: Path) -> str:
    """Return a file's name as a valid name of a model."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", path.stem)


def model_kind(path: Path) -> str:
    """Return ``onnx``, ``plan`` or ``python``, by the file's suffix."""
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise OptionError(
            f"{path.name!r} can't be served: pass a file that ends in {', '.join(_KINDS)}, or a model repository with "
            "repository= and model=."
        )
    return kind


def parse_tensor(name: str, text: str, *, batched: bool = False) -> TensorSpec:
    """Parse a declaration such as ``FP32[3,224,224]``; if ``batched``, the shape begins with the batch dimension."""
    match = _TENSOR.fullmatch(text.strip())
    sizes = [] if match is None or not match[2].strip() else match[2].split(",")
    try:
        shape = tuple(int(size) for size in sizes)
    except ValueError:
        match = None
    if match is None or match[1] not in DTYPES or any(size == 0 or size < -1 for size in shape):
        raise OptionError(
            f"Tensor {name!r} is declared as {text!r}, but must be a type and a shape without the batch, such as "
            f"'FP32[3,224,224]' or 'UINT8[-1,-1,3]'. Types are {', '.join(DTYPES)}."
        )
    return TensorSpec(name, match[1], (-1, *shape) if batched else shape)


def defines_triton_model(path: Path, function: str) -> bool:
    """Return whether a Python file defines a ``TritonPythonModel`` rather than the function.

    The file is parsed, not imported: it runs inside Triton.
    """
    try:
        tree = ast.parse(path.read_text(), str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise TargetError(f"{path} can't be read as Python: {error}.") from error
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assignments = [node for node in tree.body if isinstance(node, ast.Assign)]
    names |= {target.id for node in assignments for target in node.targets if isinstance(target, ast.Name)}
    if TRITON_CLASS in names:
        return True
    if function not in names:
        raise TargetError(
            f"{path} has neither a function {function!r} nor a class {TRITON_CLASS}.\n"
            "Define `def run(**arrays)` at its top level, or name a different function with function=."
        )
    return False
