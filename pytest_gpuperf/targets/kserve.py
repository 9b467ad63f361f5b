"""The KServe v2 protocol over HTTP, through ``tritonclient``: control calls and request bytes.

The only module that imports ``tritonclient``. Of the protocol's extensions only those are used that the server lists.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from pytest_gpuperf.errors import OptionError, TargetDied, TargetError
from pytest_gpuperf.model import HttpWorkload, Plain, PlainMapping, ServerTimes
from pytest_gpuperf.targets.payload import Array, TensorSpec, make_inputs

_CONTROL_S = 10.0


def split_url(url: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``http://host:port``.

    Raises:
        OptionError: it is neither.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    else:
        bare = not (parts.username or parts.query or parts.fragment) and parts.path in ("", "/")
        if parts.scheme != "http" or not bare or re.search(r"\s", url) or parts.netloc.endswith(":"):
            host = None
    if not host or port == 0:
        raise OptionError(f"{url!r} is not an endpoint that can be measured: write host:port or http://host:port.")
    return host, port or 8000


def address_of(host: str, port: int) -> str:
    """``host:port``, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class KServeClient:
    """Control calls to one server. Every failure is a ``TargetError`` that names the server."""

    def __init__(self, host: str, port: int) -> None:
        from tritonclient.http import InferenceServerClient

        self.address = address_of(host, port)
        self._client = InferenceServerClient(self.address, connection_timeout=_CONTROL_S, network_timeout=_CONTROL_S)

    def close(self) -> None:
        self._client.close()

    def ready(self) -> bool:
        """Whether the server says that it and all its models are ready; False when it can't be reached."""
        try:
            return bool(self._client.is_server_ready())
        except Exception:  # noqa: BLE001 - gevent, ssl, socket, tritonclient: whatever it is, it is not ready
            return False

    def extensions(self) -> frozenset[str]:
        return frozenset(self._ask("get_server_metadata").get("extensions", ()))

    def server(self) -> str:
        """Name and version."""
        metadata = self._ask("get_server_metadata")
        return f"{metadata.get('name', '?')} {metadata.get('version', '?')}"

    def model(self, model: str) -> dict[str, Any]:
        metadata = self._ask("get_model_metadata", model)
        if not all(isinstance(metadata.get(part), list) for part in ("inputs", "outputs")):
            raise TargetError(f"What answers at {self.address} is no KServe v2 server.")
        return metadata

    def config(self, model: str) -> dict[str, Any]:
        return self._ask("get_model_config", model)

    def server_times(self, model: str) -> ServerTimes:
        """Cumulative times over the model's versions (statistics extension)."""
        totals = dict.fromkeys(
            ("requests", "executions", "queue", "compute_input", "compute_infer", "compute_output"), 0
        )
        for entry in self._ask("get_inference_statistics", model)["model_stats"]:
            totals["executions"] += int(entry.get("execution_count", 0))
            times = entry["inference_stats"]
            totals["requests"] += int(times["success"].get("count", 0))
            for part in ("queue", "compute_input", "compute_infer", "compute_output"):
                totals[part] += int(times[part].get("ns", 0))
        return ServerTimes(
            totals["requests"],
            totals["executions"],
            totals["queue"],
            totals["compute_input"],
            totals["compute_infer"],
            totals["compute_output"],
        )

    def _ask(self, method: str, *arguments: str) -> dict[str, Any]:
        from tritonclient.utils import InferenceServerException

        try:
            answer = getattr(self._client, method)(*arguments)
        except InferenceServerException as error:
            raise TargetError(f"The server at {self.address} refused {method}{arguments}: {error}") from error
        except Exception as error:  # geventhttpclient and gevent raise their own, and plain OSErrors
            raise TargetDied(f"The server at {self.address} does not answer ({error}).") from error
        if not isinstance(answer, dict):
            raise TargetError(f"What answers at {self.address} is no KServe v2 server.")
        return answer


