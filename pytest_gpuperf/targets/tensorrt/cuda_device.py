"""The GPU of an engine, through CUDA's driver. The only module of the package that imports ``cuda.core``."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from typing import Any

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.extras import import_extra

#: Remedy for a lack of GPU memory.
MEMORY_REMEDY = (
    "Use fewer streams=, smaller batch sizes or a smaller workspace_bytes=, and check what else runs on the GPU "
    "(nvidia-smi)."
)

#: Parts of the messages of CUDA, and of cuda.core 1.0, about a lack of memory.
_MEMORY_SIGNS = ("OUT_OF_MEMORY", "Failed to allocate")

#: CUDA's number of the current GPU in each thread that runs engines; engines on several GPUs may share a thread.
_CURRENT = threading.local()


class CudaDevice:
    """A GPU visible to this process.

    Attributes:
        name: Product name; for a MIG slice, with its profile.
        compute_capability: Compute capability, such as ``9.0``.
    """

    def __init__(self, core: Any, device: Any) -> None:
        self._core, self._device = core, device
        with _gpu_errors("use the GPU"):
            self.make_current()
            self.name = str(self._device.name)
            capability = self._device.compute_capability
            self.compute_capability = f"{capability.major}.{capability.minor}"
            self.multiprocessors = int(self._device.properties.multiprocessor_count)
            self._pinned = core.LegacyPinnedMemoryResource()
            # A separate pool, since the device's pool keeps freed memory, which TensorRT and the next target may need.
            pooled = self._device.properties.memory_pools_supported
            self._pool = core.DeviceMemoryResource(self._device, core.DeviceMemoryResourceOptions()) if pooled else None

    def make_current(self) -> None:
        """Make the GPU current in this thread, whatever other code has set."""
        self._device.set_current()
        _CURRENT.number = self._device.device_id

    def ensure_current(self) -> None:
        """Make the GPU current in a thread that only runs engines; free if it already is."""
        if getattr(_CURRENT, "number", None) != self._device.device_id:
            self.make_current()

    def close(self) -> None:
        """Free the pool of closed buffers. May be called twice."""
        if self._pool is not None:
            self._pool.close()

    def stream(self) -> Any:
        """Create a ``Stream``."""
        with _gpu_errors("create a stream"):
            return self._device.create_stream()

    def event(self) -> Any:
        """Create an ``Event`` with timing."""
        with _gpu_errors("create an event"):
            return self._device.create_event(options=self._core.EventOptions(timing_enabled=True))

    def device_buffer(self, size: int, stream: Any, purpose: str) -> Any:
        """Allocate ``size`` bytes of GPU memory; an error message names the purpose."""
        with _gpu_errors(f"allocate {size} bytes of GPU memory for {purpose}"):
            return (self._pool or self._device).allocate(max(size, 1), stream=stream)

    def pinned_buffer(self, size: int, data: bytes | None = None) -> Any:
        """Allocate ``size`` bytes of host memory that the GPU accesses directly, and copy ``data`` into it."""
        with _gpu_errors(f"allocate {size} bytes of pinned host memory"):
            buffer = self._pinned.allocate(max(size, 1))
        if data is not None:
            ctypes.memmove(int(buffer.handle), data, len(data))
        return buffer

    def capture(self, stream: Any, work: Any) -> Any:
        """Capture the work that ``work(stream handle)`` queues as a graph."""
        with _gpu_errors("capture a CUDA graph of this engine (some engines can't be captured: cuda_graph=False)"):
            recorder = stream.create_graph_builder()
            try:
                recorder.begin_building()
                try:
                    work(int(stream.handle))
                finally:
                    recorder.end_building()
                return recorder.complete()
            finally:
                recorder.close()  # it must not outlive the stream


def read_pinned(buffer: Any, size: int) -> bytes:
    """Return the content of pinned memory."""
    return ctypes.string_at(int(buffer.handle), size)


def drain(stream: Any) -> None:
    """Wait until the stream's queued work has ended, so that its buffers can be freed."""
    # A failure was already raised for its request, or comes from a GPU that returns the same error for every call.
    with contextlib.suppress(Exception):  # CUDAError has no public name
        stream.sync()


def gpu_failure(error: Exception, doing: str) -> TargetError:
    """Return the TargetError for an error of the driver."""
    message = str(error)
    if any(sign in message for sign in _MEMORY_SIGNS):
        return TargetError(f"The GPU is out of memory: can't {doing}.\n{MEMORY_REMEDY}")
    return TargetError(f"The GPU can't {doing}: {message}")


@contextlib.contextmanager
def _gpu_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except TargetError:
        raise
    except Exception as error:  # CUDAError and DynamicLibNotFoundError, which have no public names
        raise gpu_failure(error, doing) from error


def open_gpu(purpose: str, extra: str, visible: str = "") -> CudaDevice:
    """Open a GPU.

    Call this before using TensorRT's runtime, which is not safe without a driver.

    Args:
        purpose: What the GPU is needed for, completing "is needed to ...".
        extra: Extra of this package that installs CUDA's Python bindings.
        visible: UUID of the GPU or its beginning; the first visible GPU (``CUDA_VISIBLE_DEVICES``) when empty.
    """
    core = import_extra("cuda.core", "cuda-core", extra, purpose)
    try:
        with _gpu_errors("be found"):
            device = _find_device(core, visible)
        if device is not None:
            return CudaDevice(core, device)
    except TargetError as error:
        cause = str(error.__cause__)
        raise TargetError(
            f"No GPU can be used here to {purpose}: {cause}\nCheck that nvidia-smi lists a GPU and that "
            "CUDA_VISIBLE_DEVICES does not hide it. In a container: docker run --gpus all."
        ) from error
    raise TargetError(
        f"{visible} is needed to {purpose}, but is not visible to this process.\nCUDA reads CUDA_VISIBLE_DEVICES only "
        f"once and shows a single MIG slice at most: run pytest with --gpuperf-device={visible}."
    )


def _find_device(core: Any, visible: str) -> Any:
    """Return the device; None if it is not visible to this process."""
    if not visible:
        return core.Device(0)
    wanted = visible.partition("-")[2].lower()
    devices = core.Device.get_all_devices()
    return next((device for device in devices if wanted and device.uuid.lower().startswith(wanted)), None)
