"""The real tritonserver, and its failures."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
from onnx import TensorProto, helper
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from pytest_gpuperf.targets.kserve import KServeEndpoint
from pytest_gpuperf.targets.triton import TritonEndpoint
from pytest_gpuperf.targets.triton.endpoint import StartedTriton
from tests.e2e.invocations import Run, Start, StartedPytest, record_files
from tests.processes import survivors

SUITE = """
    def test_served(gpuperf, triton_endpoint):
        endpoint = triton_endpoint({onnx!r}, threads=1, dynamic_batching=True {extra})
        curve = gpuperf.sweep(endpoint, concurrency=[1, 4], window_s={window_s})
        if gpuperf.enabled:
            assert curve.at(4).throughput > curve.at(1).throughput * 0.5
            assert curve.at(1).server.requests > 0
"""


@pytest.fixture
def write_suite(pytester: pytest.Pytester, small_onnx: Path) -> Callable[..., None]:
    def write(onnx: Path = small_onnx, window_s: float = 0.2, extra: str = "") -> None:
        pytester.makepyfile(test_suite=SUITE.format(onnx=str(onnx), window_s=window_s, extra=extra))

    return write


@pytest.fixture(scope="module")
def server(small_onnx: Path) -> Iterator[StartedTriton]:
    """A running server for the tests of ``kserve_endpoint``."""
    started = TritonEndpoint(small_onnx, threads=1, dynamic_batching=True).start()
    yield started
    started.stop()


def commands() -> dict[int, str]:
    """Return the command lines of all servers and their helpers."""
    names = ("tritonserver", "triton_python")
    processes = [process for process in psutil.process_iter(["name"]) if str(process.info["name"]).startswith(names)]
    return {process.pid: command_of(process) for process in processes}


def servers() -> set[int]:
    """Return the servers whose files lie in the temporary directory of this worker; other workers have theirs."""
    return {pid for pid, command in commands().items() if tempfile.gettempdir() in command}


def command_of(process: psutil.Process) -> str:
    """Return the command line of the process; empty if it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def orphaned_memory() -> list[str]:
    """Return the shared memory regions that no running server uses."""
    command_lines = " ".join(commands().values())
    return [region.name for region in Path("/dev/shm").glob("gpuperf-*") if region.name[:20] not in command_lines]


def test_smoke_run_starts_the_server_once(pytester: pytest.Pytester, write_suite: Callable[..., None]) -> None:
    write_suite()
    before = servers()
    pytester.runpytest_subprocess("-p", "no:benchmark").assert_outcomes(passed=1)
    assert servers() <= before


def test_measured_with_the_servers_own_times(
    run: Run, pytester: pytest.Pytester, write_suite: Callable[..., None]
) -> None:
    write_suite()
    result = run("-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*server time at 4: queue *, compute *, outside *", "    compute: input *, infer *, output *"]
    )
    (stored,) = record_files(pytester.path)
    record = json.loads(stored.read_text())["record"]
    assert len(record["runs"]) == 2
    assert record["under_test"]["small"]["server"] == "triton 2.51.0"
    windows = [window for run in record["runs"] for window in run["windows"]]
    assert all(window["requests"] >= 17 and not window["errors"] for window in windows)
    # The server's statistics cover the window and the load around it, not the other points.
    assert all(window["server"]["requests"] >= window["requests"] for window in windows)
    assert orphaned_memory() == []


def test_an_ensemble_is_measured_step_by_step(run: Run, pytester: pytest.Pytester, small_onnx: Path) -> None:
    pytester.makepyfile(prepare="def run(pixels):\n    return pixels.astype('float32') / 255\n")
    pytester.makepyfile(
        test_suite=f"""
        from pytest_gpuperf import Step

        def test_served(gpuperf, triton_endpoint):
            tensors = dict(input_tensors={{"pixels": "UINT8[256]"}}, output_tensors={{"x": "FP32[256]"}})
            steps = [Step("prepare.py", **tensors), Step({str(small_onnx)!r}, threads=1, instances=2)]
            curve = gpuperf.sweep(triton_endpoint(steps), concurrency=[1, 2], window_s=0.2)
            if gpuperf.enabled:
                server = curve.at(2).server
                for name in ("prepare", "small"):  # a request is counted a moment after it is answered
                    assert abs(server.stages[name].requests - server.requests) <= 0.1 * server.requests + 8
        """
    )
    pytester.runpytest_subprocess("-p", "no:benchmark").assert_outcomes(passed=1)
    result = run("-v", "--gpuperf-triton=bundled")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*server time at 2: queue *, outside *", "    prepare *%: queue *, infer *", "    small *%: queue *, infer *"]
    )
    (stored,) = record_files(pytester.path)
    record = json.loads(stored.read_text())["record"]
    assert set(record["runs"][0]["windows"][0]["server"]["stages"]) == {"prepare", "small"}
    (facts,) = record["under_test"].values()
    assert facts["launcher"].startswith("bundled tritonserver")


