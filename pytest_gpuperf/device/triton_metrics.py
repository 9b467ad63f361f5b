"""What a Triton server tells of its GPUs in its Prometheus metrics: the only view of a remote machine's.

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
    """They can, and have no energy of all GPUs: there are none, or they don't tell it. Nothing has failed."""


@dataclass(frozen=True)
class RemoteGpu:
    """One GPU of the server; None for what it does not tell."""

    uuid: str
    energy_j: float | None
    power_w: float | None
    utilization: float | None
    used_bytes: int | None


class TritonMetrics:
    """The metrics of one server.

    Args:
        url: as ``http://host:8002/metrics``.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        self._path = parts.path if parts.path not in ("", "/") else "/metrics"
        self.url = url

    def gpus(self) -> tuple[RemoteGpu, ...]:
        """All GPUs that the server shows, now.

        Raises:
            MetricsError: it does not answer.
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
        """Of all its GPUs together.

        Raises:
            MetricsError: it does not answer.
            NoEnergyError: it does not tell.
        """
        told = [gpu.energy_j for gpu in self.gpus()]
        known = [energy_j for energy_j in told if energy_j is not None]
        if not known or len(known) < len(told):
            raise NoEnergyError(f"the metrics at {self.url} have no nv_energy_consumption")
        return sum(known)

    def close(self) -> None:
        """May be called twice."""
        self._connection.close()


def parse(text: str) -> tuple[RemoteGpu, ...]:
    """The GPUs in Prometheus' text format."""
    found: dict[str, dict[str, float]] = {}
    for name, uuid, number in _LINE.findall(text):
        try:
            found.setdefault(uuid, {})[name] = float(number)
        except ValueError:
            continue  # not a number of ours
    return tuple(
        RemoteGpu(
            uuid,
            energy_j=own.get("nv_energy_consumption"),
            power_w=own.get("nv_gpu_power_usage"),
            utilization=own.get("nv_gpu_utilization"),
            used_bytes=int(own["nv_gpu_memory_used_bytes"]) if "nv_gpu_memory_used_bytes" in own else None,
        )
        for uuid, own in found.items()
    )
