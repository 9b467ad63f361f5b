"""Finding the Prometheus metrics of a server that is already there."""

from __future__ import annotations

import http.client
from contextlib import closing

#: Triton's own default.
_PORT = 8002
#: A firewall that swallows packets should not hold up every start.
_CONNECT_S = 1.0
#: Whoever has accepted a connection may well be slow on a busy machine.
_ANSWER_S = 10.0


def find_metrics_url(host: str, model: str) -> str | None:
    """The URL of the metrics of the Triton on that host which serves the model; None where there are none.

    Another server on the same host may have the port; it is only taken for ours if it speaks of our model.
    """
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{_PORT}/metrics"
    # Without proxies: what a proxy would answer is not the server's.
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
