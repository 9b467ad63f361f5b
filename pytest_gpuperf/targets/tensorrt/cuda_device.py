"""The GPU under TensorRT, through CUDA's driver. The only module here that imports ``cuda.core``."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from typing import Any

from pytest_gpuperf.errors import MissingExtra, TargetError

#: What to do when memory is short.
MEMORY_REMEDY = (
    "Use fewer streams=, smaller batch sizes or a smaller workspace_bytes=, and see what else runs on the GPU "
    "(nvidia-smi)."
)

#: What CUDA says then, and what cuda.core 1.0 makes of it.
_MEMORY_SIGNS = ("OUT_OF_MEMORY", "Failed to allocate")


#: Which GPU is current in a thread that runs engines, as CUDA numbers it: those on several GPUs may share one.
_CURRENT = threading.local()


class CudaDevice:
    """A GPU that this process sees.

    Attributes:
        name: the product's; of a MIG slice with its profile.
        compute_capability: as ``9.0``.
        multiprocessors: of the GPU or slice.
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
            # A pool of our own: the device's keeps what is freed, which TensorRT and the next target then lack.
            pooled = self._device.properties.memory_pools_supported
            self._pool = core.DeviceMemoryResource(self._device, core.DeviceMemoryResourceOptions()) if pooled else None

    def make_current(self) -> None:
        """Make it current in this thread, in which other code may have made another one so."""
        self._device.set_current()
        _CURRENT.number = self._device.device_id

    def ensure_current(self) -> None:
        """The same in a thread of ours, which every one that uses it has to do first; costs nothing when it is."""
        if getattr(_CURRENT, "number", None) != self._device.device_id:
            self.make_current()

    def close(self) -> None:
        """Give back the memory of buffers that are closed. May be called twice."""
        if self._pool is not None:
            self._pool.close()

    def stream(self) -> Any:
        """A ``Stream`` of its own."""
        with _gpu_errors("make a stream"):
            return self._device.create_stream()

    def event(self) -> Any:
        """An ``Event`` that takes the time."""
        with _gpu_errors("make an event"):
            return self._device.create_event(options=self._core.EventOptions(timing_enabled=True))

    def device_buffer(self, size: int, stream: Any, purpose: str) -> Any:
        """Memory of the GPU.

        Args:
            purpose: as the end of "for ..." in the message when there isn't enough.
        """
        with _gpu_errors(f"allocate {size} bytes of GPU memory for {purpose}"):
            return (self._pool or self._device).allocate(max(size, 1), stream=stream)

    def pinned_buffer(self, size: int, data: bytes | None = None) -> Any:
        """Memory of the host that the GPU reads and writes directly, with data in it."""
        with _gpu_errors(f"allocate {size} bytes of pinned host memory"):
            buffer = self._pinned.allocate(max(size, 1))
        if data is not None:
            ctypes.memmove(int(buffer.handle), data, len(data))
        return buffer

    def capture(self, stream: Any, work: Any) -> Any:
        """A graph of what ``work(stream handle)`` queues.

        Raises:
            TargetError: it can't be captured.
        """
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
                recorder.close()  # now: it must not outlive the stream


def read_pinned(buffer: Any, size: int) -> bytes:
    """What is in pinned memory."""
    return ctypes.string_at(int(buffer.handle), size)


def drain(stream: Any) -> bool:
    """Wait until nothing that was queued on it is under way, so that its buffers may be freed.

    Returns:
        Whether all of it went well. What didn't was told to the caller whose request it was, or comes from a GPU that
        answers every later call with the same error.
    """
    try:
        stream.sync()
    except Exception:  # noqa: BLE001 - CUDAError has no public name
        return False
    return True


def gpu_failure(error: Exception, doing: str) -> TargetError:
    """What to say when the driver refuses something."""
    said = str(error)
    if any(sign in said for sign in _MEMORY_SIGNS):
        return TargetError(f"The GPU is out of memory: can't {doing}.\n{MEMORY_REMEDY}")
    return TargetError(f"The GPU can't {doing}: {said}")


@contextlib.contextmanager
def _gpu_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except TargetError:
        raise
    except Exception as error:  # CUDAError and DynamicLibNotFoundError, which have no public names
        raise gpu_failure(error, doing) from error


def open_gpu(purpose: str, extra: str, visible: str = "") -> CudaDevice:
    """A GPU.

    Asked for before TensorRT's runtime, which is not safe to use without a driver.

    Args:
        purpose: as the end of "is needed to ...".
        extra: of this package, which brings CUDA's Python bindings.
        visible: its UUID, or how it begins; the first that this process sees (``CUDA_VISIBLE_DEVICES``) when empty.

    Raises:
        MissingExtra: CUDA's Python bindings are not installed.
        TargetError: there is no driver, or no such GPU.
    """
    try:
        from cuda import core
    except ImportError as error:
        raise MissingExtra("cuda-core", extra, purpose) from error
    try:
        with _gpu_errors("be found"):
            device = _find_device(core, visible)
        if device is not None:
            return CudaDevice(core, device)
    except TargetError as error:
        cause = str(error.__cause__)
        raise TargetError(
            f"No GPU can be used here to {purpose}: {cause}\nIs there one with a driver (nvidia-smi), and does "
            "CUDA_VISIBLE_DEVICES name it? In a container: docker run --gpus all."
        ) from error
    raise TargetError(
        f"This process needs {visible} to {purpose}, and CUDA doesn't show it.\nCUDA shows what CUDA_VISIBLE_DEVICES "
        f"names when it is first used, and one MIG slice at most: run pytest with --gpuperf-device={visible}."
    )


def _find_device(core: Any, visible: str) -> Any:
    """That device; None where this process doesn't see it."""
    if not visible:
        return core.Device(0)
    wanted = visible.partition("-")[2].lower()
    return next((one for one in core.Device.get_all_devices() if wanted and one.uuid.lower().startswith(wanted)), None)
