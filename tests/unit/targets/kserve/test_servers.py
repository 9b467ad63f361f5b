from __future__ import annotations

from typing import Any

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Address, Tls
from pytest_gpuperf.targets.kserve import Servers, parse_url


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("localhost:8000", ("localhost", 8000)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("http://triton:9000", ("triton", 9000)),
        ("http://triton:9000/", ("triton", 9000)),
        ("HTTP://triton:9000", ("triton", 9000)),
        ("triton.serving.svc.cluster.local:8000", ("triton.serving.svc.cluster.local", 8000)),
        ("triton", ("triton", 8000)),
        ("http://triton", ("triton", 8000)),
        ("host:1", ("host", 1)),
        ("host:65535", ("host", 65535)),
        ("[::1]:8000", ("::1", 8000)),
        ("http://[::1]:8000", ("::1", 8000)),
        ("https://triton", ("triton", 443)),
        ("https://triton:8443", ("triton", 8443)),
        ("grpc://triton", ("triton", 8001)),
        ("grpcs://triton", ("triton", 443)),
    ],
)
def test_an_endpoints_url_is_a_host_and_a_port(url: str, place: tuple[str, int]) -> None:
    found = parse_url(url)
    assert (found.host, found.port) == place


@pytest.mark.parametrize(
    ("url", "protocol", "encrypted"),
    [
        ("h:1", "", False),
        ("http://h:1", "http", False),
        ("https://h:1", "http", True),
        ("grpc://h:1", "grpc", False),
        ("GRPCS://h:1", "grpc", True),
    ],
)
def test_its_scheme_is_the_protocol(url: str, protocol: str, encrypted: bool) -> None:
    found = parse_url(url)
    assert (found.protocol, found.encrypted) == (protocol, encrypted)


def test_the_port_is_the_protocols_own() -> None:
    assert parse_url("triton", "grpc").port == 8001
    assert parse_url("triton", "http").port == 8000


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        ":8000",
        "http://:8000",
        "host:",
        "host:http",
        "host:0",
        "host:-1",
        "host:65536",
        "host:8000:8001",
        "::1",
        "[::1",
        "[not-an-address]:8000",
        "ftp://host",
        "http:/host:8000",
        "host:8000/v2/models/m",
        "http://host:8000/v2",
        "http://host:8000/a/v2/",
        "host:8000/a/v2/health/ready",
        "http://host:8000?model=m",
        "http://host:8000#m",
        "user:secret@host:8000",
        "http://ho st:8000",
        "host :8000",
    ],
)
def test_anything_else_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(OptionError, match=r"write host:port or http://host:port") as caught:
        parse_url(url)
    assert repr(url) in str(caught.value)


@pytest.mark.parametrize("url", ["host:8000/a/b", "https://host:8000/a/b/"])
def test_an_ingress_has_the_server_below_a_path(url: str) -> None:
    assert parse_url(url).prefix == "/a/b"
    assert servers(url).addresses[0].prefix == "/a/b"


@pytest.mark.parametrize(("url", "protocol"), [("grpc://host:8001/a", ""), ("host:8001/a", "grpc")])
def test_grpc_has_no_paths(url: str, protocol: str) -> None:
    with pytest.raises(OptionError, match="has a path, which gRPC does not send"):
        parse_url(url, protocol)


def servers(*urls: str, **settings: Any) -> Servers:
    defaults: dict[str, Any] = {
        "protocol": None,
        "headers": {},
        "bearer_token": None,
        "tls": None,
        "balance": "round-robin",
        "weights": None,
    }
    return Servers.from_urls(urls, **{**defaults, **settings})


class TestServers:
    def test_are_spoken_to_in_http_unless_told(self) -> None:
        assert servers("h:1").protocol == "http"
        assert servers("grpc://h:1").protocol == "grpc"
        assert servers("h:1", protocol="grpc").protocol == "grpc"

    def test_are_encrypted_by_url_or_setting(self) -> None:
        assert servers("h:1").tls is None
        assert servers("https://h:1").tls == Tls()
        assert servers("h:1", tls=Tls(verify=False)).tls == Tls(verify=False)
        assert servers("grpcs://h:1", tls=Tls(ca_file="ca.pem")).tls == Tls(ca_file="ca.pem")

    def test_share_the_load_by_weight(self) -> None:
        assert servers("a:1", "b:2").addresses == (Address("a", 1, 1.0), Address("b", 2, 1.0))
        assert [one.weight for one in servers("a:1", "b:2", weights=[3, 1]).addresses] == [3.0, 1.0]

    def test_get_a_bearer_token(self) -> None:
        found = servers("h:1", headers={"X-Tenant": "a"}, bearer_token="secret")
        assert dict(found.headers) == {"x-tenant": "a", "authorization": "Bearer secret"}
        assert "secret" not in repr(found)

    @pytest.mark.parametrize(
        ("urls", "settings", "message"),
        [
            ([], {}, "url= is empty"),
            (["h:1"], {"protocol": "tcp"}, "protocol='tcp' must be 'http' or 'grpc'"),
            (["http://h:1"], {"protocol": "grpc"}, "'http://h:1' contradicts the protocol 'grpc'"),
            (["grpc://h:1", "http://h:2"], {}, "'http://h:2' contradicts the protocol 'grpc'"),
            (["https://h:1", "h:2"], {}, "'h:2' and 'https://h:1': either all servers or none must be encrypted"),
            (["h:1"], {"balance": "random"}, "balance='random' must be 'round-robin' or 'least-outstanding'"),
            (["h:1", "h:2"], {"weights": [1]}, r"weights=\[1\] for 2 server\(s\)"),
            (["h:1", "h:2"], {"weights": [1, 0]}, "weights must be finite and above 0"),
            (["h:1"], {"weights": [float("nan")]}, "weights must be finite and above 0"),
            (
                ["h:1"],
                {"headers": {"Authorization": "x"}, "bearer_token": "y"},
                "bearer_token= and an authorization header exclude",
            ),
            (["h:1"], {"headers": {"bad name": "x"}}, "Invalid header 'bad name'"),
            (["h:1"], {"headers": {"x": "a\r\nb: c"}}, "Invalid header 'x'"),
            (["h:1"], {"headers": {"Content-Length": "3"}}, "'content-length' is set by the load generator"),
        ],
    )
    def test_that_can_not_be_used_as_written(self, urls: list[str], settings: dict[str, Any], message: str) -> None:
        with pytest.raises(OptionError, match=message):
            servers(*urls, **settings)
