"""Writing a model repository: an ONNX model behind Triton's Python backend."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.onnxruntime import Signature
from pytest_gpuperf.targets.payload import DTYPES, TensorSpec

_MODEL_FILE = Path(__file__).with_name("python_backend") / "model.py"


@dataclass(frozen=True)
class ModelOptions:
    """What ``config.pbtxt`` says.

    Attributes:
        max_batch_size: 0 for a model whose first dimension is not a batch.
        dynamic_batching: let Triton gather requests into batches.
        instances: copies of the model that work side by side.
        threads: ONNX Runtime's threads in each of them.
        providers: execution providers.
    """

    max_batch_size: int
    dynamic_batching: bool
    instances: int
    threads: int
    providers: tuple[str, ...]


def write_repository(root: Path, name: str, onnx: Path, signature: Signature, options: ModelOptions) -> None:
    """Write ``root/name/config.pbtxt`` and ``root/name/1/model.py``; the ONNX file stays where it is."""
    version = root / name / "1"
    version.mkdir(parents=True)
    shutil.copyfile(_MODEL_FILE, version / "model.py")
    (root / name / "config.pbtxt").write_text(config_pbtxt(name, onnx, signature, options))


def config_pbtxt(name: str, onnx: Path, signature: Signature, options: ModelOptions) -> str:
    """The text of ``config.pbtxt`` (protobuf's text format, Triton's ModelConfig)."""
    if options.max_batch_size and not signature.batched:
        raise OptionError(
            f"{onnx.name} has a fixed first dimension, so Triton can't batch it: leave max_batch_size out, or export "
            "the model with a free first dimension."
        )
    lines = [f"name: {_quoted(name)}", 'backend: "python"', f"max_batch_size: {options.max_batch_size}"]
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        lines += [_tensor(kind, spec, batched=options.max_batch_size > 0) for spec in specs]
    lines.append(f"instance_group [{{ count: {options.instances} kind: KIND_CPU }}]")
    if options.dynamic_batching:
        lines.append("dynamic_batching { }")
    parameters = {
        "onnx": str(onnx.resolve()),
        "threads": str(options.threads),
        "providers": ",".join(options.providers),
    }
    for key, value in parameters.items():
        lines.append(f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}")
    return "\n".join(lines) + "\n"


def _tensor(kind: str, spec: TensorSpec, *, batched: bool) -> str:
    if spec.datatype not in DTYPES:
        raise OptionError(f"{kind} {spec.name!r} has the type {spec.datatype}, which KServe v2 can't carry.")
    dims = spec.shape[1:] if batched else spec.shape
    datatype = "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
    # A scalar for each item of the batch: Triton wants at least one dimension.
    reshape = " reshape { shape: [ ] }" if not dims else ""
    sizes = ", ".join(map(str, dims or (1,)))
    return f"{kind} [{{ name: {_quoted(spec.name)} data_type: {datatype} dims: [ {sizes} ]{reshape} }}]"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
