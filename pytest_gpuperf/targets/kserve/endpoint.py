"""A model on running KServe v2 servers."""

from __future__ import annotations

import math
import pickle
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, field, replace

from pytest_gpuperf.errors import OptionError, TargetDied, TargetError
from pytest_gpuperf.model import (
    GRPC_STREAM,
    HTTP,
    ROUND_ROBIN,
    Plain,
    PlainMapping,
    Request,
    ServerTimes,
    Tls,
    WireWorkload,
)
from pytest_gpuperf.targets.input_data import Payload, make_payloads
from pytest_gpuperf.targets.kserve import grpc_codec, http_codec
from pytest_gpuperf.targets.kserve.client import KServeClient
from pytest_gpuperf.targets.kserve.memory import OutputSlot, SharedMemory, aligned
from pytest_gpuperf.targets.kserve.message import STREAM_FINAL, InferMessage, InputTensor, MemoryRange
from pytest_gpuperf.targets.kserve.metrics import find_metrics_url
from pytest_gpuperf.targets.kserve.output_check import OutputCheck
from pytest_gpuperf.targets.kserve.pipeline import Stage, ensemble_times, stage_tree
from pytest_gpuperf.targets.kserve.served_model import ServedModel
from pytest_gpuperf.targets.kserve.servers import Servers, open_client
from pytest_gpuperf.targets.kserve.settings import NO_MEMORY, RequestSettings
from pytest_gpuperf.targets.payload import to_bytes


@dataclass(frozen=True)
class KServeEndpoint(RequestSettings):
    """A model on one or several running servers; they are neither started nor stopped.

    Attributes:
        url: ``host:port``, ``http://``, ``https://``, ``grpc://`` or ``grpcs://host:port``; or several of these, all
            of one protocol.
        version: Version of the model; chosen by the server when empty.
        headers: Headers of every request and control call.
        bearer_token: Token of an ``authorization`` header.
        tls: Encryption settings; when None, an encrypted URL uses the system's certificate authorities.
        balance: Distribution over several servers: ``round-robin`` or ``least-outstanding``.
        weights: Relative load of each server; equal when None.
        metrics_url: URL of the server's Prometheus metrics, the source of its GPU's readings; when None, a single
            Triton is tried at its default port, 8002.
    """

    url: str | Sequence[str]
    model: str
    _: KW_ONLY
    version: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    bearer_token: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    balance: str = ROUND_ROBIN
    weights: Sequence[float] | None = None
    metrics_url: str | None = None

    @property
    def name(self) -> str:
        return self.model

    @property
    def servers(self) -> Servers:
        """The servers at ``url``.

        Raises:
            OptionError: The URLs or their settings are invalid.
        """
        return Servers.from_urls(
            [self.url] if isinstance(self.url, str) else list(self.url),
            protocol=self.protocol,
            headers=self.headers,
            bearer_token=self.bearer_token,
            tls=self.tls,
            balance=self.balance,
            weights=self.weights,
        )

    def start(self) -> StartedEndpoint:
        servers = self.servers
        try:
            started = StartedEndpoint(servers, self.model, self, version=self.version)
        except TargetDied as error:
            raise TargetError(f"{error}\nStart the server, or correct the URL given to kserve_endpoint.") from error
        started.metrics_url = self.metrics_url or started.default_metrics_url()
        return started


