"""A model behind a tritonserver of our own, started afresh for every run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, fields
from functools import cached_property
from pathlib import Path

from pytest_gpuperf.errors import OptionError, TargetDied
from pytest_gpuperf.model import GRPC, HTTP, PlainMapping, ServerTimes, Workload
from pytest_gpuperf.targets.kserve import RequestSettings, StartedEndpoint
from pytest_gpuperf.targets.triton.launchers import Launcher, choose_launcher
from pytest_gpuperf.targets.triton.repositories import GeneratedRepository, ModelRepository, UserRepository
from pytest_gpuperf.targets.triton.resolved_model import ServerCapabilities, count_usable_cores
from pytest_gpuperf.targets.triton.server import ServerProcess, gpu_visible
from pytest_gpuperf.targets.triton.step import ModelSettings, Step, model_kind, model_name_of

Source = str | os.PathLike[str]


@dataclass(frozen=True)
class TritonEndpoint(RequestSettings, ModelSettings):
    """The description of what Triton serves: a model, an ensemble of several, or a whole model repository.

    Attributes:
        source: an ONNX model, a TensorRT plan, or a Python file; or several, or ``Step``s, which are run one after the
            other as an ensemble.
        model: of a repository: which model is measured. Otherwise what it is called in the server; by default as its
            file, and an ensemble as its last step with ``_pipeline`` behind it.
        repository: a model repository that is served as it is, instead of a source.
        server: which tritonserver: the path of one, ``docker``, ``docker:IMAGE`` or ``bundled``; the first there is
            when None (see ``launchers``).
        http_port, grpc_port: fixed ports; free ones when None.
        start_timeout_s: how long the server may take to become ready.
        visible: the server's CUDA_VISIBLE_DEVICES; this process's when None.
        cpus: the cores it may run on; all that this process may when None.
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
            raise OptionError(f"protocol={self.protocol!r}: write 'http' or 'grpc'.")
        self.wire_protocol(self.protocol or HTTP)
        self.validate_model_settings()
        if (self.source is None) == (self.repository is None):
            raise OptionError("Give triton_endpoint a model (or several, as an ensemble), or repository= and model=.")
        if self.repository is not None and self.model is None:
            raise OptionError(f"repository={str(self.repository)!r}: say with model= which of its models is measured.")
        if self.source is None or not isinstance(self.source, str | os.PathLike):
            self._refuse_model_settings()
        else:
            model_kind(Path(self.source))

    def _refuse_model_settings(self) -> None:
        """They belong to one model, and here are several."""
        where = "the steps: Step(path, {}=...)" if self.source is not None else "the repository's config.pbtxt"
        for one in fields(ModelSettings):
            if getattr(self, one.name) != getattr(ModelSettings(), one.name):
                raise OptionError(
                    f"{one.name}= says nothing about several models; give it to {where.format(one.name)}."
                )

    @property
    def name(self) -> str:
        if self.model is not None:
            return self.model
        if isinstance(self.source, str | os.PathLike):
            return model_name_of(Path(self.source))
        return f"{self.steps[-1].model_name}_pipeline"

    @property
    def device_ids(self) -> tuple[str, ...]:
        """The GPUs and slices that the server is shown; empty where it sees what this process sees."""
        return tuple(filter(None, map(str.strip, (self.visible or "").split(","))))

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """What the source is made of; nothing where a repository is given.

        Raises:
            OptionError: a file can't be served.
        """
        if self.source is None:
            return ()
        if isinstance(self.source, str | os.PathLike):
            own = {one.name: getattr(self, one.name) for one in fields(ModelSettings)}
            return (Step(self.source, name=self.name, **own),)
        sources = [self.source] if isinstance(self.source, Step) else list(self.source)
        if not sources:
            raise OptionError("An ensemble has one step or more; here are none.")
        return tuple(one if isinstance(one, Step) else Step(one) for one in sources)

    @cached_property
    def _contents(self) -> dict[ServerCapabilities, ModelRepository]:
        """What was found out for a server, so that the next start need not read the models again."""
        return {}

    def contents(self, server: ServerCapabilities) -> ModelRepository:
        """What that server is to serve.

        Raises:
            OptionError, TargetError: it can't.
        """
        if server not in self._contents:
            if self.repository is not None:
                self._contents[server] = UserRepository(Path(self.repository), self.name)
            else:
                ensemble = None if isinstance(self.source, str | os.PathLike) else self.name
                self._contents[server] = GeneratedRepository.plan(self.steps, server, ensemble)
        return self._contents[server]

    def start(self) -> StartedTriton:
        cores = count_usable_cores(self.cpus)
        launcher = choose_launcher(self.server)
        facts = ServerCapabilities(launcher.label, launcher.backends(), gpu_visible(self.visible), cores)
        contents = self.contents(facts)
        contents.check(launcher)
        return StartedTriton(self, launcher, contents)