def infer_wire(
    host: str, port: int, model: str, inputs: Mapping[str, tuple[str, Array]], outputs: Sequence[str], *, binary: bool
) -> bytes:
    """One complete inference request.

    Args:
        inputs: by name: KServe datatype and array.
        binary: use the binary tensor extension; otherwise JSON numbers.
    """
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

    tensors = []
    for name, (datatype, values) in inputs.items():
        tensor = InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values, binary_data=binary)
        tensors.append(tensor)
    wanted = [InferRequestedOutput(name, binary_data=binary) for name in outputs]
    body, json_length = InferenceServerClient.generate_request_body(tensors, outputs=wanted)
    body = body.encode() if isinstance(body, str) else bytes(body)
    head = [
        f"POST /v2/models/{quote(model, safe='')}/infer HTTP/1.1",
        f"Host: {address_of(host, port)}",
        f"Content-Type: {'application/octet-stream' if binary else 'application/json'}",
        f"Content-Length: {len(body)}",
    ]
    if json_length is not None:
        head.append(f"Inference-Header-Content-Length: {json_length}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True)
class KServeEndpoint:
    """A model on a server that is already there; it is neither started nor stopped.

    Attributes:
        url: ``host:port`` or ``http://host:port``.
        inputs, shapes: see ``payload.make_inputs``.
    """

    url: str
    model: str
    _: KW_ONLY
    inputs: Mapping[str, Array] = field(default_factory=dict, repr=False)
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.model

    def start(self) -> RunningEndpoint:
        host, port = split_url(self.url)
        try:
            return RunningEndpoint(host, port, self.model, self.inputs, self.shapes)
        except TargetDied as error:
            raise TargetError(f"{error}\nStart it, or correct the address given to kserve_endpoint.") from error


class RunningEndpoint:
    """A model behind KServe v2, ready to be asked. Also serves targets that started the server themselves."""

    local = False

    def __init__(
        self, host: str, port: int, model: str, inputs: Mapping[str, Array], shapes: Mapping[str, Sequence[int]]
    ) -> None:
        self._host, self._port, self._model, self._given, self._shapes = host, port, model, inputs, shapes
        self._client = KServeClient(host, port)
        try:
            self._extensions = self._client.extensions()
            self._metadata = self._client.model(model)
            self._config = self._client.config(model) if "model_configuration" in self._extensions else None
        except TargetError:
            self._client.close()
            raise

    @property
    def _max_batch_size(self) -> int | None:
        """None where the server doesn't say."""
        return None if self._config is None else int(self._config.get("max_batch_size", 0))

    def workload(self, batch_size: int) -> HttpWorkload:
        specs = [
            TensorSpec(tensor["name"], tensor["datatype"], tuple(int(size) for size in tensor["shape"]))
            for tensor in self._metadata["inputs"]
        ]
        limit = self._max_batch_size
        if limit and batch_size > limit:
            raise OptionError(f"batch_size={batch_size} is above the model's max_batch_size={limit}.")
        batched = bool(limit) if limit is not None else all(spec.shape and spec.shape[0] == -1 for spec in specs)
        arrays = make_inputs(specs, batch_size=batch_size, batched=batched, shapes=self._shapes, given=self._given)
        wire = infer_wire(
            self._host,
            self._port,
            self._model,
            {spec.name: (spec.datatype, arrays[spec.name]) for spec in specs},
            [tensor["name"] for tensor in self._metadata["outputs"]],
            binary="binary_tensor_data" in self._extensions,
        )
        return HttpWorkload(self._host, self._port, wire, batch_size)

    def under_test(self) -> PlainMapping:
        facts: dict[str, Plain] = {"server": self._client.server(), "model": self._model}
        facts["platform"] = str(self._metadata.get("platform", "")) or None
        facts["versions"] = ", ".join(self._metadata.get("versions", ())) or None
        if self._config is not None:
            canonical = json.dumps(self._config, sort_keys=True).encode()
            facts["config_digest"] = hashlib.sha256(canonical).hexdigest()[:32]
        return facts

    def server_times(self) -> ServerTimes | None:
        return self._client.server_times(self._model) if "statistics" in self._extensions else None

    def check(self) -> None:
        # A connection of its own: a server that is shutting down goes on serving those that it has.
        probe = KServeClient(self._host, self._port)
        try:
            if not probe.ready():
                raise TargetDied(f"The server at {probe.address} takes no more requests; was it stopped?")
        finally:
            probe.close()

    def stop(self) -> None:
        self._client.close()
