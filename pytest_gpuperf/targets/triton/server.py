"""A tritonserver as a process: started, watched, stopped."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pytest_gpuperf.errors import TargetDied, TargetError
from pytest_gpuperf.model import HTTP
from pytest_gpuperf.targets.kserve import Servers, open_client
from pytest_gpuperf.targets.process import SupervisedProcess
from pytest_gpuperf.targets.triton.launchers import Launch, Launcher
from pytest_gpuperf.targets.triton.log import log_excerpt, port_was_taken
from pytest_gpuperf.targets.triton.ports import HOST, Ports

_POLL_S = 0.02
#: Time between the polite and the violent end of the server. It frees its shared memory in well under a second; more
#: is only needed when a model hangs.
_GRACE_S = 8.0
#: Somebody else may take a free port between our looking and the server's binding; then others are tried.
_PORT_TRIES = 3
#: How often the server reads its GPU. Its default, 2 s, is longer than most windows.
_METRICS_INTERVAL_MS = 100
#: What a process has that sees NVIDIA's driver, on Linux and in WSL.
_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
#: Values of CUDA_VISIBLE_DEVICES that hide every GPU.
_HIDDEN = ("", "-1", "NoDevFiles")


def gpu_visible(visible: str | None) -> bool:
    """Whether a server will see a GPU.

    Args:
        visible: its CUDA_VISIBLE_DEVICES; this process's when None.
    """
    shown = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
    return shown not in _HIDDEN and any(driver.exists() for driver in _DRIVERS)


class ServerProcess:
    """A tritonserver that is ready.

    Args:
        launcher: how it is run.
        repository: its model repository.
        scratch: a directory for the server alone, in which the repository may be; removed when it ends, also when this
            process is killed.
        model: loaded, with those that it is made of; all of the repository when empty.
        complete_configs: every model's configuration says everything, and Triton shall add nothing.
        extra_directories: directories besides the repository that it must find where they are.
        http_port, grpc_port: fixed ports; free ones when None.
        visible: its CUDA_VISIBLE_DEVICES; this process's when None.
        cpus: the cores it may run on; all of this process's when None.
        start_timeout_s: how long it may take to become ready.

    Attributes:
        ports: where it listens.
        prefix: of the names of its shared memory, and of what is shared with it; removed however this ends.

    Raises:
        TargetError: it doesn't come up; says why.
    """

    def __init__(
        self,
        launcher: Launcher,
        repository: Path,
        scratch: Path,
        *,
        model: str = "",
        complete_configs: bool = False,
        extra_directories: Sequence[Path] = (),
        http_port: int | None = None,
        grpc_port: int | None = None,
        visible: str | None = None,
        cpus: Sequence[int] | None = None,
        start_timeout_s: float = 120.0,
    ) -> None:
        self._launcher, self._repository, self._model, self._complete = launcher, repository, model, complete_configs
        self._scratch = scratch
        self._process: SupervisedProcess | None = None
        self._roots: tuple[int, ...] = ()
        self._reads, self._visible, self._cpus = (repository, *extra_directories), visible, cpus
        self._start_timeout_s = start_timeout_s
        tries = 1 if http_port is not None or grpc_port is not None else _PORT_TRIES
        with ExitStack() as undo:
            undo.callback(self.stop)
            for _ in range(tries):
                self.ports = Ports.free(http_port, grpc_port)
                process = self._start()
                if self._became_ready(process):
                    break
                process.stop()
            else:
                raise TargetError(f"tritonserver found one of its ports taken.\n{self.log_excerpt()}")
            undo.pop_all()

    def _start(self) -> SupervisedProcess:
        self.prefix = f"gpuperf-{uuid.uuid4().hex[:12]}-"
        gpu = gpu_visible(self._visible)
        arguments = [
            f"--model-repository={self._repository}",
            f"--backend-config=python,shm-region-prefix-name={self.prefix}",
            f"--http-port={self.ports.http}",
            f"--grpc-port={self.ports.grpc}",
            f"--metrics-port={self.ports.metrics}",
            *(f"--{kind}-address={HOST}" for kind in ("http", "grpc", "metrics")),
            f"--allow-gpu-metrics={str(gpu).lower()}",
            f"--metrics-interval-ms={_METRICS_INTERVAL_MS}",
            f"--exit-timeout-secs={int(_GRACE_S) - 2}",
            *(["--model-control-mode=explicit", f"--load-model={self._model}"] if self._model else []),
            *(["--disable-auto-complete-config"] if self._complete else []),
        ]
        self._launch = Launch(
            self.prefix.rstrip("-"), arguments, self._scratch, self._reads, self._visible, gpu, self._cpus
        )
        command = self._launcher.command(self._launch)
        process = self._process = SupervisedProcess(
            command.arguments,
            env=command.env,
            log=self._scratch / "server.log",
            grace_s=_GRACE_S,
            shm_prefix=self.prefix,
            scratch=self._scratch,
            cpus=command.cpus,
            cleanup=command.cleanup,
        )
        return process

    def _became_ready(self, process: SupervisedProcess) -> bool:
        """Wait for it; False when its port was snatched and another try is worth it."""
        client = open_client(self.servers(HTTP))
        try:
            begin = time.monotonic()
            while not client.ready():
                status = process.exit_status
                if status is not None:
                    if port_was_taken(process.log_text()):
                        return False
                    raise TargetError(
                        f"tritonserver ended with status {status} before it was ready.\n{self.log_excerpt()}"
                    )
                if time.monotonic() - begin > self._start_timeout_s:
                    raise TargetError(
                        f"tritonserver was not ready after {self._start_timeout_s:g} s "
                        f"(start_timeout_s= allows more).\n{self.log_excerpt()}"
                    )
                time.sleep(_POLL_S)
        finally:
            client.close()
        return True

    def servers(self, protocol: str) -> Servers:
        """It, as those who send requests want it."""
        return Servers((self.ports.address(protocol),), protocol)

    @property
    def processes(self) -> tuple[int, ...]:
        """The roots of its process trees on this machine."""
        if self._process is None or self._process.exit_status is not None:
            return ()
        # Remembered, since a launcher may have to ask a daemon.
        self._roots = self._roots or self._launcher.processes(self._launch, self._process.pid)
        return self._roots

    def log_excerpt(self) -> str:
        """The part of the log that says why, and what to do where that is known."""
        return log_excerpt(self._process.log_text() if self._process is not None else "")

    def check(self) -> None:
        """Return if the process is there.

        Raises:
            TargetDied: it isn't; with the end of its log.
        """
        status = None if self._process is None else self._process.exit_status
        if status is not None:
            signal = f", killed by signal {status - 128}" if status > 128 else ""
            raise TargetDied(
                f"tritonserver ended while it was measured (exit status {status}{signal}).\n{self.log_excerpt()}"
            )

    def stop(self) -> None:
        """End it and wait until nothing of it is left. May be called twice."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        shutil.rmtree(self._scratch, ignore_errors=True)
