"""The process of a tritonserver."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import TargetDied, TargetError
from pytest_gpuperf.model import HTTP
from pytest_gpuperf.targets.kserve import Servers, open_client
from pytest_gpuperf.targets.process import SupervisedProcess
from pytest_gpuperf.targets.scratch import Scratch
from pytest_gpuperf.targets.triton.launchers import Launch, Launcher
from pytest_gpuperf.targets.triton.log import log_excerpt, model_load_s, port_was_taken
from pytest_gpuperf.targets.triton.ports import HOST, Ports

_POLL_S = 0.02
#: Time between SIGINT and SIGKILL. The server frees its shared memory in well under a second; it takes longer only if
#: a model hangs.
_GRACE_S = 8.0
#: Another process may take a free port before the server binds it; then other ports are tried.
_PORT_TRIES = 3
#: Interval at which the server reads its GPU. The default, 2 s, is longer than most windows.
_METRICS_INTERVAL_MS = 100
#: Files that exist where NVIDIA's driver is available, on Linux and in WSL.
_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
#: Values of CUDA_VISIBLE_DEVICES that hide every GPU.
_HIDDEN = ("", "-1", "NoDevFiles")


def gpu_visible(visible: str | None) -> bool:
    """Return whether a GPU will be visible to a server; for ``visible``, see ``TritonEndpoint``."""
    if visible is None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible not in _HIDDEN and any(driver.exists() for driver in _DRIVERS)


class ServerProcess:
    """A tritonserver that is ready.

    Args:
        scratch: Files of this server only, which may contain the repository; removed when the server is stopped, even
            if this process is killed.
        model: Model to load, with the models it consists of; all models of the repository when empty.
        complete_configs: Whether to disable Triton's auto-completion of configurations.
        extra_directories: Directories outside the repository that the server reads.
        http_port, grpc_port, visible, cpus, start_timeout_s: See ``TritonEndpoint``.

    Attributes:
        prefix: Name prefix of its shared memory, and of memory shared with it; removed when the server has ended in
            any way.

    Raises:
        TargetError: The server does not start; the message gives the reason.
    """

    def __init__(
        self,
        launcher: Launcher,
        repository: Path,
        scratch: Scratch,
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
        assert scratch.path is not None
        self._scratch, self._directory, self.prefix = scratch, scratch.path, scratch.prefix
        self._process: SupervisedProcess | None = None
        self._roots: tuple[int, ...] = ()
        self._directories, self._visible, self._cpus = (repository, *extra_directories), visible, cpus
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
                raise TargetError(f"tritonserver can't listen: a port is in use.\n{self.log_excerpt()}")
            undo.pop_all()

    def _start(self) -> SupervisedProcess:
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
            self.prefix.rstrip("-"), arguments, self._directory, self._directories, self._visible, gpu, self._cpus
        )
        command = self._launcher.command(self._launch)
        process = self._process = SupervisedProcess(
            command.arguments,
            env=command.env,
            log=self._directory / "server.log",
            grace_s=_GRACE_S,
            scratch=self._scratch,
            cpus=command.cpus,
            cleanup=command.cleanup,
        )
        return process

    def _became_ready(self, process: SupervisedProcess) -> bool:
        """Wait until the server is ready; return False if a port was taken, so that other ports can be tried."""
        client = open_client(self.servers(HTTP))
        try:
            begin = time.monotonic()
            while not client.ready():
                if process.exit_status is not None:
                    if port_was_taken(process.log_text()):
                        return False
                    raise TargetError(f"tritonserver {process.ending} before it was ready.\n{self.log_excerpt()}")
                if time.monotonic() - begin > self._start_timeout_s:
                    raise TargetError(
                        f"tritonserver was not ready after {self._start_timeout_s:g} s "
                        f"(start_timeout_s= allows more).\n{_stopped(process)}{self.log_excerpt()}"
                    )
                time.sleep(_POLL_S)
        finally:
            client.close()
        return True

    def servers(self, protocol: str) -> Servers:
        """Return this server as the only server of a load."""
        return Servers((self.ports.address(protocol),), protocol)

    @property
    def processes(self) -> tuple[int, ...]:
        """PIDs of the roots of its process trees on this machine."""
        if self._process is None or self._process.exit_status is not None:
            return ()
        # Cached, since a launcher may have to ask a daemon.
        self._roots = self._roots or self._launcher.processes(self._launch, self._process.pid)
        return self._roots

    @property
    def model_load_s(self) -> float | None:
        """Time in which it loaded its models; None if its log doesn't have it."""
        return model_load_s(self._process.log_text()) if self._process is not None else None

    def log_excerpt(self) -> str:
        """Return the last errors in the log, and a remedy if the cause is known."""
        return log_excerpt(self._process.log_text() if self._process is not None else "")

    def check(self) -> None:
        """Return if the server's processes are alive."""
        if self._process is None:
            return
        if self._process.exit_status is not None:
            killed = self._process.exit_status == 128 + signal.SIGKILL
            cause = "The kernel does so for lack of memory (see dmesg), if no other process did.\n" if killed else ""
            ending = f"tritonserver {self._process.ending} during the measurement.\n{cause}"
            raise TargetDied(ending + self.log_excerpt())
        if stopped := _stopped(self._process):
            raise TargetDied(f"tritonserver stopped answering during the measurement.\n{stopped}{self.log_excerpt()}")

    def stop(self) -> None:
        """Stop the server and wait until its processes and files are gone. May be called twice."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        self._scratch.remove()


def _stopped(process: SupervisedProcess) -> str:
    """Return a line about the server's processes that are stopped; empty if there are none."""
    pids = " ".join(map(str, process.stopped_processes()))
    return f"Processes of it are stopped, as by SIGSTOP: {pids}. To continue them: kill -CONT {pids}\n" if pids else ""
