"""The servers of an endpoint: addresses, protocol, headers and encryption."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from pytest_gpuperf.errors import Argument, OptionError
from pytest_gpuperf.model import GRPC, HTTP, LEAST_OUTSTANDING, ROUND_ROBIN, Address, Tls
from pytest_gpuperf.targets.kserve.client import KServeClient

#: Protocol and encryption, by the URL's scheme.
_SCHEMES = {"http": (HTTP, False), "https": (HTTP, True), "grpc": (GRPC, False), "grpcs": (GRPC, True)}
_PORTS = {(HTTP, False): 8000, (GRPC, False): 8001}
_ENCRYPTED_PORT = 443
#: What requests append to a server's URL.
_PROTOCOL_PATH = re.compile(r"/v2(/(models|health)\b.*)?$")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Headers that frame a message and are written by the sender.
_FRAMING = ("content-length", "transfer-encoding", "connection", "inference-header-content-length", "te")


@dataclass(frozen=True)
class ServerUrl:
    """A parsed URL of a server.

    Attributes:
        protocol: ``http`` or ``grpc``; empty if the URL has no scheme.
        prefix: Path in front of the protocol's paths, without a slash at its end; empty for none.
    """

    host: str
    port: int
    protocol: str
    encrypted: bool
    prefix: str = ""


def parse_url(url: str, protocol: str = "") -> ServerUrl:
    """Parse ``host:port``, ``http://``, ``https://``, ``grpc://`` or ``grpcs://host:port``; HTTP may have a path.

    The default port is Triton's (8000, or 8001 for gRPC), or 443 if encrypted.

    Args:
        protocol: Protocol of a URL without a scheme; HTTP when empty.
    """
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        host, port = parts.hostname, parts.port
        if host and "[" in parts.netloc:
            IPv6Address(host.partition("%")[0])  # urlsplit checks it from Python 3.11 on
    except ValueError:
        host = port = None
    else:
        bare = not (parts.username or parts.query or parts.fragment)
        if parts.scheme not in ("", *_SCHEMES) or not bare or re.search(r"\s", url) or parts.netloc.endswith(":"):
            host = None
    if not host or port == 0:
        raise OptionError(
            f"{url!r} is not the URL of a server: write host:port or http://host:port (or https://, grpc://, grpcs://)."
        )
    scheme, encrypted = _SCHEMES.get(parts.scheme, ("", False))
    prefix = parts.path.rstrip("/")
    if _PROTOCOL_PATH.search(prefix):
        raise OptionError(
            f"{url!r} goes on into the protocol's own path: write host:port or http://host:port, with the path before "
            "/v2 if there is one."
        )
    if prefix and (scheme or protocol or HTTP) == GRPC:
        raise OptionError(f"{url!r} has a path, which gRPC does not send: write only the host and the port.")
    default_port = _PORTS.get((scheme or protocol or HTTP, encrypted), _ENCRYPTED_PORT)
    return ServerUrl(host, port or default_port, scheme, encrypted, prefix)


@dataclass(frozen=True)
class Servers:
    """Servers of the same model that share a load.

    Attributes:
        protocol: ``http`` or ``grpc``.
        headers: Headers of every request and control call.
        balance: How the load generator chooses a server: ``ROUND_ROBIN`` or ``LEAST_OUTSTANDING``.
    """

    addresses: tuple[Address, ...]
    protocol: str = HTTP
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    tls: Tls | None = None
    balance: str = ROUND_ROBIN

    @classmethod
    def from_urls(
        cls,
        urls: Sequence[str],
        *,
        protocol: str | None,
        balance: str,
        headers: Mapping[str, str] | None = None,
        bearer_token: str | None = None,
        tls: Tls | None = None,
        weights: Sequence[float] | None = None,
    ) -> Servers:
        """Return the servers at these URLs."""
        if not urls:
            raise OptionError(Argument("url"), " is empty: give the URL of a server.")
        if protocol not in (None, HTTP, GRPC):
            raise OptionError(Argument("protocol", protocol), " must be 'http' or 'grpc'.")
        parsed_urls = [parse_url(url, protocol or "") for url in urls]
        wanted = protocol or parsed_urls[0].protocol or HTTP
        for url, parsed in zip(urls, parsed_urls, strict=True):
            if parsed.protocol and parsed.protocol != wanted:
                raise OptionError(
                    f"{url!r} contradicts the protocol {wanted!r}: all servers must use the same protocol."
                )
            if parsed.encrypted != parsed_urls[0].encrypted:
                raise OptionError(f"{url!r} and {urls[0]!r}: either all servers or none must be encrypted.")
        if balance not in (ROUND_ROBIN, LEAST_OUTSTANDING):
            raise OptionError(f"balance={balance!r} must be {ROUND_ROBIN!r} or {LEAST_OUTSTANDING!r}.")
        shares = _weights(weights, len(urls))
        addresses = tuple(
            Address(parsed.host, parsed.port, share, parsed.prefix)
            for parsed, share in zip(parsed_urls, shares, strict=True)
        )
        secure = tls or (Tls() if parsed_urls[0].encrypted else None)
        return cls(addresses, wanted, _headers(headers or {}, bearer_token), secure, balance)


def open_client(servers: Servers, address: Address | None = None) -> KServeClient:
    """Open a client of a server, by default the first.

    Raises:
        MissingExtra: gRPC is not installed.
        TargetError: A TLS file can't be used.
    """
    address = address or servers.addresses[0]
    if servers.protocol == GRPC:
        from pytest_gpuperf.targets.kserve.client_grpc import GrpcClient

        return GrpcClient(address, servers.headers, servers.tls)
    from pytest_gpuperf.targets.kserve.client_http import HttpClient

    return HttpClient(address, servers.headers, servers.tls)


def _weights(weights: Sequence[float] | None, count: int) -> Sequence[float]:
    if weights is None:
        return (1.0,) * count
    if len(weights) != count:
        raise OptionError(f"weights={list(weights)} for {count} server(s): give a weight for each server.")
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise OptionError(
            f"weights={list(weights)}: weights must be finite and above 0. To give a server no load, leave out its URL."
        )
    return [float(weight) for weight in weights]


def _headers(headers: Mapping[str, str], bearer_token: str | None) -> tuple[tuple[str, str], ...]:
    """Return all headers with names in lower case, as HTTP/2 requires."""
    lowered = {name.lower(): str(value) for name, value in headers.items()}
    if bearer_token is not None:
        if "authorization" in lowered:
            raise OptionError("bearer_token= and an authorization header exclude each other: leave out either.")
        lowered["authorization"] = f"Bearer {bearer_token}"
    for name, value in lowered.items():
        if not _TOKEN.fullmatch(name) or re.search(r"[\r\n\0]", value):
            raise OptionError(
                f"Invalid header {name!r}: a name consists of letters, digits and dashes, a value of a single line."
            )
        if name in _FRAMING or name.startswith("grpc-"):
            raise OptionError(f"The header {name!r} is set by the load generator; leave it out.")
    return tuple(lowered.items())
