"""Control calls to a server: readiness, metadata, statistics, shared memory. Each protocol has a subclass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.model import ServerTimes

#: Seconds within which a control call must be answered.
CONTROL_S = 10.0
_PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


class KServeClient(ABC):
    """Control calls to a server; every failure is a ``TargetError`` that names the server.

    Attributes:
        address: ``host:port``.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    @abstractmethod
    def close(self) -> None:
        """Close the connections. May be called twice."""

    @abstractmethod
    def ready(self) -> bool:
        """Return whether the server reports itself and all its models ready; False if it can't be reached."""

    @abstractmethod
    def _call(self, method: str, *arguments: object) -> Any:
        """Call a method of tritonclient and return its answer as a JSON document in HTTP's form.

        Raises:
            TargetError: The server refuses.
            TargetDied: The server does not answer.
        """

    def extensions(self) -> frozenset[str]:
        return frozenset(self._ask("get_server_metadata").get("extensions", ()))

    def server_version(self) -> str:
        """Return the server's name and version."""
        metadata = self._ask("get_server_metadata")
        return f"{metadata.get('name', '?')} {metadata.get('version', '?')}"

    def model(self, model: str, version: str = "") -> dict[str, Any]:
        metadata = self._ask("get_model_metadata", model, version)
        if not all(isinstance(metadata.get(part), list) for part in ("inputs", "outputs")):
            raise TargetError(f"{self.address} is not a KServe v2 server.")
        return metadata

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        return self._ask("get_model_config", model, version)

    def server_times(self, model: str, version: str = "") -> ServerTimes:
        """Return cumulative times, summed over the model's versions if none is given (statistics extension)."""
        return _times(self._ask("get_inference_statistics", model, version).get("model_stats", ()))

    def all_server_times(self) -> dict[str, ServerTimes]:
        """Return the cumulative times of every model of the server, read at the same time."""
        by_model: dict[str, list[dict[str, Any]]] = {}
        for entry in self._ask("get_inference_statistics").get("model_stats", ()):
            by_model.setdefault(str(entry.get("name", "")), []).append(entry)
        return {name: _times(entries) for name, entries in by_model.items()}

    def share_system_memory(self, name: str, key: str, size: int) -> None:
        self._call("register_system_shared_memory", name, key, size)

    def share_cuda_memory(self, name: str, handle: bytes, device: int, size: int) -> None:
        """Register GPU memory with the server by CUDA's inter-process handle, in base64."""
        self._call("register_cuda_shared_memory", name, handle, device, size)

    def release_memory(self, kind: str, name: str) -> None:
        """Unregister a region of ``system`` or ``cuda`` memory."""
        self._call(f"unregister_{kind}_shared_memory", name)

    def _ask(self, method: str, *arguments: str) -> dict[str, Any]:
        answer = self._call(method, *arguments)
        if not isinstance(answer, dict):
            raise TargetError(f"{self.address} is not a KServe v2 server.")
        return answer


def _times(entries: Iterable[dict[str, Any]]) -> ServerTimes:
    total = ServerTimes(0, 0, 0, 0, 0, 0)
    for entry in entries:
        times = entry.get("inference_stats", {})
        requests = int(times.get("success", {}).get("count", 0))
        queue, given, infer, output = (int(times.get(part, {}).get("ns", 0)) for part in _PARTS)
        total += ServerTimes(requests, int(entry.get("execution_count", 0)), queue, given, infer, output)
    return total