@pytest.mark.parametrize("given", ["option", "ini", "variable"])
def test_a_missing_tritonserver(
    run: Run, pytester: pytest.Pytester, write_suite: Callable[..., None], given: str
) -> None:
    write_suite()
    if given == "ini":
        pytester.makeini("[pytest]\ngpuperf_triton = /no/server")
    arguments = ("--gpuperf-triton=/no/server",) if given == "option" else ()
    result = run(*arguments, **({"GPUPERF_TRITON": "/no/server"} if given == "variable" else {}))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*'/no/server' is not an executable tritonserver*"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_killed_in_mid_sweep(
    start: Start, pytester: pytest.Pytester, write_suite: Callable[..., None], number: signal.Signals
) -> None:
    write_suite(window_s=1.0)
    started = start()
    started.wait_for("run 1 of 2 done")
    server = wait_for_server(started)
    os.kill(server.pid, number)
    assert started.wait() == pytest.ExitCode.TESTS_FAILED
    assert re.search(
        r"tritonserver (ended with status 0|was killed by SIG\w+|stopped) during the measurement", started.output
    )
    assert "Traceback" not in started.output
    assert "measurement cut short" in started.output
    assert survivors(started.children) == []
    (stored,) = record_files(pytester.path)
    record = json.loads(stored.read_text())["record"]
    assert record["status"] == "incomplete"
    assert record["runs"][0]["complete"]


def test_pytest_killed_leaves_nothing(start: Start, write_suite: Callable[..., None]) -> None:
    write_suite(window_s=1.0)
    started = start("--basetemp", "temp")
    server = wait_for_server(started)
    started.children = psutil.Process(started.process.pid).children(recursive=True)
    scratch = Path(next(word for word in server.cmdline() if "--model-repository" in word).partition("=")[2]).parent
    assert scratch.exists()
    started.send(signal.SIGKILL)
    started.wait()
    assert survivors(started.children) == []
    assert not scratch.exists()
    assert orphaned_memory() == []


def wait_for_server(started: StartedPytest) -> psutil.Process:
    """Wait until the tritonserver of a started pytest is under load, and return it."""
    for _ in range(600):
        assert started.process.poll() is None, started.output
        family = psutil.Process(started.process.pid).children(recursive=True)
        commands = {process: command_of(process) for process in family}
        servers = [process for process, command in commands.items() if command.split(" ")[0].endswith("/tritonserver")]
        loaded = any("pytest_gpuperf.load.worker" in command for command in commands.values())
        if servers and loaded:
            return servers[0]
        time.sleep(0.05)
    raise AssertionError(started.output)


