from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.model import HTTP, Address, Tls
from tests.unit.load.hostile_h2 import (
    Call,
    Server,
    answer,
    ask,
    assert_true_times,
    closes_at_once,
    data_frames,
    drive,
    end,
    head,
    impatient,  # noqa: F401 - a fixture
    latencies,
    message,
    workload,
)

MS = 1_000_000

pytestmark = [
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command"),
    pytest.mark.usefixtures("impatient"),
]


@dataclass(frozen=True)
class Certificates:
    """Two authorities; a server's certificate (127.0.0.1, localhost) and a client's, both signed by the first."""

    folder: Path

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def server(self, *, wants_client: bool = False, name: str = "server") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file(f"{name}.pem"), self.file(f"{name}.key"))
        context.set_alpn_protocols(["h2", "http/1.1"])
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.file("ca.pem"))
        return context

    def client(self, **settings: object) -> Tls:
        return Tls(**{"ca_file": self.file("ca.pem"), **settings})  # type: ignore[arg-type]


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        usage = ("-addext", "keyUsage=critical,keyCertSign")  # Python 3.13 demands it of an authority
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        openssl(folder, "req", "-x509", *key, *usage, *files, "-subj", f"/CN={name}")
    hosts = {
        "server": "IP:127.0.0.1,DNS:localhost",
        "stranger": "DNS:elsewhere.example,IP:192.0.2.1",
        "client": "DNS:c",
    }
    for name, names in hosts.items():
        (folder / f"{name}.ext").write_text(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\n")
        openssl(folder, "req", "-new", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        sign = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", f"{name}.ext")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *sign)
    openssl(folder, "ec", "-in", "client.key", "-aes128", "-passout", "pass:secret", "-out", "locked.key")
    (folder / "both.pem").write_bytes((folder / "client.pem").read_bytes() + (folder / "client.key").read_bytes())
    return Certificates(folder)


def http_1(respond: Callable[[bytes], bytes]) -> Callable[[socket.socket], None]:
    """A plain HTTP/1.1 server on whatever kind of socket."""

    def serve(link: socket.socket) -> None:
        link.settimeout(20)
        stream = link.makefile("rb")
        while line := stream.readline():
            size = 0
            while line not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                size = int(value) if name.lower() == b"content-length" else size
                line = stream.readline()
            body = respond(stream.read(size))
            link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    return serve


class TestGrpc:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_over_tls(self, certificates: Certificates, host: str) -> None:
        seen: set[tuple[str, str | None]] = set()

        def behave(call: Call) -> None:
            seen.add((call.headers[":scheme"], call.peer.link.selected_alpn_protocol()))
            call.answer()

        with Server(behave, tls=certificates.server()) as server:
            load = workload(server, tls=certificates.client(), addresses=(Address(host, server.port),))
            recording = ask(load, 5)
            assert_true_times(recording, server.good)
            assert server.connections == 1
        assert not recording.errors
        assert seen == {("https", "h2")}

    def test_a_window_under_load(self, certificates: Certificates) -> None:
        with Server(tls=certificates.server()) as server:
            recording = drive(workload(server, tls=certificates.client()), WindowSpec(4, 0.2))
            assert len(latencies(recording)) == len(server.good) == server.requests
            assert server.connections == 4
        assert not recording.errors

    @pytest.mark.parametrize("size", [16_384, 100_000, 3_000_000])
    def test_large_bodies_both_ways(self, certificates: Certificates, size: int) -> None:
        body = bytes(range(256)) * (size // 256)
        seen = set()

        def behave(call: Call) -> None:
            seen.add(call.body)
            call.answer(answer(call.stream, call.body))

        with Server(behave, tls=certificates.server()) as server:
            load = workload(
                server, body, tls=certificates.client(), check=lambda got, _: "" if got == body else "another"
            )
            recording = ask(load, 3)
            assert_true_times(recording, server.good)
            assert server.connections == 1
        assert not recording.errors
        assert seen == {body}

    def test_latencies_include_the_last_record(self, certificates: Certificates) -> None:
        def behave(call: Call) -> None:
            call.answer(head(call.stream), data_frames(call.stream, message(b"right")), end(call.stream), pause_s=0.01)

        with Server(behave, tls=certificates.server()) as server:
            recording = ask(workload(server, tls=certificates.client()), 3)
            assert_true_times(recording, server.good)
        assert min(latencies(recording)) >= 20 * MS

    def test_byte_by_byte(self, certificates: Certificates) -> None:
        def behave(call: Call) -> None:
            call.answer(*(bytes([byte]) for byte in answer(call.stream)))

        with Server(behave, tls=certificates.server()) as server:
            recording = ask(workload(server, tls=certificates.client()), 3)
            assert_true_times(recording, server.good)

    def test_tls_1_2(self, certificates: Certificates) -> None:
        context = certificates.server()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with Server(tls=context) as server:
            recording = ask(workload(server, bytes(300_000), tls=certificates.client()), 3)
            assert_true_times(recording, server.good)


class TestHttp:
    @pytest.mark.parametrize("size", [10, 20_000, 3_000_000])
    def test_over_tls(self, certificates: Certificates, size: int) -> None:
        body = bytes(size)
        seen = []

        def respond(got: bytes) -> bytes:
            seen.append(got == body)
            return got

        with Server(raw=http_1(respond), tls=certificates.server()) as server:
            load = workload(
                server,
                body,
                protocol=HTTP,
                tls=certificates.client(),
                check=lambda got, _: "" if got == body else "another",
            )
            recording = ask(load, 4)
            assert server.connections == 1
        assert not recording.errors
        assert seen == [True] * 4
        assert len(latencies(recording)) == 4

    def test_connections_that_end_without_notice_are_no_tls_errors(self, certificates: Certificates) -> None:
        with Server(raw=closes_at_once, tls=certificates.server()) as server:
            recording = ask(workload(server, protocol=HTTP, tls=certificates.client()), 2)
        assert set(recording.errors) <= {"connection closed", "connection reset"}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
class TestTrust:
    def _fails(self, certificates: Certificates, protocol: str, tls: Tls, name: str = "server") -> str:
        """The error of a request to a server that would answer."""
        with Server(tls=certificates.server(name=name)) as server:
            recording = ask(workload(server, protocol=protocol, tls=tls))
        assert recording.errors == {"TLS error": 1}
        return recording.error_sample

    def test_an_authority_nobody_named(self, certificates: Certificates, protocol: str) -> None:
        assert "ca_file" in self._fails(certificates, protocol, Tls())

    def test_another_authority(self, certificates: Certificates, protocol: str) -> None:
        sample = self._fails(certificates, protocol, Tls(ca_file=certificates.file("other.pem")))
        assert "CERTIFICATE_VERIFY_FAILED" in sample
        assert "ca_file" in sample

    def test_another_host(self, certificates: Certificates, protocol: str) -> None:
        sample = self._fails(certificates, protocol, certificates.client(), "stranger")
        assert "127.0.0.1" in sample
        assert "verify_host" in sample
        assert "ca_file" not in sample

    @pytest.mark.parametrize(
        ("settings", "name"),
        [
            ({"verify_host": False}, "stranger"),
            ({"verify": False}, "stranger"),
            ({"verify": False, "ca_file": ""}, "server"),
        ],
    )
    def test_what_is_not_verified(
        self, certificates: Certificates, protocol: str, settings: dict[str, object], name: str
    ) -> None:
        raw = http_1(lambda _: b"{}") if protocol == HTTP else None
        with Server(tls=certificates.server(name=name), raw=raw) as server:
            recording = ask(workload(server, protocol=protocol, tls=certificates.client(**settings)), 2)
        assert not recording.errors
        assert len(latencies(recording)) == 2

    def test_verify_host_alone_does_not_turn_off_the_authority(self, certificates: Certificates, protocol: str) -> None:
        tls = Tls(ca_file=certificates.file("other.pem"), verify_host=False)
        assert "CERTIFICATE_VERIFY_FAILED" in self._fails(certificates, protocol, tls)

    @pytest.mark.parametrize("files", [("client.pem", "client.key"), ("both.pem", "")])
    def test_a_clients_certificate(self, certificates: Certificates, protocol: str, files: tuple[str, str]) -> None:
        raw = http_1(lambda _: b"{}") if protocol == HTTP else None
        cert, key = (certificates.file(file) if file else "" for file in files)
        with Server(tls=certificates.server(wants_client=True), raw=raw) as server:
            recording = ask(
                workload(server, protocol=protocol, tls=certificates.client(cert_file=cert, key_file=key)), 2
            )
        assert not recording.errors
        assert len(latencies(recording)) == 2

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_a_clients_certificate_that_is_missing(
        self, certificates: Certificates, protocol: str, version: ssl.TLSVersion
    ) -> None:
        context = certificates.server(wants_client=True)
        context.maximum_version = version
        with Server(tls=context) as server:
            recording = ask(workload(server, protocol=protocol, tls=certificates.client()))
            assert not server.requests
        # The alert, unless the reset that follows it overtakes it.
        assert len(recording.errors) == 1
        (kind,) = recording.errors
        assert kind in ("TLS error", "connection reset", "connection closed")
        if kind == "TLS error" and ("REQUIRED" in recording.error_sample or "HANDSHAKE" in recording.error_sample):
            assert "cert_file" in recording.error_sample

    def test_a_clients_certificate_of_another_authority(self, certificates: Certificates, protocol: str) -> None:
        tls = certificates.client(cert_file=certificates.file("other.pem"), key_file=certificates.file("other.key"))
        with Server(tls=certificates.server(wants_client=True)) as server:
            recording = ask(workload(server, protocol=protocol, tls=tls))
            assert not server.requests
        assert set(recording.errors) <= {"TLS error", "connection reset", "connection closed"}
        assert sum(recording.errors.values()) == 1


class TestFiles:
    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"ca_file": "/nowhere/ca.pem"}, "/nowhere/ca.pem"),
            ({"ca_file": "server.ext"}, "server.ext"),
            ({"cert_file": "/nowhere/client.pem", "key_file": "client.key"}, "/nowhere/client.pem"),
            ({"cert_file": "client.pem", "key_file": "server.key"}, "server.key"),
            ({"cert_file": "client.pem"}, "client.pem"),
            # OpenSSL would ask for its password, at whatever terminal there is.
            ({"cert_file": "client.pem", "key_file": "locked.key"}, "locked.key"),
        ],
    )
    def test_those_that_cannot_be_used_are_named(
        self, certificates: Certificates, settings: dict[str, str], says: str
    ) -> None:
        files = {"ca_file": "ca.pem", "cert_file": "", "key_file": "", **settings}
        ca, cert, key = [
            file and certificates.file(file) for file in files.values()
        ]  # an absolute one stays what it is
        with Server() as server, pytest.raises(LoadError, match=says):
            ask(workload(server, tls=Tls(ca, cert, key)))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
