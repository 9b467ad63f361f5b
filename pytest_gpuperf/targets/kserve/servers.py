"""Where the servers are and how they are spoken to."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import GRPC, HTTP, LEAST_OUTSTANDING, ROUND_ROBIN, Address, Tls
from pytest_gpuperf.targets.kserve.client import KServeClient

#: What a URL's scheme says: protocol, and whether it is encrypted.
_SCHEMES = {"http": (HTTP, False), "https": (HTTP, True), "grpc": (GRPC, False), "grpcs": (GRPC, True)}
_PORTS = {(HTTP, False): 8000, (GRPC, False): 8001}
_ENCRYPTED_PORT = 443
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Headers that frame a message; they are written by whoever sends it.
_FRAMING = ("host", "content-length", "transfer-encoding", "connection", "inference-header-content-length", "te")


@dataclass(frozen=True)
class ServerUrl:
    """What one URL says.

    Attributes:
        protocol: empty where it doesn't say.
    """

    host: str
    port: int
    protocol: str
    encrypted: bool


def parse_url(url: str, protocol: str = "") -> ServerUrl:
    """Read ``host:port``, ``http://``, ``https://``, ``grpc://`` or ``grpcs://host:port``.

    Without a port it is Triton's (8000, and 8001 for gRPC), or 443 where it is encrypted.

    Raises:
        OptionError: it is none of these.
    """
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    else:
        bare = not (parts.username or parts.query or parts.fragment) and parts.path in ("", "/")
        if parts.scheme not in ("", *_SCHEMES) or not bare or re.search(r"\s", url) or parts.netloc.endswith(":"):
            host = None
    if not host or port == 0:
        raise OptionError(
            f"{url!r} is not an endpoint that can be measured: write host:port or http://host:port "
            "(or https://, grpc://, grpcs://)."
        )
    spoken, encrypted = _SCHEMES.get(parts.scheme, ("", False))
    return ServerUrl(
        host, port or _PORTS.get((spoken or protocol or HTTP, encrypted), _ENCRYPTED_PORT), spoken, encrypted
    )


@dataclass(frozen=True)
class Servers:
    """The servers that one load is spread over; they serve the same model.

    Attributes:
        protocol: ``http`` or ``grpc``.
        headers: sent with every request, control calls included.
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
        headers: Mapping[str, str],
        bearer_token: str | None,
        tls: Tls | None,
        balance: str,
        weights: Sequence[float] | None,
    ) -> Servers:
        """The servers at these URLs.

        Raises:
            OptionError: URLs, protocol, headers or weights can't be used as written.
        """
        if not urls:
            raise OptionError("There is no URL: an endpoint needs at least one.")
        if protocol not in (None, HTTP, GRPC):
            raise OptionError(f"protocol={protocol!r}: write 'http' or 'grpc'.")
        parsed_urls = [parse_url(url, protocol or "") for url in urls]
        wanted = protocol or parsed_urls[0].protocol or HTTP
        for url, parsed in zip(urls, parsed_urls, strict=True):
            if parsed.protocol and parsed.protocol != wanted:
                raise OptionError(
                    f"{url!r} contradicts the protocol {wanted!r}; all servers are asked in one protocol."
                )
            if parsed.encrypted != parsed_urls[0].encrypted:
                raise OptionError(f"{url!r} and {urls[0]!r}: either all servers are encrypted or none.")
        if balance not in (ROUND_ROBIN, LEAST_OUTSTANDING):
            raise OptionError(f"balance={balance!r}: write {ROUND_ROBIN!r} or {LEAST_OUTSTANDING!r}.")
        shares = _weights(weights, len(urls))
        addresses = tuple(
            Address(parsed.host, parsed.port, share) for parsed, share in zip(parsed_urls, shares, strict=True)
        )
        secure = tls or (Tls() if parsed_urls[0].encrypted else None)
        return cls(addresses, wanted, _headers(headers, bearer_token), secure, balance)


def open_client(servers: Servers, address: Address | None = None) -> KServeClient:
    """A client for one of the servers; the first when none is named.

    Raises:
        MissingExtra: gRPC is not installed.
        TargetError: a file for its encryption can't be used.
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
        raise OptionError(f"weights={list(weights)} for {count} server(s): give one weight for each.")
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise OptionError(
            f"weights={list(weights)}: a weight is a number above 0; leave out a server that gets nothing."
        )
    return [float(weight) for weight in weights]


def _headers(headers: Mapping[str, str], bearer_token: str | None) -> tuple[tuple[str, str], ...]:
    """With names in lower case, as HTTP/2 wants them."""
    found = {name.lower(): str(value) for name, value in headers.items()}
    if bearer_token is not None:
        if "authorization" in found:
            raise OptionError("Both bearer_token= and an authorization header are given; give one.")
        found["authorization"] = f"Bearer {bearer_token}"
    for name, value in found.items():
        if not _TOKEN.fullmatch(name) or re.search(r"[\r\n\0]", value):
            raise OptionError(f"{name!r} can't be a header: names are letters, digits and dashes, values one line.")
        if name in _FRAMING or name.startswith("grpc-"):
            raise OptionError(f"The header {name!r} is part of how a request is sent; leave it out.")
    return tuple(found.items())
