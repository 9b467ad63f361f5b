"""An ONNX model behind a tritonserver of our own, started afresh for every run."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pytest_gpuperf.errors import OptionError, TargetDied, TargetError
from pytest_gpuperf.model import GRPC, HTTP, Address, Plain, PlainMapping, ServerTimes, Workload
from pytest_gpuperf.targets.kserve import RequestSettings, RunningEndpoint, Servers, open_client
from pytest_gpuperf.targets.onnxruntime import (
    Signature,
    check_providers,
    default_providers,
    digest_of,
    import_onnxruntime,
    open_session,
    signature_of,
)
from pytest_gpuperf.targets.process import SupervisedProcess
from pytest_gpuperf.targets.triton import bundle
from pytest_gpuperf.targets.triton.repository import ModelOptions, write_repository

_HOST = "127.0.0.1"
METRICS = "metrics"
_POLL_S = 0.02
#: Time between the polite and the violent end of the server. It frees its shared memory in well under a second; more
#: is only needed when a model hangs.
_GRACE_S = 8.0
#: Somebody else may take a free port between our looking and the server's binding; then others are tried.
_PORT_TRIES = 3
_PORT_TAKEN = re.compile(r"already in use|failed to start (HTTP|GRPC|metrics) service", re.IGNORECASE)
_NOISE = re.compile(r"cuda|nvml|dcgm|\bgpus?\b", re.IGNORECASE)


@dataclass(frozen=True)
class TritonEndpoint(RequestSettings):
    """The description of an ONNX model served by Triton.

    Attributes:
        onnx: the model.
        max_batch_size: 0 when the model takes no batches; by default 32 if its first dimension is free, else 0.
        dynamic_batching, instances: as in ``config.pbtxt``.
        threads: ONNX Runtime's threads in each instance; by default the cores are shared out among the instances.
        providers: ONNX Runtime's execution providers; CUDA (where this build has it) and CPU when None.
        http_port, grpc_port: fixed ports; free ones when None.
        start_timeout_s: how long the server may take to become ready.
        visible: what CUDA_VISIBLE_DEVICES says for it; this process' own when None.
        cpus: the cores that it may use; all of this process' when None.
    """

    onnx: str | os.PathLike[str]
    _: KW_ONLY
    max_batch_size: int | None = None
    dynamic_batching: bool = False
    instances: int = 1
    threads: int | None = None
    providers: Sequence[str] | None = None
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
        if self.instances < 1:
            raise OptionError(f"instances={self.instances}: a model needs at least one.")
        if self.max_batch_size is not None and self.max_batch_size < 0:
            raise OptionError(f"max_batch_size={self.max_batch_size}: use 0 for a model that takes no batches.")

    @property
    def path(self) -> Path:
        return Path(self.onnx)

    @property
    def name(self) -> str:
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", self.path.stem)

    @cached_property
    def signature(self) -> Signature:
        """Read once per description; loading the model also shows whether it can be read at all."""
        return signature_of(open_session(self.path, 1, ("CPUExecutionProvider",)))

    @cached_property
    def digest(self) -> str:
        return digest_of(self.path)

    @property
    def options(self) -> ModelOptions:
        runtime = import_onnxruntime("serve an ONNX model")
        check_providers(runtime, self.providers or ())
        limit = self.max_batch_size
        return ModelOptions(
            max_batch_size=limit if limit is not None else 32 if self.signature.batched else 0,
            dynamic_batching=self.dynamic_batching,
            instances=self.instances,
            threads=self.threads or max(1, len(self.cpus or os.sched_getaffinity(0)) // self.instances),
            providers=tuple(self.providers or default_providers(runtime)),
        )

    def start(self) -> RunningTriton:
        server = bundle.require()
        specs = (*self.signature.inputs, *self.signature.outputs)
        if np.lib.NumpyVersion(np.__version__) >= "2.0.0" and any(spec.datatype == "BYTES" for spec in specs):
            raise TargetError(
                f"{self.path.name} has string tensors, on which the bundled Triton's Python backend crashes under "
                f"NumPy {np.__version__}.\nUse: pip install 'numpy<2'"
            )
        scratch = Path(tempfile.mkdtemp(prefix="gpuperf-triton-"))
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, scratch, ignore_errors=True)
            write_repository(scratch / "repository", self.name, self.path, self.signature, self.options)
            running = RunningTriton(self, server, scratch)
            undo.pop_all()
        return running


class RunningTriton:
    """A tritonserver that is ready."""

    local = True

    def __init__(self, endpoint: TritonEndpoint, server: bundle.TritonServer, scratch: Path) -> None:
        self._endpoint, self._server, self._scratch = endpoint, server, scratch
        self._process: SupervisedProcess | None = None
        self._client: RunningEndpoint | None = None
        self._prepare_backend()
        try:
            for last in (False,) * (_PORT_TRIES - 1) + (True,):
                if self._launch(last_try=last):
                    break
            self._client = RunningEndpoint(
                self._servers(endpoint.protocol or HTTP), endpoint.name, endpoint, memory_prefix=self._prefix
            )
        except TargetDied as error:
            message = f"tritonserver became ready and then stopped answering ({error}).\n{self._excuse()}"
            self.stop()
            raise TargetDied(message) from error
        except BaseException:
            self.stop()
            raise

    def _prepare_backend(self) -> None:
        """Triton wants the Python backend and the stub for this interpreter in one folder."""
        folder = self._scratch / "backends" / "python"
        folder.mkdir(parents=True)
        for file in (*(self._server.root / "backends" / "python").iterdir(), self._server.python_stub()):
            (folder / file.name).symlink_to(file)

    def _launch(self, *, last_try: bool) -> bool:
        """Start the server; False when its port was snatched and another try is worth it."""
        fixed = {HTTP: self._endpoint.http_port, GRPC: self._endpoint.grpc_port}
        for name, port in fixed.items():
            if port is not None:
                _check_free(port, name)
        http, grpc, metrics = _free_ports(3)
        self._ports = {HTTP: fixed[HTTP] or http, GRPC: fixed[GRPC] or grpc, METRICS: metrics}
        # Of the server's own shared memory and of what we share with it, so that none is left however this ends.
        self._prefix = f"gpuperf-{uuid.uuid4().hex[:12]}-"
        command = [
            str(self._server.binary),
            f"--model-repository={self._scratch / 'repository'}",
            f"--backend-directory={self._scratch / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            f"--http-port={self._ports[HTTP]}",
            f"--grpc-port={self._ports[GRPC]}",
            f"--metrics-port={self._ports[METRICS]}",
            *(f"--{kind}-address={_HOST}" for kind in ("http", "grpc", "metrics")),
            "--allow-gpu-metrics=false",
            f"--exit-timeout-secs={int(_GRACE_S) - 2}",
        ]
        self._process = SupervisedProcess(
            command,
            env=self._environment(),
            log=self._scratch / "server.log",
            grace_s=_GRACE_S,
            shm_prefix=self._prefix,
            scratch=self._scratch,
            cpus=self._endpoint.cpus,
        )
        client = open_client(self._servers(HTTP))
        try:
            begin = time.monotonic()
            while not client.ready():
                if self._process.exit_status is not None:
                    if not any(fixed.values()) and not last_try and _PORT_TAKEN.search(self._process.log_text()):
                        return False
                    status = self._process.exit_status
                    raise TargetError(f"tritonserver ended with status {status} before it was ready.\n{self._excuse()}")
                if time.monotonic() - begin > self._endpoint.start_timeout_s:
                    raise TargetError(
                        f"tritonserver was not ready after {self._endpoint.start_timeout_s:g} s "
                        f"(start_timeout_s= allows more).\n{self._excuse()}"
                    )
                time.sleep(_POLL_S)
        finally:
            client.close()
        return True

    def _servers(self, protocol: str) -> Servers:
        return Servers((Address(_HOST, self._ports[protocol]),), protocol)

    def _environment(self) -> dict[str, str]:
        libraries = [str(bundle.python_library_directory()), str(self._server.libraries)]
        visible = self._endpoint.visible
        paths = [str(Path(sys.executable).absolute().parent), os.environ.get("PATH", "")]
        return {
            **os.environ,
            "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]),
            "PATH": os.pathsep.join(paths),
            # Indices are counted as NVML and nvidia-smi count them, not by speed.
            **({"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if visible is not None else {}),
        }

    def _excuse(self) -> str:
        """The part of the log that says why."""
        assert self._process is not None
        tail = self._process.log_tail(_is_error) or self._process.log_tail()
        return f"Its log says:\n{tail}" if tail else "Its log is empty."

    @property
    def _running(self) -> RunningEndpoint:
        assert self._client is not None
        return self._client

    @property
    def address(self) -> str:
        """``host:port`` of its HTTP service."""
        return f"{_HOST}:{self._ports[HTTP]}"

    @property
    def grpc_address(self) -> str:
        """``host:port`` of its gRPC service."""
        return f"{_HOST}:{self._ports[GRPC]}"

    @property
    def metrics_url(self) -> str | None:
        return f"http://{_HOST}:{self._ports[METRICS]}/metrics"

    @property
    def memory_prefix(self) -> str:
        """Shared memory of such a name is removed after the server, however that ended."""
        return self._prefix

    @property
    def processes(self) -> tuple[int, ...]:
        return (self._process.pid,) if self._process is not None else ()

    def workload(self, batch_size: int, in_flight: int = 1) -> Workload:
        return self._running.workload(batch_size, in_flight)

    def under_test(self) -> PlainMapping:
        options = self._endpoint.options
        facts: dict[str, Plain] = {
            **self._running.under_test(),
            "model": self._endpoint.path.name,
            "model_digest": self._endpoint.digest,
            "onnxruntime": import_onnxruntime("serve an ONNX model").__version__,
            "max_batch_size": options.max_batch_size,
            "dynamic_batching": options.dynamic_batching,
            "instances": options.instances,
            "threads": options.threads,
            "providers": ", ".join(options.providers),
        }
        # The configuration's digest covers the path of the ONNX file, which a temporary directory changes every time.
        facts.pop("config_digest", None)
        return facts

    def server_times(self) -> ServerTimes | None:
        return self._running.server_times()

    def check(self) -> None:
        assert self._process is not None
        status = self._process.exit_status
        if status is not None:
            raise TargetDied(
                f"tritonserver ended while it was measured (exit status {status}{_signal(status)}).\n{self._excuse()}"
            )
        try:
            self._running.check()
        except TargetDied as error:
            raise TargetDied(f"tritonserver was ended while it was measured: {error}\n{self._excuse()}") from error

    def stop(self) -> None:
        if self._client is not None:
            self._client.stop()
            self._client = None
        if self._process is not None:
            self._process.stop()
            self._process = None
        shutil.rmtree(self._scratch, ignore_errors=True)


def _is_error(line: str) -> bool:
    """Whether a line of the log is an error, and not one that every machine without a GPU has."""
    return re.match(r"E\d{4} ", line) is not None and not _NOISE.search(line)


def _signal(status: int) -> str:
    return f", killed by signal {status - 128}" if status > 128 else ""


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on. All are held until all are known, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((_HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _check_free(port: int, protocol: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise TargetError(
                f"Port {port} is taken ({error.strerror}), so tritonserver can't listen on it.\n"
                f"See who has it with: ss -ltnp 'sport = :{port}'. Or leave {protocol}_port out to get a free one."
            ) from error