class TestMixups:
    def test_a_plain_server_that_closes(self, certificates: Certificates, protocol: str) -> None:
        with Server(raw=closes_at_once) as server:
            recording = ask(workload(server, protocol=protocol, tls=certificates.client()))
        assert recording.errors == {"TLS error": 1}

    def test_a_plain_http_server(self, certificates: Certificates, protocol: str) -> None:
        def raw(link: socket.socket) -> None:
            link.recv(65_536)
            link.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            time.sleep(0.2)

        with Server(raw=raw) as server:
            recording = ask(workload(server, protocol=protocol, tls=certificates.client()))
        assert recording.errors == {"TLS error": 1}
        assert "does the server speak TLS on this port?" in recording.error_sample

    def test_a_plain_grpc_server(self, certificates: Certificates, protocol: str) -> None:
        with Server() as server:
            recording = ask(workload(server, protocol=protocol, tls=certificates.client()), deadline_s=3)
            server.breaches.clear()
        assert recording.lost or sum(recording.errors.values()) == 1

    def test_a_tls_server_that_we_take_for_a_plain_one(self, certificates: Certificates, protocol: str) -> None:
        with Server(tls=certificates.server()) as server:
            recording = ask(workload(server, protocol=protocol))
        assert sum(recording.errors.values()) == 1
        assert set(recording.errors) <= {"bad response", "connection closed", "connection reset"}
        if protocol == "grpc":
            assert "are the TLS settings right?" in recording.error_sample

    def test_one_that_accepts_and_never_speaks(self, certificates: Certificates, protocol: str) -> None:
        def raw(link: socket.socket) -> None:
            while link.recv(65_536):
                pass

        with Server(raw=raw) as server:
            began = time.monotonic()
            recording = ask(workload(server, protocol=protocol, tls=certificates.client()), deadline_s=3)
            assert time.monotonic() - began < 10
        assert recording.errors == {"connection timeout": 1}
