"""GPU memory without a GPU: CUDA's Python bindings, the C boundary, are replaced by some that use the host's memory."""

# ruff: noqa: N801, N802, N815 - the names are CUDA's

from __future__ import annotations

import ctypes
import pickle
import sys
import types
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_gpuperf.targets.kserve.memory import SharedMemory, create_region
from tests.unit.targets.kserve.recorder import Recorder


class Error(int):
    """A status of CUDA's; 0 is success."""

    cudaSuccess = 0


class Runtime(types.ModuleType):
    """``cuda.bindings.runtime``.

    Attributes:
        allocated: by address.
        left: bytes of GPU memory.
    """

    CUDA_IPC_HANDLE_SIZE = 64
    cudaIpcMemLazyEnablePeerAccess = 1
    cudaError_t = Error
    cudaMemcpyKind = types.SimpleNamespace(cudaMemcpyDefault=4, cudaMemcpyDeviceToHost=2)
    cudaDeviceAttr = types.SimpleNamespace(cudaDevAttrUnifiedAddressing=41)

    class cudaIpcMemHandle_t:
        def __init__(self) -> None:
            self.raw = (ctypes.c_char * 64)()

        def getPtr(self) -> int:
            return ctypes.addressof(self.raw)

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.allocated: dict[int, Any] = {}
        self.left = 1 << 20

    def cudaGetDevice(self) -> tuple[Error, int]:
        return Error(0), 0

    def cudaSetDevice(self, _device: int) -> tuple[Error]:
        return (Error(0),)

    def cudaDeviceGetAttribute(self, *_: int) -> tuple[Error, int]:
        return Error(0), 1

    def cudaStreamCreate(self) -> tuple[Error, object]:
        return Error(0), object()

    def cudaStreamDestroy(self, _stream: object) -> tuple[Error]:
        return (Error(0),)

    def cudaStreamSynchronize(self, _stream: object) -> tuple[Error]:
        return (Error(0),)

    def cudaGetErrorString(self, _error: Error) -> tuple[Error, bytes]:
        return Error(0), b"out of memory"

    def cudaMalloc(self, size: int) -> tuple[Error, int]:
        if size > self.left:
            return Error(2), 0
        block = ctypes.create_string_buffer(size)
        self.allocated[ctypes.addressof(block)] = block
        return Error(0), ctypes.addressof(block)

    def cudaFree(self, address: int) -> tuple[Error]:
        del self.allocated[address]
        return (Error(0),)

    def cudaIpcGetMemHandle(self, address: int) -> tuple[Error, Any]:
        handle = self.cudaIpcMemHandle_t()
        ctypes.memmove(handle.getPtr(), address.to_bytes(8, "little"), 8)
        return Error(0), handle

    def cudaIpcOpenMemHandle(self, handle: Any, _flags: int) -> tuple[Error, int]:
        address = int.from_bytes(bytes(handle.raw)[:8], "little")
        return (Error(0), address) if address in self.allocated else (Error(1), 0)

    def cudaMemcpy(self, to: int, source: int, size: int, _kind: int) -> tuple[Error]:
        ctypes.memmove(to, source, size)
        return (Error(0),)

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, _stream: object) -> tuple[Error]:
        return self.cudaMemcpy(to, source, size, kind)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    import tritonclient.utils

    runtime = Runtime()
    driver = types.ModuleType("cuda.bindings.driver")
    succeed = {"cuDeviceGet": (0, 0), "cuDevicePrimaryCtxGetState": (0, 0, 0)}
    for name, result in succeed.items():
        setattr(driver, name, lambda *_, result=result: result)
    driver.CUresult = types.SimpleNamespace  # type: ignore[attr-defined]
    bindings = types.ModuleType("cuda.bindings")
    bindings.runtime, bindings.driver = runtime, driver  # type: ignore[attr-defined]
    modules = {
        "cuda": types.ModuleType("cuda"),
        "cuda.bindings": bindings,
        "cuda.bindings.runtime": runtime,
        "cuda.bindings.driver": driver,
    }
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.startswith("tritonclient.utils.cuda_shared_memory")]:
            patch.delitem(sys.modules, name)
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        patch.delattr(tritonclient.utils, "cuda_shared_memory", raising=False)
        yield runtime
        for name in [name for name in sys.modules if name.startswith("tritonclient.utils.cuda_shared_memory")]:
            del sys.modules[name]
        if hasattr(tritonclient.utils, "cuda_shared_memory"):
            del tritonclient.utils.cuda_shared_memory


def test_what_is_written_is_read_by_its_handle(cuda: Runtime) -> None:
    region = create_region("cuda", f"gpuperf-test-{uuid.uuid4().hex[:8]}", 512)
    region.write(b"hello, GPU")
    reader = pickle.loads(pickle.dumps(region.reader()))
    assert reader.read(7, 3) == b"GPU"
    with pytest.raises(ValueError, match="beyond the shared memory"):
        reader.read(510, 3)
    region.remove()
    region.remove()
    assert cuda.allocated == {}


def test_is_registered_and_freed(cuda: Runtime) -> None:
    server = Recorder()
    memory = SharedMemory("cuda", "gpuperf-test-", [server])
    region = memory.region(512)
    (method, name, handle, device, size) = server.calls[0]
    assert (method, name, device, size) == ("register_cuda_shared_memory", region.name, 0, 512)
    assert isinstance(handle, bytes)
    del region
    memory.release()
    assert server.calls[1:] == [("unregister_cuda_shared_memory", name)]
    assert cuda.allocated == {}


def test_memory_that_is_gone_can_not_be_read(cuda: Runtime) -> None:
    region = create_region("cuda", "gpuperf-test", 512)
    reader = pickle.loads(pickle.dumps(region.reader()))
    region.remove()
    assert cuda.allocated == {}
    with pytest.raises(ValueError, match="the GPU memory can't be read"):
        reader.read(0, 1)


def test_more_than_there_is(cuda: Runtime) -> None:
    cuda.left = 100
    with pytest.raises(Exception, match="512 bytes of GPU memory can't be shared: out of memory"):
        create_region("cuda", "gpuperf-test", 512)
