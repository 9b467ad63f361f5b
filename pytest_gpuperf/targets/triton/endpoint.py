"""A model behind a tritonserver that is started for every run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, fields
from functools import cached_property
from pathlib import Path

from pytest_gpuperf.errors import OptionError, TargetDied
from pytest_gpuperf.model import GRPC, HTTP, PlainMapping, ServerTimes, StartTimes, Workload
from pytest_gpuperf.targets.kserve import RequestSettings, StartedEndpoint
from pytest_gpuperf.targets.model_file import check_folder_name, check_portable_name
from pytest_gpuperf.targets.scratch import Scratch
from pytest_gpuperf.targets.triton.launchers import Launcher, choose_launcher
from pytest_gpuperf.targets.triton.repositories import GeneratedRepository, ModelRepository, UserRepository
from pytest_gpuperf.targets.triton.resolved_model import ServerCapabilities, count_usable_cores
from pytest_gpuperf.targets.triton.server import ServerProcess, gpu_visible
from pytest_gpuperf.targets.triton.step import ModelSettings, Step, model_kind, model_name_of

Source = str | os.PathLike[str]


@dataclass(frozen=True)
class TritonEndpoint(RequestSettings, ModelSettings):
    """A model, an ensemble of several, or a model of a repository, served by Triton.

    Attributes:
        source: An ONNX model, a TensorRT plan, or a Python file; or several of these, or ``Step``s, which run in order
            as an ensemble.
        model: With ``repository``, the model to measure. Otherwise the model's name in the server; by default the
            file's name, and for an ensemble the name of its last step with ``_pipeline`` appended.
        repository: Model repository that is served unchanged, instead of ``source``.
        server: Which tritonserver to run: a path, ``docker``, ``docker:IMAGE`` or ``bundled``; the first
            available when None (see ``launchers``).
        http_port, grpc_port: Fixed ports; free ones when None.
        start_timeout_s: Seconds within which the server must become ready.
        visible: The server's CUDA_VISIBLE_DEVICES; this process's when None.
        cpus: Cores that the server may use; those of this process when None.

    Raises:
        OptionError: A setting does not fit the others or the source.
    """

    source: Source | Step | Sequence[Source | Step] | None = None
    _: KW_ONLY
    model: str | None = None
    repository: Source | None = None
    server: Source | None = None
    http_port: int | None = None
    grpc_port: int | None = None
    start_timeout_s: float = 120.0
    visible: str | None = None
    cpus: Sequence[int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocol not in (None, HTTP, GRPC):
            raise OptionError(f"protocol={self.protocol!r} must be 'http' or 'grpc'.")
        self.wire_protocol(self.protocol or HTTP)
        self.validate_model_settings()
        if (self.source is None) == (self.repository is None):
            raise OptionError(
                "triton_endpoint needs either a model (or several, as an ensemble), or repository= and model=."
            )
        if self.repository is not None and self.model is None:
            raise OptionError(f"repository={str(self.repository)!r} needs model=, the model to measure.")
        if self.model is not None:
            (check_portable_name if self.repository is None else check_folder_name)(self.model, "model")
        if self.source is None or not isinstance(self.source, str | os.PathLike):
            self._refuse_model_settings()
        else:
            model_kind(Path(self.source))

    def _refuse_model_settings(self) -> None:
        """Raise OptionError if a setting of a single model is given for several."""
        where = "the steps: Step(path, {}=...)" if self.source is not None else "the repository's config.pbtxt"
        for setting in fields(ModelSettings):
            if getattr(self, setting.name) != getattr(ModelSettings(), setting.name):
                raise OptionError(f"{setting.name}= applies to a single model; set it in {where.format(setting.name)}.")

    @property
    def name(self) -> str:
        if self.model is not None:
            return self.model
        if isinstance(self.source, str | os.PathLike):
            return model_name_of(Path(self.source))
        return f"{self.steps[-1].model_name}_pipeline"

    @property
    def device_ids(self) -> tuple[str, ...]:
        """GPUs and MIG slices visible to the server; empty if they are those of this process."""
        return tuple(filter(None, map(str.strip, (self.visible or "").split(","))))

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The models of ``source``, in order; empty for a repository."""
        if self.source is None:
            return ()
        if isinstance(self.source, str | os.PathLike):
            settings = {setting.name: getattr(self, setting.name) for setting in fields(ModelSettings)}
            return (Step(self.source, name=self.name, **settings),)
        sources = [self.source] if isinstance(self.source, Step) else list(self.source)
        if not sources:
            raise OptionError("source= is empty: an ensemble needs steps.")
        return tuple(source if isinstance(source, Step) else Step(source) for source in sources)

    @cached_property
    def _repositories(self) -> dict[ServerCapabilities, ModelRepository]:
        """Cache, so that the next start need not read the models again."""
        return {}

    def repository_for(self, server: ServerCapabilities) -> ModelRepository:
        """Return the repository for a server."""
        if server not in self._repositories:
            if self.repository is not None:
                self._repositories[server] = UserRepository(Path(self.repository), self.name)
            else:
                ensemble = None if isinstance(self.source, str | os.PathLike) else self.name
                self._repositories[server] = GeneratedRepository.resolve(self.steps, server, ensemble)
        return self._repositories[server]

    def start(self) -> StartedTriton:
        cores = count_usable_cores(self.cpus)
        launcher = choose_launcher(self.server)
        server = ServerCapabilities(launcher.label, launcher.backends(), gpu_visible(self.visible), cores)
        repository = self.repository_for(server)
        repository.check(launcher)
        return StartedTriton(self, launcher, repository)


