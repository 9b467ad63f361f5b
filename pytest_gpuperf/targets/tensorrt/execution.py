"""Execution of an engine: prepared buffers, streams, events and graphs, and the queue of callers for them."""

from __future__ import annotations

import contextlib
import itertools
import math
import queue
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import OptionError, TargetDied, TargetError
from pytest_gpuperf.model import ServerTimes
from pytest_gpuperf.targets.payload import Array, TensorSpec, to_bytes
from pytest_gpuperf.targets.tensorrt.cuda_device import MEMORY_REMEDY, CudaDevice, drain, gpu_failure, read_pinned
from pytest_gpuperf.targets.tensorrt.library import Library

#: How long ``SlotPool.close`` waits for a running call.
_CLOSE_S, _POLL_S = 10.0, 0.005


def load_failure(what: str, reason: str, remedy: str = "") -> TargetError:
    """Return the TargetError for a call of TensorRT that returned None.

    Args:
        reason: Excerpt of TensorRT's log.
        remedy: Remedy, unless the GPU is out of memory.
    """
    out_of_memory = "out of memory" in reason.lower() or "outofmemory" in reason.lower()
    return TargetError(f"{what}:\n{reason}\n{MEMORY_REMEDY if out_of_memory else remedy}".rstrip())


class RequestTimes:
    """Cumulative times of all requests, in the form of a server's statistics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = ServerTimes(0, 0, 0, 0, 0, 0)

    def add(self, queue_ns: int, input_ns: int, infer_ns: int, output_ns: int) -> None:
        with self._lock:
            self.total += ServerTimes(1, 1, queue_ns, input_ns, infer_ns, output_ns)


@dataclass(frozen=True)
class StagedRequest:
    """The inputs of a request in pinned memory, which all streams read."""

    buffers: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]

    def close(self) -> None:
        for buffer in self.buffers.values():
            buffer.close()


def stage_requests(
    gpu: CudaDevice, specs: Sequence[TensorSpec], payloads: Sequence[Mapping[str, Array]]
) -> tuple[StagedRequest, ...]:
    """Copy requests into pinned memory."""
    requests: list[StagedRequest] = []
    for arrays in payloads:
        data = {spec.name: to_bytes(spec.datatype, arrays[spec.name]) for spec in specs}
        shapes = {spec.name: tuple(arrays[spec.name].shape) for spec in specs}
        if requests and shapes != requests[0].shapes:
            raise OptionError(
                f"The items of input_data= differ in shape ({requests[0].shapes} and {shapes}), but an engine is timed "
                "with a single shape: measure each shape in a separate sweep."
            )
        requests.append(
            StagedRequest({name: gpu.pinned_buffer(len(values), values) for name, values in data.items()}, shapes)
        )
    return tuple(requests)


class ExecutionSlot:
    """An execution context with its stream and buffers; runs a single request at a time.

    Args:
        profile: Index of the optimisation profile.
        request: Any of the requests that it will run, which all have the same shapes.
        graph: Whether to launch a captured graph instead of queueing every kernel.

    Raises:
        TargetError: There is not enough memory, or the engine refuses the shapes.
    """

    def __init__(
        self,
        library: Library,
        gpu: CudaDevice,
        engine: Any,
        outputs: Sequence[TensorSpec],
        *,
        profile: int,
        request: StagedRequest,
        graph: bool,
    ) -> None:
        self._library, self._gpu = library, gpu
        self._closing = contextlib.ExitStack()
        self._stream: Any = None
        self._graph: Any = None
        library.log.clear()
        with contextlib.ExitStack() as cleaning:
            cleaning.callback(self.close)
            self._stream = self._track(gpu.stream())
            self._context = context = engine.create_execution_context()
            if context is None:
                raise load_failure("TensorRT can't create an execution context", library.log.reason())
            if not context.set_optimization_profile_async(profile, int(self._stream.handle)):
                raise self._refusal(f"profile {profile}")
            for name, shape in request.shapes.items():
                if not context.set_input_shape(name, shape):
                    raise self._refusal(f"the shape {list(shape)} of {name!r}")
            if missing := context.infer_shapes():
                raise TargetError(f"The engine can't derive the sizes of its outputs without {', '.join(missing)}.")
            self._inputs = {
                name: self._bound(name, buffer.size, f"the input {name!r}") for name, buffer in request.buffers.items()
            }
            self._outputs = []
            for spec in outputs:
                size = self._output_bytes(spec)
                device = self._bound(spec.name, size, f"the output {spec.name!r}")
                self._outputs.append((spec.name, device, self._track(gpu.pinned_buffer(size)), size))
            self._begin, self._loaded, self._computed, self._end = (self._track(gpu.event()) for _ in range(4))
            self._handle = int(self._stream.handle)
            if graph:
                # The first execution does initialisation that must not be captured.
                self.run(request)
                self._graph = self._track(gpu.capture(self._stream, self._execute))
            cleaning.pop_all()

    def _track(self, resource: Any) -> Any:
        self._closing.callback(resource.close)
        return resource

    def _bound(self, name: str, size: int, purpose: str) -> Any:
        buffer = self._track(self._gpu.device_buffer(size, self._stream, purpose))
        if not self._context.set_tensor_address(name, int(buffer.handle)):
            raise self._refusal(f"memory for {name!r}")
        return buffer

    def _output_bytes(self, spec: TensorSpec) -> int:
        context = self._context
        shape = tuple(int(size) for size in context.get_tensor_shape(spec.name))
        if all(size >= 0 for size in shape):
            return math.prod(shape) * spec.item_bytes
        # The size depends on the values, so allocate the maximum.
        return int(context.get_max_output_size(spec.name))

    def _refusal(self, what: str) -> TargetError:
        return TargetError(f"The engine refuses {what}:\n{self._library.log.reason()}")

    def _execute(self, handle: int) -> None:
        if not self._context.execute_async_v3(handle):
            raise TargetError(f"The engine failed:\n{self._library.log.reason()}")

    def run(self, request: StagedRequest) -> tuple[int, int, int]:
        """Serve a request, and wait until its outputs are in pinned memory.

        Returns:
            Nanoseconds of the copy to the device, the execution, and the copy back.
        """
        stream = self._stream
        try:
            stream.record(self._begin)
            for name, source in request.buffers.items():
                self._inputs[name].copy_from(source, stream=stream)
            stream.record(self._loaded)
            if self._graph is None:
                self._execute(self._handle)
            else:
                self._graph.launch(stream)
            stream.record(self._computed)
            for _, device, host, _ in self._outputs:
                device.copy_to(host, stream=stream)
            stream.record(self._end)
            stream.sync()
            # Differences of events are milliseconds.
            return (
                int((self._loaded - self._begin) * 1e6),
                int((self._computed - self._loaded) * 1e6),
                int((self._end - self._computed) * 1e6),
            )
        except TargetError:
            raise
        except Exception as error:  # CUDAError has no public name
            raise gpu_failure(error, "run the engine") from error

    def answer(self) -> dict[str, bytes]:
        """Return the bytes of the last request's outputs."""
        return {name: read_pinned(host, size) for name, _, host, size in self._outputs}

    def close(self) -> None:
        # A failed request may have copies in flight. The context holds the buffers' addresses, so it goes before them.
        if self._stream is not None:
            drain(self._stream)
        self._stream = self._context = None
        self._closing.close()


