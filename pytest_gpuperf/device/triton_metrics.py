"""GPU readings in the Prometheus metrics of a Triton server: the only ones available for a remote machine.

Source: docs/user_guide/metrics.md of Triton. The server refreshes them every ``--metrics-interval-ms``, by default 2 s.
"""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_LINE = re.compile(r'^(nv_\w+)\{[^}]*gpu_uuid="([^"]*)"[^}]*\}\s+(\S+)', re.MULTILINE)
_TIMEOUT_S = 2.0


class MetricsError(Exception):
    """The metrics can't be read; translated by the monitor."""


class NoEnergyError(MetricsError):
    """The metrics can be read but lack the energy of some or all GPUs. Nothing has failed."""


@dataclass(frozen=True)
class RemoteGpu:
    """One GPU of the server; None for missing readings."""

    uuid: str
    energy_j: float | None
    power_w: float | None
    utilization: float | None
    used_bytes: int | None


class TritonMetrics:
    """The metrics of one server.

    Args:
        url: URL of the metrics, for example ``http://host:8002/metrics``.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        self._path = parts.path if parts.path not in ("", "/") else "/metrics"
        self.url = url

    def gpus(self) -> tuple[RemoteGpu, ...]:
        """Read all GPUs of the server.

        Raises:
            MetricsError: The server does not answer.
        """
        try:
            self._connection.request("GET", self._path)
            response = self._connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()  # the next reading opens another
            raise MetricsError(f"the metrics at {self.url} can't be read: {type(error).__name__}: {error}") from error
        if response.status != http.HTTPStatus.OK:
            raise MetricsError(f"the metrics at {self.url} can't be read: status {response.status}")
        return parse(text)

    def energy_j(self) -> float:
        """Read the energy of all GPUs together.

        Raises:
            MetricsError: The server does not answer.
            NoEnergyError: The energy of a GPU is missing.
        """
        energies = [gpu.energy_j for gpu in self.gpus()]
        known = [energy_j for energy_j in energies if energy_j is not None]
        if not known or len(known) < len(energies):
            raise NoEnergyError(f"the metrics at {self.url} have no nv_energy_consumption")
        return sum(known)

    def close(self) -> None:
        """Close the connection. May be called twice."""
        self._connection.close()


def parse(text: str) -> tuple[RemoteGpu, ...]:
    """Parse the GPUs in Prometheus' text format."""
    gpus: dict[str, dict[str, float]] = {}
    for name, uuid, number in _LINE.findall(text):
        try:
            gpus.setdefault(uuid, {})[name] = float(number)
        except ValueError:
            continue  # not a number
    return tuple(
        RemoteGpu(
            uuid,
            energy_j=numbers.get("nv_energy_consumption"),
            power_w=numbers.get("nv_gpu_power_usage"),
            utilization=numbers.get("nv_gpu_utilization"),
            used_bytes=int(numbers["nv_gpu_memory_used_bytes"]) if "nv_gpu_memory_used_bytes" in numbers else None,
        )
        for uuid, numbers in gpus.items()
    )
