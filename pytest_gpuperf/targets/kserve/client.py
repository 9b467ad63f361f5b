"""Control calls to a server: readiness, metadata, statistics, shared memory. Each protocol has a subclass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_gpuperf.errors import TargetDied, TargetError
from pytest_gpuperf.model import ServerTimes

#: Seconds within which a control call must be answered.
CONTROL_S = 10.0
#: Names in the message about a model that a server does not have.
_MODELS_NAMED = 20
#: What reading a document of another form than the protocol's raises.
_UNREADABLE_DOCUMENT = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
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
        names = self._ask("get_server_metadata").get("extensions") or ()
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise self._unreadable("metadata", "extensions is not a list of names")
        return frozenset(names)

    def server_version(self) -> str:
        """Return the server's name and version."""
        metadata = self._ask("get_server_metadata")
        return f"{metadata.get('name', '?')} {metadata.get('version', '?')}"

    def model(self, model: str, version: str = "") -> dict[str, Any]:
        metadata = self._metadata(model, version)
        # A server may leave out or empty what it does not describe.
        if "name" in metadata:
            metadata = {**metadata, **{part: metadata.get(part) or [] for part in ("inputs", "outputs")}}
        if not all(isinstance(metadata.get(part), list) for part in ("inputs", "outputs")):
            raise TargetError(f"{self.address} is not a KServe v2 server.")
        return metadata

    def _metadata(self, model: str, version: str) -> dict[str, Any]:
        try:
            return self._ask("get_model_metadata", model, version)
        except TargetDied:
            raise
        except TargetError as error:
            raise TargetError(f"{error}{self._models_served()}") from error

    def _models_served(self) -> str:
        """Return a sentence with the models of the server; empty if it doesn't list them, or has this many."""
        try:
            index = self._call("get_model_repository_index")
            entries = index.get("models", ()) if isinstance(index, dict) else index
            names = sorted({str(entry["name"]) for entry in entries if entry.get("state", "READY") == "READY"})
        except (TargetError, *_UNREADABLE_DOCUMENT):
            return ""
        further = f" and {len(names) - _MODELS_NAMED} more" if len(names) > _MODELS_NAMED else ""
        return f"\nModels of this server: {', '.join(names[:_MODELS_NAMED]) or 'none'}{further}."

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        return self._ask("get_model_config", model, version)

    def server_times(self, model: str, version: str = "") -> ServerTimes:
        """Return cumulative times, summed over the model's versions if none is given (statistics extension)."""
        return self._times(self._statistics(model, version))

    def all_server_times(self) -> dict[str, ServerTimes]:
        """Return the cumulative times of every model of the server, read at the same time."""
        by_model: dict[str, list[Any]] = {}
        try:
            for entry in self._statistics():
                by_model.setdefault(str(entry.get("name", "")), []).append(entry)
        except _UNREADABLE_DOCUMENT as error:
            raise self._unreadable("statistics", error) from error
        return {name: self._times(entries) for name, entries in by_model.items()}

    def _statistics(self, *model: str) -> Iterable[Any]:
        entries = self._ask("get_inference_statistics", *model).get("model_stats", ())
        if not isinstance(entries, list | tuple):
            raise self._unreadable("statistics", "model_stats is not a list")
        return entries

    def _times(self, entries: Iterable[Any]) -> ServerTimes:
        try:
            return times_of_statistics(entries)
        except _UNREADABLE_DOCUMENT as error:
            raise self._unreadable("statistics", error) from error

    def _unreadable(self, what: str, why: object) -> TargetError:
        reason = repr(why) if isinstance(why, Exception) else str(why)
        return TargetError(f"The server at {self.address} sends {what} that can't be read: {reason}.")

    def share_system_memory(self, name: str, key: str, size: int) -> None:
        self._call("register_system_shared_memory", name, key, size)

    def share_cuda_memory(self, name: str, handle: bytes, device: int, size: int) -> None:
        """Register GPU memory with the server by CUDA's inter-process handle, in base64."""
        self._call("register_cuda_shared_memory", name, handle, device, size)

    def release_memory(self, kind: str, name: str) -> None:
        """Unregister a region of ``system`` or ``cuda`` memory."""
        self._call(f"unregister_{kind}_shared_memory", name)

    def trace(self, model: str, settings: Mapping[str, str | Sequence[str] | None]) -> None:
        """Change a model's trace settings; None for the server's own value (trace extension)."""
        self._call("update_trace_settings", model, dict(settings))

    def _ask(self, method: str, *arguments: str) -> dict[str, Any]:
        answer = self._call(method, *arguments)
        if not isinstance(answer, dict):
            raise TargetError(f"{self.address} is not a KServe v2 server.")
        return answer


def times_of_statistics(entries: Iterable[Any]) -> ServerTimes:
    """Return the sum of the times in entries of the statistics extension."""
    total = ServerTimes(0, 0, 0, 0, 0, 0)
    for entry in entries:
        times = entry.get("inference_stats", {})
        requests = int(times.get("success", {}).get("count", 0))
        queue, given, infer, output = (int(times.get(part, {}).get("ns", 0)) for part in _PARTS)
        hits = times.get("cache_hit", {})
        total += ServerTimes(
            requests,
            int(entry.get("execution_count", 0)),
            queue,
            given,
            infer,
            output,
            cache_hits=int(hits.get("count", 0)),
            cache_hit_ns=int(hits.get("ns", 0)),
        )
    return total