class StartedEndpoint:
    """A model behind KServe v2, ready for requests. Also used by targets that start the server themselves.

    Args:
        memory_prefix: Prefix of the names of shared memory; a random one when empty.

    Attributes:
        metrics_url: See ``StartedTarget``.
    """

    local = False
    processes = ()
    metrics_url: str | None = None

    def __init__(
        self, servers: Servers, model: str, settings: RequestSettings, *, version: str = "", memory_prefix: str = ""
    ) -> None:
        self._servers, self._name, self._version, self._settings = servers, model, version, settings
        self._protocol = settings.wire_protocol(servers.protocol)
        self._workloads: dict[tuple[int, int], WireWorkload] = {}
        self._clients: list[KServeClient] = []
        prefix = memory_prefix or f"gpuperf-{uuid.uuid4().hex[:12]}-"
        self._memory = SharedMemory(settings.shared_memory, prefix, self._clients)
        with ExitStack() as undo:
            undo.callback(self.stop)
            for address in servers.addresses:
                self._clients.append(open_client(servers, address))
            self._extensions = frozenset.intersection(*(client.extensions() for client in self._clients))
            self._model = self._common_model()
            self._stage = stage_tree(self._name, self._model, self._clients[0])
            self._check_settings()
            undo.pop_all()

    @property
    def protocol(self) -> str:
        """``http`` or ``grpc``."""
        return self._servers.protocol

    def _common_model(self) -> ServedModel:
        """Return the model after checking that all servers describe it alike."""
        has_config = "model_configuration" in self._extensions
        models = [
            ServedModel(
                client.model(self._name, self._version),
                client.config(self._name, self._version) if has_config else None,
            )
            for client in self._clients
        ]
        for client, model in zip(self._clients, models, strict=True):
            for part in ("inputs", "outputs", "max_batch_size", "decoupled"):
                first, differing = getattr(models[0], part), getattr(model, part)
                if first != differing:
                    raise TargetError(
                        f"{self._name!r} at {client.address} differs from the one at {self._clients[0].address} in its "
                        f"{part}: {differing} and {first}.\nServers that share one load must serve the same model."
                    )
        return models[0]

    def _check_settings(self) -> None:
        if self._model.decoupled and self._protocol != GRPC_STREAM:
            raise OptionError(
                f"{self._name!r} is decoupled: a request may have any number of answers, which needs a gRPC stream. "
                "Set protocol='grpc' and streaming=True, and use the server's gRPC port."
            )
        memory = self._settings.shared_memory
        if memory != NO_MEMORY and f"{memory}_shared_memory" not in self._extensions:
            raise OptionError(
                f"The server at {self._clients[0].address} does not support {memory} shared memory; use "
                "shared_memory='none'."
            )
        if callable(self._settings.expected):
            try:
                pickle.dumps(self._settings.expected)
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise OptionError(
                    f"expected={self._settings.expected!r} can't be sent to the load generator's processes ({error}): "
                    "define it with def, at the top level of a module."
                ) from error

    def workload(self, batch_size: int, in_flight: int = 1) -> WireWorkload:
        """Return the requests of a batch size; with shared memory, one rotation for each request in flight.

        Raises:
            OptionError: The model does not support the batch size, or the input data does not match the model.
            TargetError: Shared memory can't be allocated, or the server refuses it.
        """
        key = (batch_size, in_flight if self._settings.shared_memory != NO_MEMORY else 1)
        if key not in self._workloads:
            self._workloads[key] = self._build_workload(*key)
        return self._workloads[key]

    def _build_workload(self, batch_size: int, in_flight: int) -> WireWorkload:
        model, settings = self._model, self._settings
        limit = model.max_batch_size
        if limit and batch_size > limit:
            raise OptionError(f"batch_size={batch_size} is above the model's max_batch_size={limit}.")
        payloads = make_payloads(
            settings,
            model.inputs,
            batch_size=batch_size,
            batched=model.batched,
            outputs=model.outputs,
            expected=None if callable(settings.expected) else settings.expected,
        )
        if settings.shared_memory == NO_MEMORY:
            plain: dict[str, MemoryRange | None] = {spec.name: None for spec in model.outputs}
            rotations = [tuple(self._request(payload, self._tensors(payload), plain, None) for payload in payloads)]
        else:
            rotations = self._shared(payloads, self._output_sizes(batch_size), in_flight)
        path = {
            HTTP: http_codec.infer_path(self._name, self._version),
            GRPC_STREAM: grpc_codec.STREAM_PATH,
        }.get(self._protocol, grpc_codec.UNARY_PATH)
        return WireWorkload(
            self._protocol,
            self._servers.addresses,
            path,
            tuple(rotations),
            self._servers.headers,
            self._servers.tls,
            grpc_codec.StreamReader() if self._protocol == GRPC_STREAM else None,
            self._servers.balance,
            batch_size,
        )

    def _tensors(self, payload: Payload) -> list[InputTensor]:
        types = {spec.name: spec.datatype for spec in self._model.inputs}
        return [InputTensor(name, types[name], values) for name, values in payload.inputs.items()]

    def _shared(
        self, payloads: Sequence[Payload], sizes: Mapping[str, int], in_flight: int
    ) -> list[tuple[Request, ...]]:
        """Put all inputs into one region, and the outputs of each request in flight into a slot of another."""
        data = bytearray()
        offsets: list[list[tuple[InputTensor, int, int]]] = []
        for payload in payloads:
            offsets.append([])
            for tensor in self._tensors(payload):
                values = to_bytes(tensor.datatype, tensor.values)
                offsets[-1].append((tensor, len(data), len(values)))
                data += values.ljust(aligned(len(values)), b"\0")
        inputs = self._memory.region(len(data))
        inputs.write(bytes(data))
        tensors = [
            [replace(tensor, memory_range=MemoryRange(inputs.name, offset, size)) for tensor, offset, size in request]
            for request in offsets
        ]
        slot_size = sum(map(aligned, sizes.values()))
        outputs = self._memory.region(slot_size * in_flight)
        rotations = []
        for number in range(in_flight):
            offset, ranges = number * slot_size, dict[str, MemoryRange]()
            for output, size in sizes.items():
                ranges[output] = MemoryRange(outputs.name, offset, size)
                offset += aligned(size)
            slot = OutputSlot(outputs.reader(), ranges)
            rotations.append(
                tuple(
                    self._request(payload, shared, ranges, slot)
                    for payload, shared in zip(payloads, tensors, strict=True)
                )
            )
        return rotations

    def _output_sizes(self, batch_size: int) -> dict[str, int]:
        """Return the bytes of each output of one request."""
        sizes = {}
        for spec in self._model.outputs:
            shape = spec.item_shape(batched=self._model.batched)
            known = spec.item_bytes > 0 and all(size >= 0 for size in shape)
            if known:
                sizes[spec.name] = math.prod(shape) * spec.item_bytes * batch_size
            elif self._settings.output_shared_memory_size is not None:
                sizes[spec.name] = self._settings.output_shared_memory_size
            else:
                raise OptionError(
                    f"The size of output {spec.name!r} ({spec.datatype}, {list(shape)}) is unknown: set "
                    "output_shared_memory_size= in bytes."
                )
        return sizes

    def _request(
        self,
        payload: Payload,
        tensors: Sequence[InputTensor],
        outputs: Mapping[str, MemoryRange | None],
        slot: OutputSlot | None,
    ) -> Request:
        settings = self._settings
        expected = settings.expected if callable(settings.expected) else payload.expected
        check = None if expected is None else OutputCheck(self._protocol, expected, settings.tolerance, slot)
        message = InferMessage(
            self._name,
            self._version,
            tuple(tensors),
            outputs,
            {STREAM_FINAL: True} if self._protocol == GRPC_STREAM else {},
        )
        if self._protocol == HTTP:
            return http_codec.encode(message, check, binary="binary_tensor_data" in self._extensions)
        return grpc_codec.encode(message, check)

    def under_test(self) -> PlainMapping:
        versions = dict.fromkeys(client.server_version() for client in self._clients)
        facts: dict[str, Plain] = {"server": ", ".join(versions), "model": self._name}
        metadata = self._model.metadata
        facts["platform"] = str(metadata.get("platform", "")) or None
        facts["versions"] = self._version or ", ".join(metadata.get("versions", ())) or None
        if self._stage.digest:
            facts["config_digest"] = self._stage.tree_digest
        if self._stage.stages:
            facts["stages"] = ", ".join(stage.name for stage in self._stage.stages)
        facts["protocol"] = self._protocol
        facts["encrypted"] = self._servers.tls is not None
        facts["endpoints"] = len(self._clients)
        return {**facts, **self._settings.facts()}

    def server_times(self) -> ServerTimes | None:
        if "statistics" not in self._extensions:
            return None
        total, *remaining = map(self._times_of, self._clients)
        for times in remaining:
            total += times
        return total

    def _times_of(self, client: KServeClient) -> ServerTimes:
        if not self._stage.stages:
            return client.server_times(self._name, self._version)
        return ensemble_times(self._stage, client.all_server_times())

    def default_metrics_url(self) -> str | None:
        """URL of a single Triton's metrics at the default port; None if there is none."""
        if len(self._clients) != 1 or not self._clients[0].server_version().startswith("triton "):
            return None
        return find_metrics_url(self._servers.addresses[0].host, self._name)

    @property
    def served_model(self) -> ServedModel:
        """The model as described by the server."""
        return self._model

    @property
    def stage(self) -> Stage:
        """The model and, for an ensemble, the models that it consists of."""
        return self._stage

    def check(self) -> None:
        for address in self._servers.addresses:
            # A new connection, since a server that shuts down still serves its open connections.
            probe = open_client(self._servers, address)
            try:
                if not probe.ready():
                    raise TargetDied(f"The server at {probe.address} no longer accepts requests; was it stopped?")
            finally:
                probe.close()

    def stop(self) -> None:
        self._memory.release()
        self._workloads.clear()
        for client in self._clients:
            client.close()
        self._clients.clear()
