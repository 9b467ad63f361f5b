"""Discovery of the Prometheus metrics of a running server."""

from __future__ import annotations

import http.client
from contextlib import closing

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
    # http.client ignores proxies, whose answer would not be the server's.
    with closing(http.client.HTTPConnection(host, _PORT, timeout=_CONNECT_S)) as connection:
        try:
            connection.connect()
            connection.sock.settimeout(_ANSWER_S)
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return None
    return url if answer.status == http.client.OK and f'model="{model}"' in text else None
