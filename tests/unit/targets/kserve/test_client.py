"""Control calls in both protocols, plain and encrypted."""

from __future__ import annotations

import http.server
import json
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpuperf.errors import MissingExtra, OptionError, TargetDied, TargetError
from pytest_gpuperf.model import Address, ServerTimes, Tls
from pytest_gpuperf.targets.kserve import KServeClient, Servers, open_client
from tests.unit.load.hostile import Server, answers, hang_up_after, response
from tests.unit.load.listening import HOST
from tests.unit.targets.kserve.fake_servers import ALL, HttpTriton, documents, grpc_triton

pytest.importorskip("grpc")


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest) -> Iterator[KServeClient]:
    if request.param == "http":
        with Server(HttpTriton(*ALL)) as server:
            opened = open_client(Servers((Address(HOST, server.port),)))
            yield opened
            opened.close()
        return
    with grpc_triton(*ALL) as (port, _):
        opened = open_client(Servers((Address(HOST, port),), "grpc"))
        yield opened
        opened.close()


class TestBothForms:
    def test_say_the_same(self, client: KServeClient) -> None:
        assert client.ready()
        assert client.extensions() == set(ALL)
        assert client.server_version() == "fake 1.2"
        metadata = client.model("m")
        assert [tensor["name"] for tensor in metadata["inputs"] + metadata["outputs"]] == ["x", "y"]
        assert [int(size) for size in metadata["inputs"][0]["shape"]] == [-1, 4]
        assert client.model("m", "2")["versions"] == ["1", "2"]
        assert int(client.config("m")["max_batch_size"]) == 8
        assert client.server_times("m") == ServerTimes(33, 22, 22, 33, 44, 55)

    def test_a_refusal_names_server_model_and_reason(self, client: KServeClient) -> None:
        with pytest.raises(
            TargetError, match=rf"{client.address} refused get_model_metadata.*'flower'.*no such thing"
        ) as caught:
            client.model("flower")
        assert not isinstance(caught.value, TargetDied)

    def test_memory_that_the_server_can_not_take_is_a_refusal(self, client: KServeClient) -> None:
        with pytest.raises(TargetError, match=f"{client.address} refused register_system_shared_memory"):
            client.share_system_memory("region", "/region", 10)
        with pytest.raises(TargetError, match=f"{client.address} refused register_cuda_shared_memory"):
            client.share_cuda_memory("region", b"AAAA", 0, 10)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_nobody_there(protocol: str) -> None:
    with Server(answers(b"")) as server:
        port = server.port
    client = open_client(Servers((Address(HOST, port),), protocol))
    assert not client.ready()
    with pytest.raises(TargetDied, match=f"{HOST}:{port} does not answer"):
        client.extensions()
    client.close()
    client.close()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", response(b"[]", "200 OK")])
def test_something_else_there(protocol: str, answer: bytes) -> None:
    with Server(answers(answer)) as server:
        client = open_client(Servers((Address(HOST, server.port),), protocol))
        with pytest.raises(TargetError, match=f"{HOST}:{server.port}"):
            client.extensions()
        client.close()


def test_headers_go_with_every_call() -> None:
    headers = (("authorization", "Bearer secret"),)
    with Server(HttpTriton(*ALL)) as server:
        client = open_client(Servers((Address(HOST, server.port),), "http", headers))
        client.ready()
        client.extensions()
        client.close()
        assert all(b"authorization: bearer secret" in request.lower() for request in server.seen)
    with grpc_triton(*ALL) as (port, calls):
        client = open_client(Servers((Address(HOST, port),), "grpc", headers))
        client.ready()
        client.extensions()
        client.close()
    assert [call["authorization"] for call in calls] == ["Bearer secret"] * 2


def test_a_host_header_takes_the_place_of_the_address() -> None:
    headers = (("host", "model.team.example.test"),)
    with Server(HttpTriton(*ALL)) as server:
        client = open_client(Servers((Address(HOST, server.port),), "http", headers))
        client.extensions()
        client.close()
        heads = [request.lower().partition(b"\r\n\r\n")[0].split(b"\r\n") for request in server.seen]
    for head in heads:
        assert [line for line in head if line.startswith(b"host:")] == [b"host: model.team.example.test"]
    with grpc_triton(*ALL) as (port, _):
        client = open_client(Servers((Address(HOST, port),), "grpc", headers))
        assert client.extensions() == set(ALL)
        client.close()


