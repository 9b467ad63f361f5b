"""Discovery of the Prometheus metrics of a running server."""

from __future__ import annotations

from contextlib import closing
from http import HTTPStatus

from pytest_gpuperf.bounded_http import NO_ANSWER, BoundedHttp
from pytest_gpuperf.limits import METRICS_BYTES

#: Triton's default.
_PORT = 8002
#: Short, since a firewall that drops packets would delay every start.
_CONNECT_S = 1.0
#: Long, since a server on a busy machine may answer slowly.
_ANSWER_S = 10.0


def find_metrics_url(host: str, model: str) -> str | None:
    """Return the URL of the metrics of the Triton that serves the model on that host; None if there is none.

    Another server on the host may use the port, so the metrics must mention the model.
    """
    url = f"http://{f'[{host}]' if ':' in host else host}:{_PORT}/metrics"
    http = BoundedHttp(host, _PORT, timeout_s=_ANSWER_S, connect_s=_CONNECT_S, limit=METRICS_BYTES)
    with closing(http):
        try:
            status, body = http.ask("GET", "/metrics")
        except NO_ANSWER:
            return None
    return url if status == HTTPStatus.OK and f'model="{model}"'.encode() in body else None
