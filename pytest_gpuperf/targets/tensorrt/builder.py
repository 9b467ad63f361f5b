"""Building a plan from an ONNX model with TensorRT's builder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.targets.payload import TensorSpec
from pytest_gpuperf.targets.tensorrt.library import Library
from pytest_gpuperf.targets.tensorrt.precision import Recipe
from pytest_gpuperf.targets.tensorrt.profiles import BatchSize, Profile, make_profiles

#: KServe's type for each of TensorRT's; other types (FP8, INT4, FP4) can't be sent.
DATATYPES = {"FLOAT": "FP32", "HALF": "FP16"} | {
    name: name for name in ("BF16", "INT8", "UINT8", "INT32", "INT64", "BOOL")
}
_ERRORS_SHOWN = 5


@dataclass(frozen=True)
class Plan:
    """A serialized engine.

    Attributes:
        batched: Whether the first dimension of all inputs and outputs is the batch.
    """

    data: bytes = field(repr=False)
    batched: bool


@dataclass(frozen=True)
class BuildResult:
    """The builder's result.

    Attributes:
        timing_cache: Kernel timings for later builds; empty without a timing cache.
    """

    plan: Plan
    timing_cache: bytes = field(repr=False)


def build(
    library: Library,
    model: bytes,
    path: Path,
    recipe: Recipe,
    *,
    batch_sizes: Sequence[BatchSize] = (1,),
    shapes: Mapping[str, Sequence[Any]] | None = None,
    workspace_bytes: int | None = None,
    timing_cache: bytes | None = None,
    compute_capability: str = "",
) -> BuildResult:
    """Build a plan.

    Args:
        path: Path of the model, beside which its external weights are located.
        workspace_bytes: Limit of a layer's scratch memory in bytes; the device's memory when None.
        timing_cache: Kernel timings of earlier builds, may be empty; None to use none.
        compute_capability: Compute capability to build for, such as ``8.9``; only for TensorRT for RTX, which needs no
            GPU for a build. TensorRT builds for the current GPU.
    """
    trt, log = library.trt, library.log
    log.clear()
    builder = trt.Builder(library.logger)
    network = builder.create_network(_network_flags(library, recipe))
    parser = trt.OnnxParser(network, library.logger)
    if not parser.parse(model, str(path)):
        raise TargetError(f"TensorRT {library.version} can't parse {path}:\n{_parser_errors(parser)}")
    if not network.num_outputs:
        raise TargetError(f"{path} has no outputs. Check that it is a complete ONNX model.")
    config = builder.create_builder_config()
    for name in recipe.flags:
        config.set_flag(getattr(trt.BuilderFlag, name))
    for name in recipe.cleared:
        config.clear_flag(getattr(trt.BuilderFlag, name))
    if workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    if library.rtx:
        _set_compute_capability(trt, config, compute_capability)
    inputs, batched = _inputs(network)
    profiles = make_profiles(inputs, batched=batched, batch_sizes=batch_sizes, shapes=shapes or {})
    for number, ranges in enumerate(profiles):
        _add_profile(library, builder, config, number, ranges)
    # TensorRT for RTX does not time kernels during a build.
    caching = timing_cache is not None and not library.rtx
    if caching:
        # TensorRT refuses a cache of another version or GPU; then the build uses an empty cache.
        cache = config.create_timing_cache(timing_cache)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, ignore_mismatch=False)
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise TargetError(f"TensorRT {library.version} can't build {path}:\n{log.reason()}")
    measured = b""
    if caching:
        cache = config.get_timing_cache()
        measured = bytes(cache.serialize())
    return BuildResult(Plan(bytes(data), batched), measured)


def _network_flags(library: Library, recipe: Recipe) -> int:
    if library.always_typed or not recipe.strongly_typed:
        return 0
    return 1 << int(library.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _set_compute_capability(trt: Any, config: Any, compute_capability: str) -> None:
    """Make TensorRT for RTX build for a single compute capability instead of all."""
    name = f"SM{compute_capability.replace('.', '')}" if compute_capability else "CURRENT"
    kind = getattr(trt.ComputeCapability, name, None)
    if kind is None:
        raise TargetError(
            f"TensorRT for RTX doesn't build for compute capability {compute_capability}. "
            "Use TensorRT itself: library='tensorrt'."
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(kind, 0)


def _parser_errors(parser: Any) -> str:
    lines = []
    for number in range(min(parser.num_errors, _ERRORS_SHOWN)):
        problem = parser.get_error(number)
        at = f" (node {problem.node_name()!r}, {problem.node_operator()})" if problem.node_operator() else ""
        lines.append(f"  {problem.desc()}{at}")
    return "\n".join(lines) or "  (the parser gave no reason)"


def _inputs(network: Any) -> tuple[tuple[TensorSpec, ...], bool]:
    """Return the network's inputs, and whether the first dimension of all tensors is the batch."""
    specs = []
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        if tensor.is_shape_tensor:
            raise OptionError(
                f"Input {tensor.name!r} is a shape tensor, whose values determine the sizes of other tensors; this is "
                "not supported. Make it a constant of the model."
            )
        specs.append(spec_of(tensor.name, tensor.dtype, tensor.shape))
    outputs = [tuple(network.get_output(number).shape) for number in range(network.num_outputs)]
    shapes = [spec.shape for spec in specs] + outputs
    return tuple(specs), bool(specs) and all(shape and shape[0] == -1 for shape in shapes)


def spec_of(name: str, dtype: Any, shape: Any) -> TensorSpec:
    """Return the spec of a TensorRT tensor."""
    if dtype.name not in DATATYPES:
        raise OptionError(f"Tensor {name!r} has TensorRT's type {dtype.name}, which is not supported.")
    return TensorSpec(name, DATATYPES[dtype.name], tuple(int(size) for size in shape))


def _add_profile(library: Library, builder: Any, config: Any, number: int, ranges: Profile) -> None:
    profile = builder.create_optimization_profile()
    for name, shapes in ranges.items():
        profile.set_shape(name, min=shapes.lowest, opt=shapes.tuned, max=shapes.highest)
    if config.add_optimization_profile(profile) < 0:
        sizes = ", ".join(f"{name} {shapes}" for name, shapes in ranges.items())
        raise TargetError(f"TensorRT refuses profile {number} ({sizes}):\n{library.log.reason()}")
