"""A model on running KServe v2 servers."""

from __future__ import annotations

import functools
import operator
import pickle
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import KW_ONLY, dataclass, field, replace

from pytest_gpuperf.errors import Argument, OptionError, TargetDied, TargetError
from pytest_gpuperf.model import (
    GRPC,
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
from pytest_gpuperf.targets.input_data import RANDOM, ZERO, Payload, make_payloads
from pytest_gpuperf.targets.kserve import grpc_codec, http_codec
from pytest_gpuperf.targets.kserve.client import KServeClient
from pytest_gpuperf.targets.kserve.memory import SharedMemory, aligned, output_sizes
from pytest_gpuperf.targets.kserve.message import STREAM_FINAL, InferMessage, InputTensor, MemoryRange, OutputSlot
from pytest_gpuperf.targets.kserve.metrics import find_metrics_url
from pytest_gpuperf.targets.kserve.output_check import OutputCheck
from pytest_gpuperf.targets.kserve.pipeline import ensemble_times, stage_tree
from pytest_gpuperf.targets.kserve.sequences import SequenceStep, plan_sequences
from pytest_gpuperf.targets.kserve.served_model import ServedModel
from pytest_gpuperf.targets.kserve.servers import Servers, open_client
from pytest_gpuperf.targets.kserve.settings import BINARY, NO_MEMORY, RequestSettings
from pytest_gpuperf.targets.kserve.undescribed import with_inputs
from pytest_gpuperf.targets.model_file import check_name
from pytest_gpuperf.targets.payload import to_bytes
from pytest_gpuperf.targets.scratch import Scratch


@dataclass(frozen=True)
class KServeEndpoint(RequestSettings):
    """A model on a running server or several, which are neither started nor stopped.

    Attributes:
        url: ``host:port``, ``http://``, ``https://``, ``grpc://`` or ``grpcs://host:port``; or several of these, all
            of the same protocol.
        version: Version of the model; chosen by the server when empty.
        headers: Headers of every request and control call.
        bearer_token: Token of an ``authorization`` header.
        tls: Encryption settings; when None, an encrypted URL uses the system's certificate authorities.
        balance: Distribution over several servers: ``round-robin`` or ``least-outstanding``.
        weights: Relative load of each server; equal when None.
        metrics_url: URL of the server's Prometheus metrics, the source of its GPU's readings; when None, a single
            Triton is tried at its default port, 8002.

    Raises:
        OptionError: A URL or a setting of the requests is invalid.
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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.model, "model")

    @property
    def name(self) -> str:
        return self.model

    @property
    def servers(self) -> Servers:
        """The servers at ``url``."""
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
            raise TargetError(*error.args, "\nStart the server, or correct ", Argument("url"), ".") from error
        started.metrics_url = self.metrics_url or started.default_metrics_url()
        return started


class StartedEndpoint:
    """A model behind KServe v2, ready for requests. Also used by targets that start the server themselves.

    Args:
        memory_prefix: Prefix of the names of shared memory; random when empty.

    Attributes:
        servers: The servers that share the load.
        served_model: The model as described by the server.
        stage: The model and, for an ensemble, the models that it consists of.
    """

    local = False
    processes = ()
    metrics_url: str | None = None
    #: The server was started before.
    start_times = None

    def __init__(
        self, servers: Servers, model: str, settings: RequestSettings, *, version: str = "", memory_prefix: str = ""
    ) -> None:
        self.servers, self._name, self._version, self._settings = servers, model, version, settings
        self._protocol = settings.wire_protocol(servers.protocol)
        self._workloads: dict[tuple[int, int], WireWorkload] = {}
        self._clients: list[KServeClient] = []
        shares_memory = settings.shared_memory != NO_MEMORY
        self._scratch = Scratch() if shares_memory and not memory_prefix else None
        prefix = self._scratch.prefix if self._scratch is not None else memory_prefix
        self._memory = SharedMemory(settings.shared_memory, prefix, self._clients)
        with ExitStack() as undo:
            undo.callback(self.stop)
            for address in servers.addresses:
                self._clients.append(open_client(servers, address))
            self._extensions = frozenset.intersection(*(client.extensions() for client in self._clients))
            self.served_model = with_inputs(self._common_model(), settings, model, self._clients[0].address)
            self.stage = stage_tree(
                self._name, self.served_model, self._clients[0], composing=settings.composing_models
            )
            self._correlation_type = self.stage.tree_correlation_type
            self._check_settings()
            undo.pop_all()

    def _common_model(self) -> ServedModel:
        """Return the model after checking that all servers describe it identically."""
        has_config = "model_configuration" in self._extensions
        models = [
            ServedModel(
                client.model(self._name, self._version),
                client.config(self._name, self._version) if has_config else None,
            )
            for client in self._clients
        ]
        for client, model in zip(self._clients, models, strict=True):
            model.check(client.address)
            for part in ("inputs", "outputs", "max_batch_size", "decoupled"):
                first, differing = getattr(models[0], part), getattr(model, part)
                if first != differing:
                    raise TargetError(
                        f"{self._name!r} differs between {client.address} and {self._clients[0].address} in its "
                        f"{part}: {differing} and {first}.\nServers that share a load must serve the same model."
                    )
        return models[0]

    @property
    def sequences_at_once(self) -> int:
        """Sequences at the same time in open loop; 0 for a stateless model."""
        return self._settings.sequences.at_once if self._correlation_type else 0

    def _check_settings(self) -> None:
        if self._correlation_type and len(self._clients) > 1:
            raise OptionError(
                f"{self._name!r} is stateful: the requests of a sequence must reach the same server, so give a single ",
                Argument("url"),
                ".",
            )
        if self.served_model.decoupled and self._protocol != GRPC_STREAM:
            raise OptionError(
                f"{self._name!r} is decoupled: a request may have any number of answers, which needs a gRPC stream. "
                "Set ",
                Argument("protocol", GRPC),
                " and ",
                Argument("streaming", True),
                ", and use the server's gRPC port.",
            )
        memory = self._settings.shared_memory
        if memory != NO_MEMORY and f"{memory}_shared_memory" not in self._extensions:
            raise OptionError(
                f"The server at {self._clients[0].address} does not support {memory} shared memory; use ",
                Argument("shared_memory", NO_MEMORY),
                ".",
            )
        if callable(self._settings.expected):
            try:
                pickle.dumps(self._settings.expected)
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise OptionError(
                    Argument("expected", self._settings.expected),
                    f" can't be sent to the load generator's processes ({error}): define it with def, at the top "
                    "level of a module.",
                ) from error

    def workload(self, batch_size: int, in_flight: int = 1) -> WireWorkload:
        """Return the requests of a batch size; with shared memory, a rotation for each request in flight.

        Raises:
            OptionError: The model does not support the batch size, or the input data does not match the model.
            TargetError: Shared memory can't be allocated, or the server refuses it.
        """
        slots = in_flight if self._settings.shared_memory != NO_MEMORY or self._correlation_type else 1
        key = (batch_size, slots)
        if key not in self._workloads:
            self._workloads[key] = self._build_workload(*key)
        return self._workloads[key]

    def _build_workload(self, batch_size: int, slots: int) -> WireWorkload:
        model, settings = self.served_model, self._settings
        limit = model.max_batch_size
        if limit and batch_size > limit:
            raise OptionError(Argument("batch_size", batch_size), f" is above the model's max_batch_size={limit}.")
        if self._correlation_type and batch_size > 1:
            raise OptionError(
                Argument("batch_size", batch_size),
                f" can't be sent, since {self._name!r} is stateful: Triton batches requests of several sequences; use ",
                Argument("batch_size", 1),
                " and more of them in flight.",
            )
        payloads = make_payloads(
            settings,
            model.inputs,
            batch_size=batch_size,
            batched=model.batched,
            outputs=model.outputs,
            expected=None if callable(settings.expected) else settings.expected,
        )
        if settings.shared_memory == NO_MEMORY:
            tensors = [self._tensors(payload) for payload in payloads]
            outputs: dict[str, MemoryRange | None] = {spec.name: None for spec in model.outputs}
            memory: list[tuple[Mapping[str, MemoryRange | None], OutputSlot | None]] = [(outputs, None)] * slots
        else:
            sizes = output_sizes(model, settings.output_shared_memory_size, batch_size)
            tensors = self._shared_inputs(payloads)
            memory = [(slot.memory_ranges, slot) for slot in self._output_slots(sizes, slots)]
        rotations = [
            tuple(self._request(payloads[step.payload], tensors[step.payload], *place, step) for step in steps)
            for steps, place in zip(self._steps(payloads, slots), memory, strict=True)
        ]
        http_path = http_codec.infer_path(self._name, self._version)
        return WireWorkload(
            self._protocol,
            self.servers.addresses,
            http_path if self._protocol == HTTP else grpc_codec.PATHS[self._protocol],
            tuple(rotations),
            self.servers.headers,
            self.servers.tls,
            grpc_codec.StreamReader() if self._protocol == GRPC_STREAM else None,
            self.servers.balance,
            batch_size,
            bool(self._correlation_type),
        )

    def _steps(self, payloads: Sequence[Payload], slots: int) -> Sequence[Sequence[SequenceStep]]:
        """Return the requests of each slot: all payloads in turn, or sequences."""
        if not self._correlation_type:
            return [[SequenceStep(number, 0, True, True) for number in range(len(payloads))]] * slots
        settings = self._settings
        streams = [payload.stream for payload in payloads]
        synthetic = settings.kind in (RANDOM, ZERO)
        return plan_sequences(settings.sequences, streams, slots, synthetic=synthetic, seed=settings.seed)

    def _tensors(self, payload: Payload) -> list[InputTensor]:
        types = {spec.name: spec.datatype for spec in self.served_model.inputs}
        return [InputTensor(name, types[name], values) for name, values in payload.inputs.items()]

    def _shared_inputs(self, payloads: Sequence[Payload]) -> list[list[InputTensor]]:
        """Put the inputs of all payloads into a region."""
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
        return [
            # An empty tensor is sent: servers refuse a range of no bytes.
            [
                replace(tensor, memory_range=MemoryRange(inputs.name, offset, size) if size else None)
                for tensor, offset, size in request
            ]
            for request in offsets
        ]

    def _output_slots(self, sizes: Mapping[str, int], slots: int) -> list[OutputSlot]:
        """Return the memory of the outputs of each slot, all in a region."""
        slot_size = sum(map(aligned, sizes.values()))
        outputs = self._memory.region(slot_size * slots)
        made = []
        for number in range(slots):
            offset, ranges = number * slot_size, dict[str, MemoryRange]()
            for output, size in sizes.items():
                ranges[output] = MemoryRange(outputs.name, offset, size)
                offset += aligned(size)
            made.append(OutputSlot(outputs.reader(), ranges))
        return made

    def _request(
        self,
        payload: Payload,
        tensors: Sequence[InputTensor],
        outputs: Mapping[str, MemoryRange | None],
        slot: OutputSlot | None,
        step: SequenceStep,
    ) -> Request:
        settings = self._settings
        expected = settings.expected if callable(settings.expected) else payload.expected
        check = None if expected is None else OutputCheck(self._protocol, expected, settings.tolerance, slot)
        parameters = {
            **settings.parameters,
            **({STREAM_FINAL: True} if self._protocol == GRPC_STREAM else {}),
            **(step.parameters(self._correlation_type) if self._correlation_type else {}),
        }
        message = InferMessage(self._name, self._version, tuple(tensors), outputs, parameters, step.ends)
        if self._protocol == HTTP:
            extension = "binary_tensor_data" in self._extensions
            return http_codec.encode(
                message,
                check,
                binary=extension and settings.input_tensor_format == BINARY,
                binary_outputs=extension and settings.output_tensor_format == BINARY,
            )
        return grpc_codec.encode(message, check)

    def under_test(self) -> PlainMapping:
        metadata = self.served_model.metadata
        facts: dict[str, Plain] = {
            "server": ", ".join(dict.fromkeys(client.server_version() for client in self._clients)),
            "model": self._name,
            "platform": str(metadata.get("platform", "")) or None,
            "versions": self._version or ", ".join(metadata.get("versions", ())) or None,
        }
        if self.stage.digest:
            facts["config_digest"] = self.stage.tree_digest
        if self.stage.stages:
            facts["stages"] = ", ".join(stage.name for stage in self.stage.stages)
        return {
            **facts,
            "protocol": self._protocol,
            "encrypted": self.servers.tls is not None,
            "endpoints": len(self._clients),
            **self._settings.facts(),
        }

    def server_times(self) -> ServerTimes | None:
        if "statistics" not in self._extensions:
            return None
        if self.stage.stages:
            times = [ensemble_times(self.stage, client.all_server_times()) for client in self._clients]
        else:
            times = [client.server_times(self._name, self._version) for client in self._clients]
        return functools.reduce(operator.add, times)

    def default_metrics_url(self) -> str | None:
        """URL of a single Triton's metrics at the default port; None if there is none."""
        if len(self._clients) != 1 or not self._clients[0].server_version().startswith("triton "):
            return None
        return find_metrics_url(self.servers.addresses[0].host, self._name)

    def trace(self, settings: Mapping[str, str | Sequence[str] | None]) -> None:
        """Change Triton's trace settings of the model; None for the server's own value (trace extension)."""
        for client in self._clients:
            client.trace(self._name, settings)

    def check(self) -> None:
        for address in self.servers.addresses:
            # A new connection, since a server that shuts down still serves its open connections.
            with closing(open_client(self.servers, address)) as probe:
                if not probe.ready():
                    raise TargetDied(f"The server at {probe.address} no longer accepts requests; was it stopped?")

    def stop(self) -> None:
        self._memory.release()
        self._workloads.clear()
        for client in self._clients:
            client.close()
        self._clients.clear()
        if self._scratch is not None:
            self._scratch.remove()
