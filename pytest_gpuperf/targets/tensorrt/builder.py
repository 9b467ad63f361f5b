"""From an ONNX model to a plan, through TensorRT's builder."""

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

#: TensorRT's types and KServe's; the others (FP8, INT4, FP4) can't be sent.
DATATYPES = {
    "FLOAT": "FP32",
    "HALF": "FP16",
    "BF16": "BF16",
    "INT8": "INT8",
    "UINT8": "UINT8",
    "INT32": "INT32",
    "INT64": "INT64",
    "BOOL": "BOOL",
}
_ERRORS_SHOWN = 5


@dataclass(frozen=True)
class Plan:
    """A serialized engine.

    Attributes:
        batched: the first dimension of all inputs and outputs is the batch.
    """

    data: bytes = field(repr=False)
    batched: bool


@dataclass(frozen=True)
class BuildResult:
    """What the builder gave.

    Attributes:
        timing_cache: what it measured of kernels, for later builds; empty where none is kept.
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
        path: of the model, where its external weights are looked for.
        workspace_bytes: the most scratch memory a layer may take; all of the device's when None.
        timing_cache: of earlier builds, may be empty; None to keep none.
        compute_capability: of the GPU to build for, as ``8.9``. Only TensorRT for RTX is told, and needs no GPU for it;
            TensorRT builds for the GPU at hand.

    Raises:
        TargetError: with the parser's or the builder's reasons.
        OptionError: the profiles don't fit the model.
    """
    trt, log = library.trt, library.log
    log.clear()
    builder = trt.Builder(library.logger)
    network = builder.create_network(_network_flags(library, recipe))
    parser = trt.OnnxParser(network, library.logger)
    if not parser.parse(model, str(path)):
        raise TargetError(f"TensorRT {library.version} can't parse {path}:\n{_parser_errors(parser)}")
    if not network.num_outputs:
        raise TargetError(f"{path} has no outputs, so there is nothing to build. Is it a complete ONNX model?")
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
    # TensorRT for RTX times nothing while it builds.
    caching = timing_cache is not None and not library.rtx
    if caching:
        # A cache of another version or GPU is refused, and the build goes on with an empty one.
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
    """TensorRT for RTX: build for one kind of GPU instead of for all."""
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
    """The network's inputs, and whether their first dimension is the batch."""
    specs = []
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        if tensor.is_shape_tensor:
            raise OptionError(
                f"Input {tensor.name!r} is a shape: its values decide the sizes of other tensors, which profiles "
                "of sizes can't say. Make it a constant of the model."
            )
        specs.append(spec_of(tensor.name, tensor.dtype, tensor.shape))
    outputs = [tuple(network.get_output(number).shape) for number in range(network.num_outputs)]
    shapes = [spec.shape for spec in specs] + outputs
    return tuple(specs), bool(specs) and all(shape and shape[0] == -1 for shape in shapes)


def spec_of(name: str, dtype: Any, shape: Any) -> TensorSpec:
    """A tensor of TensorRT's.

    Raises:
        OptionError: its type can't be sent.
    """
    if dtype.name not in DATATYPES:
        raise OptionError(f"Tensor {name!r} has TensorRT's type {dtype.name}, which can't be sent.")
    return TensorSpec(name, DATATYPES[dtype.name], tuple(int(size) for size in shape))


def _add_profile(library: Library, builder: Any, config: Any, number: int, ranges: Profile) -> None:
    profile = builder.create_optimization_profile()
    for name, one in ranges.items():
        profile.set_shape(name, min=one.lowest, opt=one.tuned, max=one.highest)
    if config.add_optimization_profile(profile) < 0:
        sizes = ", ".join(f"{name} {one}" for name, one in ranges.items())
        raise TargetError(f"TensorRT refuses profile {number} ({sizes}):\n{library.log.reason()}")
