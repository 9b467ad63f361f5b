"""Memory shared with a server on this host, so that requests need not carry tensors.

POSIX shared memory is used directly, not through ``multiprocessing``, whose tracker would remove a region as soon as
a load generator process that reads it ends.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import Argument, OptionError, TargetDied, TargetError
from pytest_gpuperf.targets.kserve.client import KServeClient
from pytest_gpuperf.targets.kserve.message import RegionReader
from pytest_gpuperf.targets.kserve.served_model import ServedModel

#: Alignment of regions and of tensors in them, in bytes: CUDA's alignment, and more than a cache line.
ALIGNMENT = 256
_SHM = Path("/dev/shm")
#: Delay between, and number of, attempts to unregister a region that the server reports as in use.
_UNREGISTER_S, _UNREGISTER_TRIES = 0.05, 40


def aligned(size: int) -> int:
    """Return the size rounded up to a multiple of ``ALIGNMENT``; never 0, since a region can't be empty."""
    return max(ALIGNMENT, -(-size // ALIGNMENT) * ALIGNMENT)


class Region(Protocol):
    """Shared memory that this process owns.

    Attributes:
        kind: ``system`` or ``cuda``.
    """

    kind: str
    name: str
    size: int

    def write(self, data: bytes) -> None:
        """Write data at the start of the region."""

    def register(self, client: KServeClient) -> None:
        """Register the region with a server."""

    def reader(self) -> RegionReader:
        """Return a picklable reader for another process."""

    def remove(self) -> None:
        """Free the memory. May be called twice."""


class SystemRegion:
    """POSIX shared memory."""

    kind = "system"

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size
        path = _SHM / name
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            # Runs also if this process ends without stopping its targets.
            self._remove = weakref.finalize(self, _unlink, path)
            try:
                os.posix_fallocate(file, 0, size)  # fails here; without it the first write would raise SIGBUS
                self._memory = mmap.mmap(file, size)
            finally:
                os.close(file)
        except OSError as error:
            with contextlib.suppress(AttributeError):
                self._remove()
            raise TargetError(
                f"{size} bytes of shared memory can't be allocated in {_SHM}: {error.strerror}.\n"
                "Check the free space with: df /dev/shm. In a container: docker run --shm-size=2g."
            ) from error

    def write(self, data: bytes) -> None:
        self._memory[: len(data)] = data

    def register(self, client: KServeClient) -> None:
        client.share_system_memory(self.name, f"/{self.name}", self.size)

    def reader(self) -> SystemReader:
        return SystemReader(str(_SHM / self.name))

    def remove(self) -> None:
        self._remove()


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


class SystemReader:
    """A reader that maps the region at the first read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._memory: mmap.mmap | None = None

    def __reduce__(self) -> tuple[type[SystemReader], tuple[str]]:
        return SystemReader, (self._path,)

    def read(self, offset: int, size: int) -> bytes:
        if self._memory is None:
            try:
                with Path(self._path).open("rb") as file:
                    self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except OSError as error:
                raise ValueError(f"the shared memory {self._path} can't be read: {error.strerror}") from error
        if offset < 0 or offset + size > len(self._memory):
            raise ValueError(f"{size} bytes at {offset} end beyond the shared memory")
        return self._memory[offset : offset + size]


def create_region(kind: str, name: str, size: int) -> Region:
    """Allocate ``size`` bytes of ``system`` or ``cuda`` memory."""
    if kind == SystemRegion.kind:
        return SystemRegion(name, size)
    from pytest_gpuperf.targets.kserve.memory_cuda import CudaRegion

    return CudaRegion(name, size)


class SharedMemory:
    """All regions of a target, registered with all its servers; their names begin with ``prefix``."""

    def __init__(self, kind: str, prefix: str, clients: Sequence[KServeClient]) -> None:
        self._kind, self._prefix, self._clients = kind, prefix, clients
        self._regions: list[Region] = []
        self._registered: list[tuple[KServeClient, str]] = []

    def region(self, size: int) -> Region:
        """Allocate a region and register it with every server."""
        region = create_region(self._kind, f"{self._prefix}{self._kind}-{len(self._regions)}", size)
        self._regions.append(region)
        for client in self._clients:
            try:
                region.register(client)
            except TargetError as error:
                raise TargetError(
                    *error.args,
                    f"\nShared memory needs a server on this host that uses the same "
                    f"{'/dev/shm (containers: --ipc=host) as the same user' if self._kind == 'system' else 'GPU'}. "
                    "Otherwise use ",
                    Argument("shared_memory", "none"),
                    ".",
                ) from error
            self._registered.append((client, region.name))
        return region

    def release(self) -> None:
        """Unregister and free all regions; errors of the servers are ignored. May be called twice."""
        dead: set[str] = set()
        for client, name in self._registered:
            if client.address in dead:
                continue
            try:
                self._unregister(client, name)
            except TargetDied:
                dead.add(client.address)
        self._registered = []
        for region in self._regions:
            region.remove()
        self._regions = []

    def _unregister(self, client: KServeClient, name: str) -> None:
        """Unregister a region; does nothing if the server no longer knows it."""
        for _ in range(_UNREGISTER_TRIES):
            try:
                client.release_memory(self._kind, name)
            except TargetDied:
                raise
            except TargetError as error:
                # Triton releases a request's memory only a moment after it has sent the answer.
                if "in use" not in str(error):
                    return
                time.sleep(_UNREGISTER_S)
            else:
                return


def output_sizes(model: ServedModel, unknown_size: int | None, batch_size: int) -> dict[str, int]:
    """Return the bytes of each output of a request.

    Args:
        unknown_size: Bytes of an output whose size the model does not define.

    Raises:
        OptionError: It is needed and None.
    """
    sizes = {}
    for spec in model.outputs:
        shape = spec.item_shape(batched=model.batched)
        if spec.item_bytes > 0 and all(size >= 0 for size in shape):
            sizes[spec.name] = math.prod(shape) * spec.item_bytes * batch_size or spec.item_bytes
        elif unknown_size is not None:
            sizes[spec.name] = unknown_size
        else:
            raise OptionError(
                f"The size of output {spec.name!r} ({spec.datatype}, {list(shape)}) is unknown: set ",
                Argument("output_shared_memory_size"),
                " in bytes.",
            )
    return sizes
