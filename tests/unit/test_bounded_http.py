from __future__ import annotations

import http.client
import time
from collections.abc import Callable

import pytest

from pytest_gpuperf.bounded_http import NO_ANSWER, BoundedHttp
from pytest_gpuperf.errors import TargetDied, TargetError
from pytest_gpuperf.limits import TooLargeError, read_within, uncompressed
from pytest_gpuperf.model import Address
from pytest_gpuperf.targets.kserve import Servers, open_client
from pytest_gpuperf.targets.kserve import client_http as client_module
from tests.unit.load.hostile import (
    Behaviour,
    Exchange,
    Server,
    answers,
    endless,
    hang_up_after,
    in_turn,
    response,
    silence,
    silent_after,
)
from tests.unit.load.listening import HOST

MIB = 1 << 20
ENDLESS: dict[str, Behaviour] = {
    "silent": silence,
    "silent in the body": silent_after(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"),
    "a byte now and then": endless(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x", 0.05),
    "a header now and then": endless(b"HTTP/1.1 200 OK\r\n", b"X", 0.05),
    "announcements": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
}
LARGE: dict[str, Behaviour] = {
    "a length of 1 TB": endless(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", bytes(MIB)),
    "chunks": endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + bytes(MIB) + b"\r\n"),
    "no length": endless(b"HTTP/1.0 200 OK\r\n\r\n", bytes(MIB)),
}


def ask(server: Server, timeout_s: float = 5.0) -> tuple[int, bytes]:
    http_connection = BoundedHttp(HOST, server.port, timeout_s=timeout_s, limit=2 * MIB)
    try:
        return http_connection.ask("GET", "/v2")
    finally:
        http_connection.close()


@pytest.mark.parametrize("name", ENDLESS)
def test_an_answer_without_end_ends_in_time(name: str) -> None:
    with Server(ENDLESS[name]) as server:
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            ask(server, timeout_s=0.3)
        assert time.monotonic() - begin < 2


@pytest.mark.parametrize("name", LARGE)
def test_an_answer_above_the_limit_is_an_error(name: str) -> None:
    with Server(LARGE[name]) as server, pytest.raises(TooLargeError, match="larger than 2 MiB"):
        ask(server)


@pytest.mark.parametrize("answer", [b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", b""])
def test_something_else_is_no_answer(answer: bytes) -> None:
    with Server(hang_up_after(answer)) as server, pytest.raises(http.client.HTTPException):
        ask(server)


def test_a_connection_is_kept_and_opened_again() -> None:
    closing = hang_up_after(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
    with Server(in_turn(answers(response(b"{}")), answers(response(b"{}")), closing)) as server:
        http_connection = BoundedHttp(HOST, server.port, timeout_s=5, limit=MIB)
        assert [http_connection.ask("GET", "/") for _ in range(6)] == [(200, b"{}")] * 6
        assert server.connections == 2
        http_connection.close()
        http_connection.close()


def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Server(answers(response(b"{}"))) as server:
        assert ask(server) == (200, b"{}")


def asked(behave: Behaviour, call: Callable[[object], object]) -> str:
    """Return the error of a control call to such a server."""
    with Server(behave) as server:
        client = open_client(Servers((Address(HOST, server.port),)))
        with pytest.raises(TargetError) as caught:
            call(client)
        client.close()
    return str(caught.value)


class TestControlCalls:
    def test_an_endless_statistics_endpoint(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client_module, "CONTROL_S", 0.3)
        message = asked(ENDLESS["a byte now and then"], lambda client: client.server_times("m"))  # type: ignore[attr-defined]
        assert "does not answer (timed out)" in message

    def test_a_statistics_endpoint_of_a_terabyte(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client_module, "CONTROL_BYTES", 2 * MIB)
        message = asked(LARGE["chunks"], lambda client: client.server_times("m"))  # type: ignore[attr-defined]
        assert "answers models/m/stats with too much: the answer is larger than 2 MiB" in message

    @pytest.mark.parametrize(
        "body",
        [
            *(b"[]", b"[" * 100_000, b'{"model_stats": 3}', b'{"model_stats": [3]}', b"\xff", b"nothing"),
            b'{"model_stats": [{"inference_stats": []}]}',
            b'{"model_stats": [{"inference_stats": {"success": {"count": 1e999}}}]}',
            b'{"model_stats": [{"execution_count": "many"}]}',
        ],
    )
    def test_documents_of_another_form(self, body: bytes) -> None:
        message = asked(answers(response(body)), lambda client: client.server_times("m"))  # type: ignore[attr-defined]
        assert HOST in message

    def test_the_grpc_port(self) -> None:
        settings = b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0d\0\4\0\x10\0\0\0\6\0\0 \0"
        message = asked(hang_up_after(settings), lambda client: client.extensions())  # type: ignore[attr-defined]
        assert "is that the gRPC port?" in message

    def test_a_model_that_is_not_there_names_those_there_are(self) -> None:
        def behave(exchange: Exchange) -> None:
            if b"/repository/index" in exchange.request:
                models = (
                    b'[{"name": "resnet", "state": "READY"}, {"name": "bert"}, {"name": "x", "state": "UNAVAILABLE"}]'
                )
                exchange.send(response(models))
            else:
                exchange.send(response(b'{"error": "unknown model"}', "404 Not Found"))

        message = asked(behave, lambda client: client.model("nosuch"))  # type: ignore[attr-defined]
        assert (
            "refused get_model_metadata('nosuch', ''): unknown model\nModels of this server: bert, resnet." in message
        )

    def test_a_server_that_lists_no_models(self) -> None:
        no = answers(response(b'{"error": "no"}', "404 Not Found"))
        message = asked(no, lambda client: client.model("nosuch"))  # type: ignore[attr-defined]
        assert message.endswith("refused get_model_metadata('nosuch', ''): no")

    def test_a_refusal_by_a_proxy_before_the_server(self) -> None:
        page = answers(response(b"<html>Forbidden</html>", "403 Forbidden"))
        message = asked(page, lambda client: client.extensions())  # type: ignore[attr-defined]
        assert message.endswith("refused get_server_metadata(): HTTP 403")

    def test_no_server(self) -> None:
        client = open_client(Servers((Address(HOST, 1),)))
        with pytest.raises(TargetDied, match="Connection refused"):
            client.extensions()
        assert not client.ready()


def test_reading_within_a_limit() -> None:
    parts = [b"ab", b"cd", b""]
    assert read_within(lambda _: parts.pop(0), 4, "it") == b"abcd"
    with pytest.raises(TooLargeError, match="it is larger than"):
        read_within(bytes, 10, "it")
    assert issubclass(TooLargeError, NO_ANSWER)


def test_decompressing_within_a_limit() -> None:
    import gzip
    import zlib

    content = b"0123456789" * 10
    for data in (gzip.compress(content), zlib.compress(content), zlib.compress(content)[2:-4]):
        assert uncompressed(data, "it", 100) == content
        with pytest.raises(TooLargeError):
            uncompressed(data, "it", 99)
        with pytest.raises(ValueError, match="damaged"):
            uncompressed(data[:-8], "it", 200)
    with pytest.raises(TooLargeError):
        uncompressed(gzip.compress(bytes(100 * MIB)), "it", MIB)