def test_the_path_of_an_ingress_precedes_every_call() -> None:
    with Server(HttpTriton(*ALL)) as server:
        client = open_client(Servers((Address(HOST, server.port, prefix="/a/b"),), "http"))
        with pytest.raises(TargetError):
            client.model("m")  # this server has nothing there
        client.close()
        assert all(request.split()[1].startswith(b"/a/b/v2") for request in server.seen)


def test_without_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(MissingExtra, match=r"pip install 'pytest-gpuperf\[grpc\]'"):
        open_client(Servers((Address(HOST, 1),), "grpc"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate for ``triton.test`` that it signed, and a client's."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make certificates")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test")
    # Python 3.13 demands the key's usage, and the issuer's key in what is signed with it.
    authority = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    openssl(*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", *authority)
    for name in ("server", "client"):
        openssl(*new, *("-keyout", f"{name}.key", "-out", f"{name}.csr"))
        (folder / "names").write_text("subjectAltName=DNS:triton.test\nauthorityKeyIdentifier=keyid\n")
        openssl(
            *f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem".split(),
            *("-extfile", "names"),
        )
    return folder


class _Https(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(documents(ALL, 8, (-1, 4))["server"]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture(params=["http", "grpc"])
def encrypted(request: pytest.FixtureRequest, certificates: Path) -> Iterator[tuple[str, Address]]:
    """A server that wants to know its clients."""
    if request.param == "grpc":
        import grpc

        key, certificate, authority = (
            (certificates / name).read_bytes() for name in ("server.key", "server.pem", "ca.pem")
        )
        credentials = grpc.ssl_server_credentials(((key, certificate),), authority, require_client_auth=True)
        with grpc_triton(*ALL, credentials=credentials) as (port, _):
            yield "grpc", Address(HOST, port)
        return
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Clients that go away are what is tested."""

    with Quiet((HOST, 0), _Https) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield "http", Address(HOST, server.server_port)
        server.shutdown()
        thread.join()


class TestEncrypted:
    def reached(self, encrypted: tuple[str, Address], tls: Tls) -> bool:
        protocol, address = encrypted
        client = open_client(Servers((address,), protocol, tls=tls))
        try:
            return client.extensions() == set(ALL)
        except TargetError:
            return False
        finally:
            client.close()

    def known(self, folder: Path) -> Tls:
        ca, cert, key = (str(folder / name) for name in ("ca.pem", "client.pem", "client.key"))
        return Tls(ca, cert, key)

    def test_the_certificate_must_be_for_the_host(self, encrypted: tuple[str, Address], certificates: Path) -> None:
        tls = self.known(certificates)
        assert not self.reached(encrypted, tls)
        assert self.reached(encrypted, replace(tls, verify_host=False))

    def test_and_from_an_authority_that_is_known(self, encrypted: tuple[str, Address], certificates: Path) -> None:
        tls = replace(self.known(certificates), ca_file="")
        assert not self.reached(encrypted, replace(tls, verify_host=False))
        assert self.reached(encrypted, replace(tls, verify=False))

    def test_the_client_shows_its_own(self, encrypted: tuple[str, Address], certificates: Path) -> None:
        assert not self.reached(encrypted, Tls(ca_file=str(certificates / "ca.pem"), verify_host=False))

    def test_a_file_that_is_not_there_is_named(self, encrypted: tuple[str, Address], certificates: Path) -> None:
        protocol, address = encrypted
        with pytest.raises(OptionError, match=r"^ca_file='[^']*gone\.pem' can't be used: .*No such file"):
            open_client(Servers((address,), protocol, tls=Tls(ca_file=str(certificates / "gone.pem"))))

    def test_a_certificate_of_an_unknown_authority_is_refused_and_says_what_to_pass(
        self, encrypted: tuple[str, Address], certificates: Path
    ) -> None:
        protocol, address = encrypted
        tls = replace(self.known(certificates), ca_file="")
        client = open_client(Servers((address,), protocol, tls=tls))
        with pytest.raises(TargetError, match=r"certificate of the server at .* was refused.*authority with ca_file="):
            client.extensions()
        client.close()


def test_the_http_port_asked_over_grpc() -> None:
    with Server(hang_up_after(response(b"{}", "400 Bad Request"))) as server:
        client = open_client(Servers((Address(HOST, server.port),), "grpc"))
        with pytest.raises(TargetDied, match=r"Is that the (HTTP|gRPC) port"):
            client.extensions()
        client.close()


def test_grpc_uses_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "grpc_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with grpc_triton(*ALL) as (port, _):
        client = open_client(Servers((Address(HOST, port),), "grpc"))
        assert client.extensions() == set(ALL)
        client.close()
