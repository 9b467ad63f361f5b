"""A bucket behind a network that fails: throttled, reset, silent or slow. Protocol and library are the real ones."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.store import Store, select_baseline
from pytest_gpuperf.store import files as store_files
from tests.e2e.test_s3 import BUCKET, endpoint, settings
from tests.unit.factories import KEY, record

__all__ = ["endpoint", "settings"]
SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
#: No operation on a failing bucket takes longer, with all retries.
BOUND_S = 40.0


class Network(BaseHTTPRequestHandler):
    """Forwards requests, except for those that a fault meets."""

    protocol_version = "HTTP/1.1"
    target = ("127.0.0.1", 0)
    fault = ""
    remaining = 0
    met = 0

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        network = type(self)
        if network.fault and network.remaining > 0:
            network.remaining -= 1
            network.met += 1
            getattr(self, f"_{network.fault}")()
            return
        connection = http.client.HTTPConnection(*self.target)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        self.wfile.write(content)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _throttled(self) -> None:
        self.send_response(503)
        self.send_header("Content-Length", str(len(SLOW_DOWN)))
        self.end_headers()
        self.wfile.write(SLOW_DOWN)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _silent(self) -> None:
        time.sleep(BOUND_S)
        self.close_connection = True

    def _slow(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        end = time.monotonic() + BOUND_S
        try:
            while time.monotonic() < end:
                self.wfile.write(b" ")
                time.sleep(0.2)
        except OSError:
            self.close_connection = True

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):
            return

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            return

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def network(endpoint: str, settings: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Network]]:  # noqa: ARG001
    """The way to the bucket; ``fault`` and ``remaining`` say what happens to the next requests."""
    host, _, port = endpoint.removeprefix("http://").partition(":")

    class Way(Network):
        target = (host, int(port))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Way)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield Way
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("fault", ["throttled", "reset"])
def test_a_fault_that_passes_is_not_noticed(fault: str, network: type[Network]) -> None:
    store = Store(f"s3://{BUCKET}/passing-{fault}")
    network.fault = fault
    for name in ("s0", "s1"):
        network.remaining = 2
        store.write(record(name=name, minute=int(name[1])))
    network.remaining = 2
    assert [member.id for member in select_baseline(store, KEY).records] == ["s1", "s0"]
    assert network.met == 6


@pytest.mark.parametrize("fault", ["throttled", "reset", "silent", "slow"])
def test_a_fault_that_lasts_is_a_clear_error_within_a_bound_and_loses_nothing(
    fault: str,
    network: type[Network],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(store_files, "_TIMEOUT_S", 4.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("pytest_gpuperf.store.rescue._folders", [])
    url = f"s3://{BUCKET}/lasting-{fault}"
    store = Store(url)
    store.write(record(name="s0"))
    file = store.find("s0")
    network.fault, network.remaining = fault, 10**6
    begin = time.monotonic()
    with pytest.raises(StoreError, match=f"The store {url} can't be listed: ") as caught:
        select_baseline(store, KEY)
    assert "--gpuperf-store" in str(caught.value)
    with pytest.raises(UnreadableRecord, match="can't be read: "):
        store.read(file)
    if fault != "slow":  # an answer to a write is not read so slowly
        with pytest.raises(StoreError, match="can't be written: ") as caught:
            store.write(record(name="s1", minute=1))
        assert time.monotonic() - begin < BOUND_S
        network.remaining = 0
        command = str(caught.value).rpartition(": gpuperf ")[2].split()
        assert main(command) == 0
    network.remaining = 0
    ids = [found.id for found in store.newest(store.folder(KEY))]
    assert ids == (["s0"] if fault == "slow" else ["s1", "s0"])
    expected = {"silent": "no answer in time", "slow": "no answer in time"}
    if fault in expected:
        assert expected[fault] in str(caught.value)
    capsys.readouterr()
