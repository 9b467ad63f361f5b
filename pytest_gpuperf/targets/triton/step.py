"""One model of a repository, as a user describes it."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.targets.payload import DTYPES, TensorSpec

ONNX, PLAN, PYTHON = "onnx", "plan", "python"
_KINDS = {".onnx": ONNX, ".plan": PLAN, ".engine": PLAN, ".trt": PLAN, ".py": PYTHON}
_TENSOR = re.compile(r"([A-Z0-9]+)\s*\[([-\d,\s]*)\]")
#: What Triton's Python backend looks for in a model's file.
TRITON_CLASS = "TritonPythonModel"


@dataclass(frozen=True)
class DynamicBatching:
    """How Triton gathers requests into batches.

    Attributes:
        preferred_batch_sizes: batches that are sent on as soon as they are complete; any when empty.
        max_queue_delay_us: how long a request may wait for others.
    """

    preferred_batch_sizes: Sequence[int] = ()
    max_queue_delay_us: int = 0

    def __post_init__(self) -> None:
        if any(size < 1 for size in self.preferred_batch_sizes):
            raise OptionError(f"preferred_batch_sizes={list(self.preferred_batch_sizes)}: a batch has 1 item or more.")
        if self.max_queue_delay_us < 0:
            raise OptionError(f"max_queue_delay_us={self.max_queue_delay_us}: a delay is 0 or more.")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What a model's ``config.pbtxt`` says.

    Attributes:
        max_batch_size: 0 when the model takes no batches; by default 32 if its first dimension is free, else 0. Of a
            plan: what its profile allows.
        dynamic_batching: True, or how.
        instances: copies of the model that work side by side; on every GPU as many.
        gpus: on which GPUs, counted among those that the server sees; all of them when None.
        backend: ``tensorrt``, ``onnxruntime`` or ``python``; what fits the file and the server when None.
        threads: ONNX Runtime's threads in each instance; by default the cores are shared out among the instances.
        providers: ONNX Runtime's execution providers in the Python backend; CUDA (where this build has it) and CPU
            when None.
        input_tensors, output_tensors: of a plan or a Python file: each tensor's type and shape without the batch, as
            ``{"image": "FP32[3,224,224]"}``, with -1 for a free size. A single plan needs none: Triton reads them.
        function: of a Python file: the function that takes the arrays by name and returns those of the outputs.
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
        """Raises:
        OptionError: they can't be used as written.
        """
        if self.instances < 1:
            raise OptionError(f"instances={self.instances}: a model needs at least one.")
        if self.max_batch_size is not None and self.max_batch_size < 0:
            raise OptionError(f"max_batch_size={self.max_batch_size}: use 0 for a model that takes no batches.")
        if self.gpus is not None and (not self.gpus or any(gpu < 0 for gpu in self.gpus)):
            raise OptionError(f"gpus={list(self.gpus)}: name one GPU or more by number, or leave it out for all.")
        for name, text in (*self.input_tensors.items(), *self.output_tensors.items()):
            parse_tensor(name, text)

    def declared_tensors(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """The declared inputs and outputs."""
        return (
            tuple(parse_tensor(*item) for item in self.input_tensors.items()),
            tuple(parse_tensor(*item) for item in self.output_tensors.items()),
        )


@dataclass(frozen=True)
class Step(ModelSettings):
    """One model of an ensemble.

    Attributes:
        source: an ONNX model, a TensorRT plan (``.plan``, ``.engine``), or a Python file with a function, or with a
            class ``TritonPythonModel``.
        name: in the server, its statistics and the breakdown; the file's when None.
        feed: where inputs come from that don't find it by themselves: an output of an earlier step as ``step.output``,
            or the name of an input of the ensemble. By itself an input takes the output of that name of the nearest
            step before it; or the only output of the step before it if it is that step's only input; or it becomes an
            input of the ensemble.
    """

    source: str | os.PathLike[str]
    _: KW_ONLY
    name: str | None = None
    feed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.validate_model_settings()
        model_kind(self.path)

    @property
    def path(self) -> Path:
        return Path(self.source)

    @property
    def model_name(self) -> str:
        """As Triton knows it."""
        return self.name if self.name is not None else model_name_of(self.path)


def model_name_of(path: Path) -> str:
    """A file's name as the name of a model."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", path.stem)


def model_kind(path: Path) -> str:
    """``onnx``, ``plan`` or ``python``, by the file's ending.

    Raises:
        OptionError: it is none of these.
    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise OptionError(
            f"{path.name!r} is not a model that can be served: give a file that ends in {', '.join(_KINDS)}; "
            "or a whole model repository with repository= and model=."
        )
    return kind


def parse_tensor(name: str, text: str) -> TensorSpec:
    """``FP32[3,224,224]``.

    Raises:
        OptionError: it is written otherwise.
    """
    match = _TENSOR.fullmatch(text.strip())
    sizes = [] if match is None or not match[2].strip() else match[2].split(",")
    try:
        shape = tuple(int(size) for size in sizes)
    except ValueError:
        match = None
    if match is None or match[1] not in DTYPES or any(size == 0 or size < -1 for size in shape):
        raise OptionError(
            f"Tensor {name!r} is declared as {text!r}: write its type and shape without the batch, as "
            f"'FP32[3,224,224]' or 'UINT8[-1,-1,3]'. Types are {', '.join(DTYPES)}."
        )
    return TensorSpec(name, match[1], shape)


def defines_triton_model(path: Path, function: str) -> bool:
    """Whether a Python file brings a whole ``TritonPythonModel``, or else the function.

    It is only read: it runs inside Triton.

    Raises:
        TargetError: it has neither, or is no Python.
    """
    try:
        tree = ast.parse(path.read_text(), str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise TargetError(f"{path} can't be read as Python: {error}.") from error
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    names |= {target.id for node in tree.body if isinstance(node, ast.Assign) for target in _assigned_names(node)}
    if TRITON_CLASS in names:
        return True
    if function not in names:
        raise TargetError(
            f"{path} has neither a function {function!r} nor a class {TRITON_CLASS}.\n"
            "Define `def run(**arrays)` at its top level, or name another function with function=."
        )
    return False


def _assigned_names(node: ast.Assign) -> list[ast.Name]:
    return [target for target in node.targets if isinstance(target, ast.Name)]
