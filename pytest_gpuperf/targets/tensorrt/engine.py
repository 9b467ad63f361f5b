"""A TensorRT engine in this process."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import OptionError, TargetDied, TargetError
from pytest_gpuperf.model import CallWorkload, PlainMapping, ServerTimes, StartTimes
from pytest_gpuperf.targets.input_data import InputSettings, make_payloads
from pytest_gpuperf.targets.onnxruntime import digest_of
from pytest_gpuperf.targets.payload import TensorSpec, first_is_batch
from pytest_gpuperf.targets.target import StartedInProcess
from pytest_gpuperf.targets.tensorrt.builder import Plan, build, spec_of
from pytest_gpuperf.targets.tensorrt.cuda_device import CudaDevice, open_gpu
from pytest_gpuperf.targets.tensorrt.execution import (
    ExecutionSlot,
    RequestTimes,
    SlotPool,
    load_failure,
    stage_requests,
)
from pytest_gpuperf.targets.tensorrt.library import Library, open_library
from pytest_gpuperf.targets.tensorrt.onnx_file import OnnxFile
from pytest_gpuperf.targets.tensorrt.plans import PlanStore, read_timing_cache, write_timing_cache
from pytest_gpuperf.targets.tensorrt.precision import FP32, recipe_for
from pytest_gpuperf.targets.tensorrt.profiles import (
    BatchSize,
    Profile,
    ShapeRange,
    batch_range,
    choose_profile,
    size_range,
)

#: Suffixes of plans.
_PLAN_SUFFIXES = (".plan", ".engine", ".trt")


@dataclass(frozen=True)
class TensorRTEngine(InputSettings):
    """An ONNX model as a TensorRT engine; every start deserialises its plan.

    The plan is built once for each combination of model, settings, GPU model and TensorRT version, and cached.

    Attributes:
        onnx: The model; or a plan (``.plan``, ``.engine``), which is used as it is.
        precision: ``fp32``, ``tf32``, ``fp16``, ``bf16``; or ``int8`` or ``fp8`` for models with Q/DQ nodes.
        batch_sizes: Optimisation profiles: each entry is a batch size, or (smallest, tuned for, largest).
        shapes: Sizes of free dimensions by input, without the batch: a shape, or (smallest, tuned for, largest).
            Synthetic inputs have the tuned-for shape.
        workspace_bytes: Limit of a layer's scratch memory in bytes; TensorRT's default when None.
        timing_cache: File for the builder's kernel timings; True for a file in the cache directory, False for none.
        streams: Number of execution contexts, each with a stream: the number of requests that run concurrently.
        cuda_graph: Whether to launch the engine as a captured graph.
        library: ``tensorrt`` or ``tensorrt-rtx``; the first that is installed when None.
        visible: UUID of the GPU as in CUDA_VISIBLE_DEVICES; the first visible GPU when empty.
        label: Name of the target; made of the model's name and the precision when empty.

    Raises:
        OptionError: A precision, batch size or shape is invalid.
    """

    onnx: str | os.PathLike[str]
    _: KW_ONLY
    precision: str = FP32
    batch_sizes: Sequence[BatchSize] = (1,)
    shapes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    workspace_bytes: int | None = None
    timing_cache: str | os.PathLike[str] | bool = True
    streams: int = 1
    cuda_graph: bool = False
    library: str | None = None
    visible: str = ""
    label: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        recipe_for(self.precision, always_typed=False)
        if not self.batch_sizes:
            raise OptionError("batch_sizes is empty: name a batch size.")
        for batch in self.batch_sizes:
            batch_range(batch)
        for name, sizes in self.shapes.items():
            size_range(name, sizes)
        if self.streams < 1:
            raise OptionError(f"streams={self.streams} must be 1 or more.")
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise OptionError(f"workspace_bytes={self.workspace_bytes} must be 1 or more, or None for the default.")
        if self.prebuilt and (self.precision, tuple(self.batch_sizes), self.workspace_bytes) != (FP32, (1,), None):
            raise OptionError(
                f"{self.path.name} is a plan, which is already built: leave out precision, batch_sizes and "
                "workspace_bytes."
            )

    @property
    def path(self) -> Path:
        return Path(self.onnx)

    @property
    def prebuilt(self) -> bool:
        """True if the file is a plan."""
        return self.path.suffix in _PLAN_SUFFIXES

    @property
    def name(self) -> str:
        precision = "" if self.precision == FP32 else f" {self.precision}"
        return self.label or f"tensorrt {self.path.stem}{precision}"

    @property
    def device_ids(self) -> tuple[str, ...]:
        """See ``OnDevices``."""
        return (self.visible,) if self.visible else ()

    def start(self) -> StartedEngine:
        purpose = f"run {self.path.name}"
        library = open_library(self.library, purpose)
        gpu = open_gpu(purpose, library.name, self.visible)
        if not self.prebuilt:
            file = OnnxFile(self.path, library.name)
            plan, build_s = find_or_build(self, file, library, gpu)
            return StartedEngine(self, library, gpu, plan, file.digest, build_s=build_s)
        try:
            plan = Plan(self.path.read_bytes(), batched=False)
        except OSError as error:
            raise TargetError(f"The plan {self.path} can't be read: {error}.") from error
        return StartedEngine(self, library, gpu, plan, digest_of(self.path, ()))


def plan_key(target: TensorRTEngine, library: Library, gpu: CudaDevice, digest: str) -> dict[str, Any]:
    """Return the properties that identify a plan in the cache."""
    steps = recipe_for(target.precision, always_typed=library.always_typed)
    return {
        "model": digest,
        "library": library.name,
        "version": library.version,
        "precision": target.precision,
        "flags": sorted(steps.flags),
        "cleared": sorted(steps.cleared),
        "strongly_typed": steps.strongly_typed,
        "batch_sizes": [list(batch_range(batch)) for batch in target.batch_sizes],
        "shapes": {
            name: [list(shape) for shape in (sizes.lowest, sizes.tuned, sizes.highest)]
            for name, sizes in ((name, size_range(name, sizes)) for name, sizes in sorted(target.shapes.items()))
        },
        "workspace_bytes": target.workspace_bytes,
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "multiprocessors": gpu.multiprocessors,
    }


def find_or_build(
    target: TensorRTEngine, file: OnnxFile, library: Library, gpu: CudaDevice, store: PlanStore | None = None
) -> tuple[Plan, float | None]:
    """Return the cached plan for this GPU, or build it and cache it.

    Returns:
        The plan, and the seconds that its build took; None if it was cached.

    Raises:
        TargetError: The plan can't be built.
        OptionError: The precision or the profiles do not match the model.
    """
    store = store or PlanStore.default()
    key = plan_key(target, library, gpu, file.digest)
    if plan := store.find(key):
        return plan, None
    begin = time.monotonic()
    file.check(target.precision, always_typed=library.always_typed)
    steps = recipe_for(target.precision, always_typed=library.always_typed)
    timing = _timing_cache(target, store, f"{library.name} {library.version} {gpu.name}")
    built = build(
        library,
        file.converted(steps.convert) if steps.convert else target.path.read_bytes(),
        target.path,
        steps,
        batch_sizes=target.batch_sizes,
        shapes=target.shapes,
        workspace_bytes=target.workspace_bytes,
        timing_cache=read_timing_cache(timing) if timing else None,
        compute_capability=gpu.compute_capability,
    )
    store.add(key, built.plan)
    if timing and built.timing_cache:
        write_timing_cache(timing, built.timing_cache)
    return built.plan, time.monotonic() - begin


def _timing_cache(target: TensorRTEngine, store: PlanStore, name: str) -> Path | None:
    if isinstance(target.timing_cache, bool):
        return store.timing_cache(name) if target.timing_cache else None
    return Path(target.timing_cache)


class StartedEngine(StartedInProcess):
    """A deserialised engine, with a pool of slots for each batch size."""

    def __init__(
        self,
        target: TensorRTEngine,
        library: Library,
        gpu: CudaDevice,
        plan: Plan,
        digest: str,
        *,
        build_s: float | None = None,
    ) -> None:
        self._target, self._library, self._gpu = target, library, gpu
        self.device_ids = target.device_ids
        self._digest = digest
        self._plan_digest = hashlib.sha256(plan.data).hexdigest()[:32]
        self._request_times = RequestTimes()
        self._pools: dict[int, SlotPool] = {}
        library.log.clear()
        gpu.make_current()
        self._runtime: Any = library.trt.Runtime(library.logger)
        begin = time.monotonic()
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan.data)
        self.start_times = StartTimes(model_load_s=time.monotonic() - begin, engine_build_s=build_s)
        if self._engine is None:
            raise load_failure(
                f"The plan of {target.path.name} can't be used on this {gpu.name} (compute capability "
                f"{gpu.compute_capability}) with {library.name} {library.version}",
                library.log.reason(),
                "A plan runs only on the GPU model and version it was built for; from an .onnx file it is rebuilt.",
            )
        self._input_specs, self._output_specs = self._read_tensors()
        specs = (*self._input_specs, *self._output_specs)
        self._batched = first_is_batch(specs) if target.prebuilt else plan.batched
        self._profiles = self._read_profiles()

    def _read_tensors(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        trt, engine = self._library.trt, self._engine
        specs: dict[bool, list[TensorSpec]] = {True: [], False: []}
        for number in range(engine.num_io_tensors):
            name = engine.get_tensor_name(number)
            if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
                raise OptionError(f"Tensor {name!r} is a shape in host memory, which is not supported.")
            spec = spec_of(name, engine.get_tensor_dtype(name), engine.get_tensor_shape(name))
            specs[engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT].append(spec)
        return tuple(specs[True]), tuple(specs[False])

    def _read_profiles(self) -> tuple[Profile, ...]:
        return tuple(
            {spec.name: self._shape_range(spec, number) for spec in self._input_specs}
            for number in range(self._engine.num_optimization_profiles)
        )

    def _shape_range(self, spec: TensorSpec, number: int) -> ShapeRange:
        if -1 not in spec.shape:
            return ShapeRange(spec.shape, spec.shape, spec.shape)
        shapes = self._engine.get_tensor_profile_shape(spec.name, number)
        return ShapeRange(*(tuple(int(size) for size in shape) for shape in shapes))

    def workload(self, batch_size: int, in_flight: int = 1) -> CallWorkload:  # noqa: ARG002 - the streams are the target's
        if batch_size not in self._pools:
            self._pools[batch_size] = self._pool(batch_size)
        return CallWorkload(self._pools[batch_size].call, batch_size)

    def _pool(self, batch_size: int) -> SlotPool:
        target, gpu = self._target, self._gpu
        tuned = {name: size_range(name, sizes).tuned for name, sizes in target.shapes.items()}
        payloads = make_payloads(
            replace(target, shapes=tuned), self._input_specs, batch_size=batch_size, batched=self._batched
        )
        gpu.make_current()
        requests = stage_requests(gpu, self._input_specs, [payload.inputs for payload in payloads])
        with contextlib.ExitStack() as cleaning:
            for request in requests:
                cleaning.callback(request.close)
            profile = choose_profile(self._profiles, requests[0].shapes)
            slots = []
            for _ in range(target.streams):
                slot = ExecutionSlot(
                    self._library,
                    gpu,
                    self._engine,
                    self._output_specs,
                    profile=profile,
                    request=requests[0],
                    graph=target.cuda_graph,
                )
                cleaning.callback(slot.close)
                slots.append(slot)
            cleaning.pop_all()
        return SlotPool(gpu, slots, requests, self._request_times)

    def under_test(self) -> PlainMapping:
        target, library = self._target, self._library
        profiles = (", ".join(f"{name} {shapes}" for name, shapes in profile.items()) for profile in self._profiles)
        return {
            "model": target.path.name,
            "model_digest": self._digest,
            "plan_digest": self._plan_digest,
            library.name: library.version,
            "precision": "of the plan" if target.prebuilt else target.precision,
            "profiles": "; ".join(profiles),
            "workspace_bytes": target.workspace_bytes,
            "streams": target.streams,
            "cuda_graph": target.cuda_graph,
            **target.facts(),
        }

    def server_times(self) -> ServerTimes:
        """Return the times of waiting for a stream, copying to the GPU, executing, and copying back."""
        return self._request_times.total

    def check(self) -> None:
        for pool in self._pools.values():
            if pool.problem:
                raise TargetDied(pool.problem)

    def stop(self) -> None:
        self._gpu.make_current()
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        # In this order: the engine belongs to the runtime.
        self._engine = None
        self._runtime = None
        self._gpu.close()