class StartedTriton:
    """A tritonserver that is ready."""

    local = True

    def __init__(self, endpoint: TritonEndpoint, launcher: Launcher, repository: ModelRepository) -> None:
        self._launcher, self._repository, self.device_ids = launcher, repository, endpoint.device_ids
        scratch = Scratch("triton")
        assert scratch.path is not None
        with ExitStack() as undo:
            undo.callback(scratch.remove)
            self._server = ServerProcess(
                launcher,
                repository.prepare(scratch.path),
                scratch,
                model=repository.load,
                complete_configs=repository.complete_configs,
                extra_directories=repository.extra_directories,
                http_port=endpoint.http_port,
                grpc_port=endpoint.grpc_port,
                visible=endpoint.visible,
                cpus=endpoint.cpus,
                start_timeout_s=endpoint.start_timeout_s,
            )
            undo.callback(self._server.stop)
            self.ports = self._server.ports
            try:
                servers = self._server.servers(endpoint.protocol or HTTP)
                self._client = StartedEndpoint(servers, endpoint.name, endpoint, memory_prefix=self._server.prefix)
            except TargetDied as error:
                raise TargetDied(
                    f"tritonserver became ready, then stopped answering ({error}).\n{self._server.log_excerpt()}"
                ) from error
            undo.pop_all()

    @property
    def address(self) -> str:
        """``host:port`` of its HTTP service."""
        return self.ports.address(HTTP).label

    @property
    def grpc_address(self) -> str:
        """``host:port`` of its gRPC service."""
        return self.ports.address(GRPC).label

    @property
    def metrics_url(self) -> str | None:
        return self.ports.metrics_url

    @property
    def memory_prefix(self) -> str:
        """Name prefix of shared memory that is removed when the server has ended in any way."""
        return self._server.prefix

    @property
    def start_times(self) -> StartTimes:
        return StartTimes(model_load_s=self._server.model_load_s)

    @property
    def processes(self) -> tuple[int, ...]:
        return self._server.processes

    @property
    def sequences_at_once(self) -> int:
        """Sequences at the same time in open loop; 0 for a stateless model."""
        return self._client.sequences_at_once

    def workload(self, batch_size: int, in_flight: int = 1) -> Workload:
        return self._client.workload(batch_size, in_flight)

    def under_test(self) -> PlainMapping:
        config = self._client.served_model.config or {}
        facts = dict(self._client.under_test())
        if self._repository.generated:
            # The digest covers the paths of files, which differ for every temporary directory.
            facts.pop("config_digest", None)
        return {
            **facts,
            "launcher": self._launcher.label,
            "max_batch_size": int(config.get("max_batch_size", 0)),
            # From the served configuration, since Triton chooses for a plan without the setting.
            "dynamic_batching": "dynamic_batching" in config,
            **self._repository.facts(self._client),
        }

    def server_times(self) -> ServerTimes | None:
        return self._client.server_times()

    def check(self) -> None:
        self._server.check()
        try:
            self._client.check()
        except TargetDied as error:
            raise TargetDied(
                f"tritonserver stopped during the measurement: {error}\n{self._server.log_excerpt()}"
            ) from error

    def stop(self) -> None:
        self._client.stop()
        self._server.stop()