class StartedTriton:
    """A tritonserver that is ready.

    Attributes:
        device_ids: see ``OnDevices``.
    """

    local = True

    def __init__(self, endpoint: TritonEndpoint, launcher: Launcher, contents: ModelRepository) -> None:
        self._launcher, self._contents, self.device_ids = launcher, contents, endpoint.device_ids
        scratch = Path(tempfile.mkdtemp(prefix="gpuperf-triton-"))
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, scratch, ignore_errors=True)
            repository = contents.prepare(scratch)
            self._server = ServerProcess(
                launcher,
                repository,
                scratch,
                model=contents.load,
                complete_configs=contents.complete_configs,
                extra_directories=contents.extra_directories,
                http_port=endpoint.http_port,
                grpc_port=endpoint.grpc_port,
                visible=endpoint.visible,
                cpus=endpoint.cpus,
                start_timeout_s=endpoint.start_timeout_s,
            )
            undo.callback(self._server.stop)
            try:
                self._client = StartedEndpoint(
                    self._server.servers(endpoint.protocol or HTTP),
                    endpoint.name,
                    endpoint,
                    memory_prefix=self._server.prefix,
                )
            except TargetDied as error:
                raise TargetDied(
                    f"tritonserver became ready and then stopped answering ({error}).\n{self._server.log_excerpt()}"
                ) from error
            undo.pop_all()

    @property
    def address(self) -> str:
        """``host:port`` of its HTTP service."""
        return self._server.ports.address(HTTP).label

    @property
    def grpc_address(self) -> str:
        """``host:port`` of its gRPC service."""
        return self._server.ports.address(GRPC).label

    @property
    def metrics_url(self) -> str | None:
        return self._server.ports.metrics_url

    @property
    def memory_prefix(self) -> str:
        """Shared memory of such a name is removed after the server, however that ended."""
        return self._server.prefix

    @property
    def processes(self) -> tuple[int, ...]:
        return self._server.processes

    def workload(self, batch_size: int, in_flight: int = 1) -> Workload:
        return self._client.workload(batch_size, in_flight)

    def under_test(self) -> PlainMapping:
        served_model = self._client.served_model.config or {}
        asked = dict(self._client.under_test())
        if self._contents.generated:
            # Its digest covers the paths of files, which a temporary directory changes every time.
            asked.pop("config_digest", None)
        return {
            **asked,
            "launcher": self._launcher.label,
            "max_batch_size": int(served_model.get("max_batch_size", 0)),
            # As Triton has it: of a plan it decides by itself, where it is not told.
            "dynamic_batching": "dynamic_batching" in served_model,
            **self._contents.facts(self._client),
        }

    def server_times(self) -> ServerTimes | None:
        return self._client.server_times()

    def check(self) -> None:
        self._server.check()
        try:
            self._client.check()
        except TargetDied as error:
            raise TargetDied(
                f"tritonserver was ended while it was measured: {error}\n{self._server.log_excerpt()}"
            ) from error

    def stop(self) -> None:
        self._client.stop()
        self._server.stop()
