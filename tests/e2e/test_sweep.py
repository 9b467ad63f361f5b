"""``gpuperf sweep`` against the real tritonserver."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pytest_gpuperf.targets.triton import TritonEndpoint
from pytest_gpuperf.targets.triton.endpoint import StartedTriton
from tests.e2e.invocations import GPUPERF

#: On a shared machine, windows that should agree may differ by a factor of up to four.
QUICK = ("-p", "200", "-s", "300")


@pytest.fixture(scope="module")
def server(small_onnx: Path) -> Iterator[StartedTriton]:
    started = TritonEndpoint(small_onnx, threads=1, dynamic_batching=True).start()
    yield started
    started.stop()


def sweep(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GPUPERF, "sweep", "-m", "small", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_usual_command_line(server: StartedTriton, tmp_path: Path) -> None:
    table, times = tmp_path / "results.csv", tmp_path / "times.json"
    done = sweep(
        *("-u", server.address, "-i", "http", "--concurrency-range", "1:5:4", *QUICK),
        *("-f", str(table), "--profile-export-file", str(times)),
    )
    assert done.returncode == 0, done.stderr
    levels = {row["Concurrency"]: row for row in rows(table)}
    assert set(levels) == {"1", "5"}
    for row in levels.values():
        split = [int(row[name]) for name in row if name.startswith(("Client ", "Network", "Server "))]
        assert float(row["Inferences/Second"]) > 50
        assert 0 < int(row["p50 latency"]) <= int(row["p90 latency"]) <= int(row["p99 latency"])
        assert 0 < int(row["Server Compute Infer"]) < sum(split)
        # Little's law: requests in flight are throughput times mean latency.
        assert float(row["Inferences/Second"]) * sum(split) / 1e6 == pytest.approx(int(row["Concurrency"]), rel=0.1)
    experiments = json.loads(times.read_text())["experiments"]
    assert [experiment["experiment"] for experiment in experiments] == [
        {"mode": "concurrency", "value": load} for load in (1, 5)
    ]
    first = experiments[0]
    edges = first["window_boundaries"]
    measured_s = sum(stop - start for start, stop in zip(edges[::2], edges[1::2], strict=True)) / 1e9
    assert len(first["requests"]) / measured_s == pytest.approx(float(levels["1"]["Inferences/Second"]), rel=0.05)
    assert abs(edges[-1] / 1e9 - time.time()) < 120
    assert f"Request count: {len(first['requests'])}" in done.stdout
    assert "Inferences/Second vs. Client Average Batch Latency" in done.stdout


def test_a_schedule_over_grpc(server: StartedTriton, tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    rate = ("--request-rate-range", "50", "--request-distribution", "poisson", "--verbose-csv")
    done = sweep("-u", server.grpc_address, "-i", "grpc", *rate, "-p", "400", "-s", "900", "-f", str(table))
    assert done.returncode == 0, done.stderr
    (row,) = rows(table)
    assert float(row["Inferences/Second"]) == pytest.approx(50, rel=0.5)
    assert int(row["Service p50"]) <= int(row["p50 latency"])


@pytest.mark.parametrize("extra", [("--shared-memory", "system", "-b", "4"), ("--streaming", "-i", "grpc")])
def test_shared_memory_and_streams(server: StartedTriton, extra: tuple[str, ...]) -> None:
    address = server.grpc_address if "grpc" in extra else server.address
    done = sweep("-u", address, "--concurrency-range", "3", "--request-count", "60", *extra)
    assert done.returncode == 0, done.stderr
    assert "Failed requests" not in done.stdout
    assert "Request count: 60\n" in done.stdout


def test_data_from_several_files(server: StartedTriton, tmp_path: Path) -> None:
    flags: list[str] = []
    for number in (1, 2):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps({"data": [{"x": [float(number)] * 256}]}))
        flags += ["--input-data", str(path)]
    done = sweep("-u", server.address, "--request-count", "20", *flags)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "part"),
    [
        (("-b", "64"), 2, "max_batch_size=32"),
        (("-x", "7"), 1, "version 7"),
        (("--shape", "nonsense:3"), 2, "nonsense"),
        (("-s", "0", "-r", "3", "-p", "100"), 3, "concurrency 1 is unstable"),
        # model_analyzer reads these words.
        (("-s", "0", "-r", "3", "-p", "100"), 3, "Failed to obtain stable measurement"),
        (("--trace-level", "TIMESTAMPS"), 1, "trace file"),
    ],
)
def test_errors_name_the_cause(server: StartedTriton, arguments: tuple[str, ...], status: int, part: str) -> None:
    done = sweep("-u", server.address, *arguments)
    assert done.returncode == status, done.stderr
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_keeps_what_was_measured(server: StartedTriton, tmp_path: Path) -> None:
    table, output = tmp_path / "results.csv", tmp_path / "output.txt"
    command = [*GPUPERF, "sweep", "-m", "small", "-u", server.address, "--concurrency-range", "1:50", *QUICK]
    with output.open("wb") as file:
        process = subprocess.Popen([*command, "-f", str(table)], stdout=file, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 60
        while "Request concurrency: 3" not in output.read_text():
            assert time.monotonic() < end, output.read_text()
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
    assert {"1", "2"} <= {row["Concurrency"] for row in rows(table)}
    assert "Inferences/Second vs." in output.read_text()
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert not list(tmp_path.glob("*.part"))


def test_the_end_of_the_server_keeps_what_was_measured(small_onnx: Path, tmp_path: Path) -> None:
    table, output = tmp_path / "results.csv", tmp_path / "output.txt"
    started = TritonEndpoint(small_onnx, threads=1).start()
    try:
        command = [*GPUPERF, "sweep", "-m", "small", "-u", started.address, "--concurrency-range", "1:50", *QUICK]
        with output.open("wb") as file:
            process = subprocess.Popen([*command, "-f", str(table)], stdout=file, stderr=subprocess.STDOUT)
        end = time.monotonic() + 60
        while "Request concurrency: 2" not in output.read_text():
            assert time.monotonic() < end, output.read_text()
            time.sleep(0.05)
    finally:
        started.stop()
    assert process.wait(60) == 1, output.read_text()
    assert "1" in {row["Concurrency"] for row in rows(table)}
    assert started.address in output.read_text()
    assert "Traceback" not in output.read_text()


def test_sweeps_in_a_store_are_compared_with_each_other(server: StartedTriton, tmp_path: Path) -> None:
    store = ("--store", str(tmp_path / "store"))
    line = ("-u", server.address, "--concurrency-range", "1:2", *QUICK, *store, "--test", "serving")
    first, second = sweep(*line), sweep(*line)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "  Record: serving on CPU " in first.stdout
    assert "\nserving: NO BASELINE yet: 1 run, nothing to compare with\n" in first.stdout
    assert "compared with 1 baseline record" in second.stdout
    listed = subprocess.run([*GPUPERF, "baseline", "list", *store], capture_output=True, text=True, check=True)
    assert listed.stdout.count("serving") == 2
    assert len([name for name in second.stdout.split() if name.endswith(".json")]) == 1