class SlotPool:
    """Slots shared by callers, who wait in order for a free slot, as in a server's queue.

    Attributes:
        problem: Reason why the last call failed; empty if it succeeded.
    """

    def __init__(
        self,
        gpu: CudaDevice,
        slots: Sequence[ExecutionSlot],
        requests: Sequence[StagedRequest],
        request_times: RequestTimes,
    ) -> None:
        self._gpu, self._request_times, self._slots, self._requests = gpu, request_times, tuple(slots), tuple(requests)
        # Shared by all threads, since next() of a cycle is atomic in CPython.
        self._turns: Iterator[StagedRequest] = itertools.cycle(self._requests)
        self._lock = threading.Lock()
        self._free = deque(slots)
        self._waiting: deque[queue.SimpleQueue[ExecutionSlot]] = deque()
        self._closed = False
        self.problem = ""

    def call(self) -> None:
        """Serve a request.

        Raises:
            TargetDied: The target was stopped.
            TargetError: The engine or the GPU fails.
        """
        if self._closed:
            raise TargetDied("The engine was stopped.")
        self._gpu.ensure_current()
        asked_ns = time.monotonic_ns()
        slot = self._acquire()
        try:
            waited_ns = time.monotonic_ns() - asked_ns
            times = slot.run(next(self._turns))
        except TargetError as error:
            self.problem = str(error)
            raise
        finally:
            self._release(slot)
        self.problem = ""
        self._request_times.add(waited_ns, *times)

    def _acquire(self) -> ExecutionSlot:
        with self._lock:
            if self._free:
                return self._free.popleft()
            mine: queue.SimpleQueue[ExecutionSlot] = queue.SimpleQueue()
            self._waiting.append(mine)
        return mine.get()

    def _release(self, slot: ExecutionSlot) -> None:
        """Pass the slot to the longest-waiting caller; from a shared queue the releasing caller would retake it."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().put(slot)
            else:
                self._free.append(slot)

    def close(self) -> None:
        """Free all slots and requests; nothing if a call hangs, since the GPU may still use the memory."""
        if self._closed:
            return
        self._closed = True
        end_s = time.monotonic() + _CLOSE_S
        while len(self._free) < len(self._slots):
            if time.monotonic() > end_s:
                return
            time.sleep(_POLL_S)
        for slot in self._slots:
            slot.close()
        for request in self._requests:
            request.close()
