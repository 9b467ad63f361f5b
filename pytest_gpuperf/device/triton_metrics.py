"""GPU readings in the Prometheus metrics of a Triton server: the only ones available for a remote machine.

Source: docs/user_guide/metrics.md of Triton. The server refreshes them every ``--metrics-interval-ms``, by default 2 s.
"""

from __future__ import annotations

import math
import re
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from pytest_gpuperf.bounded_http import NO_ANSWER, BoundedHttp
from pytest_gpuperf.limits import METRICS_BYTES

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
        context = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if context is not None else 80)
        self._http = BoundedHttp(parts.hostname or "", port, timeout_s=_TIMEOUT_S, limit=METRICS_BYTES, context=context)
        self._path = parts.path if parts.path not in ("", "/") else "/metrics"
        self.url = url

    def gpus(self) -> tuple[RemoteGpu, ...]:
        """Read all GPUs of the server.

        Raises:
            MetricsError: The server does not answer.
        """
        try:
            status, body = self._http.ask("GET", self._path)
        except NO_ANSWER as error:
            raise MetricsError(f"the metrics at {self.url} can't be read: {type(error).__name__}: {error}") from error
        if status != HTTPStatus.OK:
            raise MetricsError(f"the metrics at {self.url} can't be read: status {status}")
        return parse(body.decode(errors="replace"))

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
        self._http.close()


def parse(text: str) -> tuple[RemoteGpu, ...]:
    """Parse the GPUs in Prometheus' text format."""
    gpus: dict[str, dict[str, float]] = {}
    for name, uuid, number in _LINE.findall(text):
        try:
            value = float(number)
        except ValueError:
            continue  # not a number
        if math.isfinite(value):
            gpus.setdefault(uuid, {})[name] = value
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
