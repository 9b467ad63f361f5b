"""Envoy's configuration: two listeners, HTTP and gRPC, each in front of a cluster with the round-robin policy.

Source: Envoy's API v3, in the JSON form of its messages. The configuration is that of NVIDIA's MIG article (round
robin, a single route, HTTP/2 to the servers' gRPC ports), with additions for measuring:

* Servers are read from files (EDS), so that a server can be removed while requests are in flight.
* No health checks, no ejection of outliers and no retries, which would hide a failing server.
* No timeouts and no limits: long waits are part of the result, and Envoy's default limits refuse concurrency above
  1024.
* No Envoy headers, which differ between answers and cost time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_gpuperf.model import GRPC, HTTP, Address

HOST = "127.0.0.1"
#: Protocols of the listeners.
PROTOCOLS = (HTTP, GRPC)
_TYPES = "type.googleapis.com/envoy"
_UNLIMITED = 1 << 30


def bootstrap(servers: Path) -> dict[str, Any]:
    """Return the bootstrap configuration; ``servers`` is the directory of the files with the ``assignment``s."""
    return {
        "node": {"id": "gpuperf", "cluster": "gpuperf"},
        "admin": {"address": _free_port()},
        "static_resources": {
            "listeners": [_listener(protocol) for protocol in PROTOCOLS],
            "clusters": [_cluster(protocol, servers / f"{protocol}.json") for protocol in PROTOCOLS],
        },
    }


def assignment(protocol: str, addresses: Sequence[Address]) -> dict[str, Any]:
    """Return the content of the file with the servers of a protocol's cluster."""
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": address.host, "port_value": address.port}}}}
        for address in addresses
    ]
    resource = {
        "@type": f"{_TYPES}.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": protocol,
        "endpoints": [{"lb_endpoints": endpoints}],
    }
    return {"resources": [resource]}


def _free_port() -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": 0}}


def _listener(protocol: str) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": protocol, "timeout": "0s"}}
    manager = {
        "@type": f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "codec_type": "AUTO",
        "stat_prefix": protocol,
        "route_config": {"virtual_hosts": [{"name": protocol, "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_TYPES}.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
        "stream_idle_timeout": "0s",
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": protocol, "address": _free_port(), "filter_chains": [chain]}


def _cluster(protocol: str, servers: Path) -> dict[str, Any]:
    options = "http2_protocol_options" if protocol == GRPC else "http_protocol_options"
    limits = ("max_connections", "max_pending_requests", "max_requests")
    return {
        "name": protocol,
        "type": "EDS",
        "eds_cluster_config": {
            "eds_config": {"resource_api_version": "V3", "path_config_source": {"path": str(servers)}}
        },
        "lb_policy": "ROUND_ROBIN",
        "connect_timeout": "10s",
        "circuit_breakers": {"thresholds": [dict.fromkeys(limits, _UNLIMITED)]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {options: {}},
            }
        },
    }
