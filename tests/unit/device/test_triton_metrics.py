from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pytest_gpuperf.device import Monitor
from pytest_gpuperf.device.triton_metrics import MetricsError, TritonMetrics, parse
from pytest_gpuperf.model.finding import ENERGY_UNKNOWN, METRICS_UNREADABLE

TEXT = """# HELP nv_energy_consumption GPU energy consumption in joules since the Triton Server started
# TYPE nv_energy_consumption counter
nv_energy_consumption{gpu_uuid="GPU-a"} %s
nv_energy_consumption{gpu_uuid="GPU-b"} 1e3
nv_gpu_power_usage{gpu_uuid="GPU-a"} 250.5
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.75
nv_gpu_memory_used_bytes{gpu_uuid="GPU-a"} 3221225472
nv_inference_count{model="x",version="1"} 7
nv_gpu_power_usage{gpu_uuid="GPU-b"} nonsense
"""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        body = self.server.text().encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(HTTPServer):
    """A GPU of 400 W and one that is off, whose counters move every ``tick_s``."""

    status = 200
    tick_s = 0.4
    begin_s = time.monotonic()

    def text(self) -> str:
        ticks = (time.monotonic() - self.begin_s) // self.tick_s
        return TEXT % (ticks * self.tick_s * 400)


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield one
    one.shutdown()
    thread.join()
    one.server_close()


def test_gpus_are_told_apart_by_uuid_and_what_is_missing_is_none() -> None:
    first, second = parse(TEXT % "1234.5")
    assert (first.uuid, first.energy_j, first.power_w, first.utilization) == ("GPU-a", 1234.5, 250.5, 0.75)
    assert first.used_bytes == 3 << 30
    assert (second.energy_j, second.power_w, second.used_bytes) == (1000, None, None)
    assert parse("nonsense") == ()


def test_energy_is_that_of_all_gpus(server: Server) -> None:
    metrics = TritonMetrics(f"127.0.0.1:{server.server_port}")
    assert metrics.energy_j() >= 1000
    metrics.close()


def test_a_server_that_does_not_answer_is_an_error_that_names_it(server: Server) -> None:
    server.status = 404
    metrics = TritonMetrics(f"http://127.0.0.1:{server.server_port}/metrics")
    with pytest.raises(MetricsError, match="status 404"):
        metrics.gpus()
    metrics.close()
    with pytest.raises(MetricsError, match=r"127\.0\.0\.1:1/"):
        TritonMetrics("http://127.0.0.1:1/metrics").gpus()


def test_the_energy_of_a_remote_server_is_its_counter_s(server: Server) -> None:
    monitor = Monitor([])
    monitor.attach([], f"http://127.0.0.1:{server.server_port}/metrics", local=False)
    assert monitor.energy_method == "triton-counter"
    with monitor.watching():
        time.sleep(0.5)
        start_ns = time.monotonic_ns()
        time.sleep(1.6)
        stop_ns = time.monotonic_ns()
    took = monitor.window(start_ns, stop_ns)
    monitor.close()
    (energy,) = took.energy
    assert energy.method == "triton-counter"
    assert energy.energy_j == pytest.approx(400 * (stop_ns - start_ns) / 1e9, abs=max(2 * energy.error_j, 60))
    assert took.memory is not None
    assert took.memory.device_bytes == 3 << 30
    assert {gpu.uuid for gpu in took.gpus} == {"GPU-a", "GPU-b"}


def test_the_energy_is_that_of_the_server_that_is_measured(server: Server) -> None:
    """One after the other, or in turn in a duet, and on a machine that has no meters of its own."""
    monitor = Monitor([])
    monitor._local_meters = []
    monitor.attach([], "http://127.0.0.1:1/metrics", local=False)
    monitor.attach([], f"http://127.0.0.1:{server.server_port}/metrics", local=False)
    with monitor.watching():
        time.sleep(0.3)
    stop_ns = time.monotonic_ns()
    took = monitor.window(stop_ns - 200_000_000, stop_ns)
    assert {failure.kind for failure in took.failures} <= {ENERGY_UNKNOWN}
    monitor.attach([], None, local=False)
    assert monitor.energy_method == ""
    monitor.close()


def test_a_server_without_gpus_has_no_energy_and_no_failure(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "text", lambda: 'nv_inference_count{model="x",version="1"} 7\n')
    monitor = Monitor([])
    monitor.attach([], f"http://127.0.0.1:{server.server_port}/metrics", local=False)
    with monitor.watching():
        time.sleep(0.3)
    stop_ns = time.monotonic_ns()
    took = monitor.window(stop_ns - 200_000_000, stop_ns)
    monitor.close()
    assert (took.energy, took.gpus, took.failures) == ((), (), ())


def test_a_server_that_goes_away_is_a_failure_and_no_number() -> None:
    monitor = Monitor([])
    monitor.attach([], "http://127.0.0.1:1/metrics", local=False)
    with monitor.watching():
        time.sleep(0.2)
    stop_ns = time.monotonic_ns()
    took = monitor.window(stop_ns - 100_000_000, stop_ns)
    monitor.close()
    assert not took.energy
    assert {failure.kind for failure in took.failures} == {METRICS_UNREADABLE}
