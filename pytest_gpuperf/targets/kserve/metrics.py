"""Finding the Prometheus metrics of a server that is already there."""

from __future__ import annotations

import http.client
import urllib.request

#: Triton's own default.
_PORT = 8002
_TIMEOUT_S = 1.0
#: Without proxies: what a proxy would answer is not the server's.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def find_metrics(host: str, model: str) -> str | None:
    """The URL of the metrics of the Triton on that host which serves the model; None where there are none.

    Another server on the same host may have the port; it is only taken for ours if it speaks of our model.
    """
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{_PORT}/metrics"
    try:
        with _OPENER.open(url, timeout=_TIMEOUT_S) as answer:
            text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return url if f'model="{model}"' in text else None