def test_a_taken_port(run: Run, write_suite: Callable[..., None]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        write_suite(extra=f", http_port={port}")
        result = run()
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert f"can't listen on port {port}" in text
    assert f"ss -ltnp 'sport = :{port}'" in text
    assert "pytest_gpuperf/" not in text


def test_a_broken_model(
    run: Run, pytester: pytest.Pytester, small_onnx: Path, write_suite: Callable[..., None]
) -> None:
    broken = pytester.path / "broken.onnx"
    broken.write_bytes(small_onnx.read_bytes()[:1000])
    write_suite(onnx=broken)
    result = run()
    result.assert_outcomes(failed=1)
    assert "ONNX Runtime can't load" in result.stdout.str()
    assert "broken.onnx" in result.stdout.str()
    assert "pytest_gpuperf/" not in result.stdout.str()


def test_a_missing_execution_provider(run: Run, write_suite: Callable[..., None]) -> None:
    write_suite(extra=", providers=['NoSuchExecutionProvider']")
    result = run()
    result.assert_outcomes(failed=1)
    assert "This build of ONNX Runtime has no NoSuchExecutionProvider; it has " in result.stdout.str()


def test_a_model_refused_by_the_server(small_onnx: Path, tmp_path: Path) -> None:
    removed = tmp_path / "removed.onnx"
    endpoint = TritonEndpoint(removed, threads=1)
    removed.write_bytes(small_onnx.read_bytes())
    endpoint.start().stop()  # the description of the model is cached
    removed.unlink()
    with pytest.raises(Exception, match=r"tritonserver ended with status 1 before it was ready(?s:.*)removed.onnx"):
        endpoint.start()


def test_a_missing_extra(run: Run, pytester: pytest.Pytester, write_suite: Callable[..., None]) -> None:
    write_suite()
    pytester.makeconftest("import sys\nsys.modules['onnxruntime'] = None")
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*pip install 'pytest-gpuperf[[]onnxruntime]'*"])


def test_a_missing_server(run: Run, write_suite: Callable[..., None], tmp_path: Path) -> None:
    write_suite()
    result = run(GPUPERF_CACHE=str(tmp_path))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Install the bundled tritonserver with: gpuperf triton install*"])


def test_a_running_endpoint(run: Run, pytester: pytest.Pytester, server: StartedTriton) -> None:
    pytester.makepyfile(
        test_suite=f"""
        def test_there(gpuperf, kserve_endpoint):
            endpoint = kserve_endpoint("{server.address}", "small")
            point = gpuperf.measure(endpoint, concurrency=2, batch_size=4, window_s=0.2)
            assert point.server.requests > 0
            assert point.throughput > 4
        """
    )
    run().assert_outcomes(passed=1)
    assert server.server_times() is not None  # not stopped by a test that did not start it


def test_an_unreachable_endpoint(run: Run, pytester: pytest.Pytester) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        pytester.makepyfile(
            test_suite=f"""
            def test_gone(gpuperf, kserve_endpoint):
                gpuperf.sweep(kserve_endpoint("{address}", "m"))
            """
        )
        result = run()
    result.assert_outcomes(failed=1)
    assert f"The server at {address} does not answer" in result.stdout.str()


def test_an_unknown_model(server: StartedTriton) -> None:
    with pytest.raises(Exception, match=r"refused get_model_metadata.*nobody"):
        KServeEndpoint(server.address, "nobody").start()


def test_a_batch_beyond_the_models(server: StartedTriton) -> None:
    with pytest.raises(Exception, match="batch_size=64 is above the model's max_batch_size=32"):
        server.workload(64)


#: ONNX types, and values that show a repeated, missing or reinterpreted element.
TYPES = {
    "FP32": (TensorProto.FLOAT, np.linspace(-1, 1, 10, dtype=np.float32)),
    "FP16": (TensorProto.FLOAT16, np.linspace(-1, 1, 10, dtype=np.float16)),
    "INT64": (TensorProto.INT64, np.arange(10, dtype=np.int64) - 5),
    "BOOL": (TensorProto.BOOL, np.arange(10) % 3 == 0),
}


@pytest.mark.parametrize("datatype", TYPES)
def test_served_answers_equal_the_models_answers(datatype: str, tmp_path: Path) -> None:
    """A stub built against NumPy 1 gave empty tensors under NumPy 2, fast and without an error."""
    kind, values = TYPES[datatype]
    path = tmp_path / "identity.onnx"
    tensors = [helper.make_tensor_value_info(name, kind, ["N", 5]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", tensors[:1], tensors[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    started = TritonEndpoint(path, threads=1, dynamic_batching=True).start()
    try:
        client = InferenceServerClient(started.address)
        tensor = InferInput("x", [2, 5], datatype)
        tensor.set_data_from_numpy(values.reshape(2, 5))
        answer = client.infer("identity", [tensor], outputs=[InferRequestedOutput("y", binary_data=True)])
        client.close()
    finally:
        started.stop()
    assert np.array_equal(answer.as_numpy("y"), values.reshape(2, 5))


def test_batched_requests_get_their_rows_back(server: StartedTriton, small_onnx: Path) -> None:
    """Dynamic batching joins requests; every request gets the rows that it asked for."""
    record = onnxruntime.InferenceSession(small_onnx, providers=["CPUExecutionProvider"])

    def ask(number: int) -> bool:
        values = np.random.default_rng(number).standard_normal((1 + number % 3, 256), dtype=np.float32)
        client = InferenceServerClient(server.address)
        tensor = InferInput("x", list(values.shape), "FP32")
        tensor.set_data_from_numpy(values)
        answer = client.infer("small", [tensor], outputs=[InferRequestedOutput("y", binary_data=True)]).as_numpy("y")
        client.close()
        return bool(np.allclose(answer, record.run(None, {"x": values})[0], atol=1e-4))

    before = server.server_times()
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(64)))
    after = server.server_times()
    assert before is not None
    assert after is not None
    assert after.requests - before.requests == 64
