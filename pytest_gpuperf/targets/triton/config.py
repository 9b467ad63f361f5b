"""The content of ``config.pbtxt``: Triton's ModelConfig in protobuf's text format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.payload import DTYPES, TensorSpec
from pytest_gpuperf.targets.triton.ensemble import Ensemble
from pytest_gpuperf.targets.triton.resolved_model import ONNXRUNTIME, PYTHON_BACKEND, ResolvedModel
from pytest_gpuperf.targets.triton.step import DynamicBatching

#: Characters that are written as octal escapes.
_ESCAPED = re.compile(r'[\x00-\x1f\x7f"\\]')


def model_config(model: ResolvedModel) -> str:
    """Return the configuration of a model."""
    lines = [f"name: {quoted(model.name)}", f"backend: {quoted(model.backend)}"]
    if model.max_batch_size is not None:
        lines.append(f"max_batch_size: {model.max_batch_size}")
    if model.signature is not None:
        lines += _tensors("input", model.signature.inputs, batched=model.batched)
        lines += _tensors("output", model.signature.outputs, batched=model.batched)
    gpus = f" gpus: [ {', '.join(map(str, model.gpus))} ]" if model.gpus is not None else ""
    lines.append(f"instance_group [{{ count: {model.instances} kind: {model.kind}{gpus} }}]")
    if model.dynamic_batching is not None:
        lines.append(_batching(model.dynamic_batching))
    for key, value in _parameters(model).items():
        lines.append(f"parameters {{ key: {quoted(key)} value {{ string_value: {quoted(value)} }} }}")
    return "\n".join(lines) + "\n"


def ensemble_config(ensemble: Ensemble) -> str:
    """Return the configuration of an ensemble."""
    batched = ensemble.max_batch_size > 0
    lines = [f"name: {quoted(ensemble.name)}", 'platform: "ensemble"', f"max_batch_size: {ensemble.max_batch_size}"]
    lines += _tensors("input", ensemble.inputs, batched=batched)
    lines += _tensors("output", ensemble.outputs, batched=batched)
    lines.append("ensemble_scheduling {")
    for step in ensemble.steps:
        lines.append(f"  step [{{ model_name: {quoted(step.model)} model_version: -1")
        for kind, tensors in (("input_map", step.inputs), ("output_map", step.outputs)):
            lines += [f"    {kind} {{ key: {quoted(key)} value: {quoted(value)} }}" for key, value in tensors.items()]
        lines.append("  }]")
    return "\n".join([*lines, "}"]) + "\n"


def _parameters(model: ResolvedModel) -> Mapping[str, str]:
    if model.backend == ONNXRUNTIME:
        return {"intra_op_thread_count": str(model.threads)}
    if model.backend != PYTHON_BACKEND:
        return {}
    source = {"source": str(model.source.resolve())}
    if model.function:
        return {**source, "function": model.function}
    return {**source, "threads": str(model.threads), "providers": ",".join(model.providers)} if model.providers else {}


def _batching(batching: DynamicBatching) -> str:
    fields = ""
    if batching.preferred_batch_sizes:
        fields += f"preferred_batch_size: [ {', '.join(map(str, batching.preferred_batch_sizes))} ] "
    if batching.max_queue_delay_us:
        fields += f"max_queue_delay_microseconds: {batching.max_queue_delay_us} "
    return f"dynamic_batching {{ {fields}}}"


def _tensors(side: str, specs: Sequence[TensorSpec], *, batched: bool) -> Iterator[str]:
    for spec in specs:
        if spec.datatype not in DTYPES:
            raise OptionError(f"{side} {spec.name!r} has the type {spec.datatype}, which KServe v2 does not support.")
        dims = spec.item_shape(batched=batched)
        datatype = "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
        # For a scalar per item: Triton requires a dimension.
        reshape = " reshape { shape: [ ] }" if not dims else ""
        sizes = ", ".join(map(str, dims or (1,)))
        yield f"{side} [{{ name: {quoted(spec.name)} data_type: {datatype} dims: [ {sizes} ]{reshape} }}]"


def quoted(text: str) -> str:
    """Return a string literal of protobuf's text format."""
    escaped = _ESCAPED.sub(lambda match: f"\\{ord(match[0]):03o}", text)
    return f'"{escaped}"'
