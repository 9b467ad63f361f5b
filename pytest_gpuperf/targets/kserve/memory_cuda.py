"""GPU memory shared with a server on this host, through ``tritonclient`` and CUDA's Python bindings."""

from __future__ import annotations

import base64
import ctypes
import weakref
from typing import Any

import numpy as np

from pytest_gpuperf.errors import Argument, TargetError
from pytest_gpuperf.targets.kserve.client import KServeClient

_WITHOUT_GPU = (Argument("shared_memory", "system"), " or 'none'.")


class CudaRegion:
    """Memory of the first visible GPU."""

    kind = "cuda"
    device = 0

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size
        self._library = _cuda_library()
        try:
            self._handle = self._library.create_shared_memory_region(name, size, self.device)
        except Exception as error:  # the library's exception, whose cause is the driver's
            raise TargetError(
                f"{size} bytes of GPU memory can't be shared: {_root_cause(error)}.\nCheck with nvidia-smi that this "
                "machine has a GPU with a driver. Without a GPU use ",
                *_WITHOUT_GPU,
            ) from error
        self._remove = weakref.finalize(self, self._library.destroy_shared_memory_region, self._handle)

    def write(self, data: bytes) -> None:
        self._library.set_shared_memory_region(self._handle, [np.frombuffer(data, np.uint8)])

    def register(self, client: KServeClient) -> None:
        client.share_cuda_memory(self.name, self._library.get_raw_handle(self._handle), self.device, self.size)

    def reader(self) -> CudaReader:
        return CudaReader(self._library.get_raw_handle(self._handle), self.device, self.size)

    def remove(self) -> None:
        self._remove()
        self._handle = None  # the library frees the memory with the last reference to it


def _cuda_library() -> Any:
    try:
        from tritonclient.utils import cuda_shared_memory
    except (ImportError, RuntimeError, OSError) as error:
        raise TargetError(
            Argument("shared_memory", "cuda"),
            f" needs CUDA's Python bindings: {error}\nInstall them with: pip install cuda-python. Without a GPU use ",
            *_WITHOUT_GPU,
        ) from error
    return cuda_shared_memory


def _root_cause(error: BaseException) -> str:
    """Return the driver's message."""
    if error.__cause__ is not None:
        return _root_cause(error.__cause__)
    message = error.args[0] if error.args else error
    return message.decode() if isinstance(message, bytes) else str(message)


class CudaReader:
    """A reader that opens the region at the first read. CUDA forbids it in the process that owns the region."""

    def __init__(self, handle: bytes, device: int, size: int) -> None:
        self._handle, self._device, self._size = handle, device, size
        self._base: int | None = None

    def __reduce__(self) -> tuple[type[CudaReader], tuple[bytes, int, int]]:
        return CudaReader, (self._handle, self._device, self._size)

    def read(self, offset: int, size: int) -> bytes:
        from cuda.bindings import runtime

        if offset < 0 or offset + size > self._size:
            raise ValueError(f"{size} bytes at {offset} end beyond the shared memory")
        if self._base is None:
            self._base = self._open(runtime)
        host = ctypes.create_string_buffer(size)
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        _checked(runtime.cudaMemcpy(ctypes.addressof(host), self._base + offset, size, kind))
        return host.raw

    def _open(self, runtime: Any) -> int:
        raw = base64.b64decode(self._handle)
        handle = runtime.cudaIpcMemHandle_t()
        ctypes.memmove(int(handle.getPtr()), raw, len(raw))
        _checked(runtime.cudaSetDevice(self._device))
        return int(_checked(runtime.cudaIpcOpenMemHandle(handle, runtime.cudaIpcMemLazyEnablePeerAccess)))


def _checked(result: tuple[Any, ...]) -> Any:
    """Return the value of a CUDA runtime call; raise ValueError if its status is an error."""
    if int(result[0]):
        raise ValueError(f"the GPU memory can't be read: {result[0]}")
    return result[1] if len(result) > 1 else None
