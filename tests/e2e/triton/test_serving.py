"""What the real bundled tritonserver makes of our repositories."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tritonclient.http import InferenceServerClient, InferInput

from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.model import ServerTimes
from pytest_gpuperf.targets.kserve import KServeEndpoint, StartedEndpoint, metrics
from pytest_gpuperf.targets.triton import DynamicBatching, Step, TritonEndpoint
from pytest_gpuperf.targets.triton.endpoint import StartedTriton

Make = Callable[..., Path]

FLATTEN = """
import numpy as np
import beside

def flatten(photo):
    return photo.astype(np.float32).reshape(len(photo), -1)[:, :3] * beside.FACTOR
"""
CONFIG = """
name: "{name}" backend: "{backend}" max_batch_size: 0
input [{{ name: "x" data_type: TYPE_FP32 dims: [ 1 ] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }}]
instance_group [{{ count: 1 kind: {kind} }}]
"""
PASSES = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.get_input_tensor_by_name(request, "x").to_dlpack() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("y", tensor)]) for tensor in tensors]
"""


@contextmanager
def started(endpoint: TritonEndpoint) -> Iterator[StartedTriton]:
    server = endpoint.start()
    try:
        yield server
    finally:
        server.stop()


def ask(server: StartedTriton, model: str, name: str, values: np.ndarray[Any, Any]) -> Any:
    client = InferenceServerClient(server.address)
    try:
        tensor = InferInput(name, list(values.shape), "UINT8" if values.dtype == np.uint8 else "FP32")
        tensor.set_data_from_numpy(values)
        return client.infer(model, [tensor]).as_numpy("y")
    finally:
        client.close()


def times_after(server: StartedTriton | StartedEndpoint, **stages: int) -> ServerTimes:
    """The server's times once these requests are in them: it counts a request a moment after it has answered."""
    deadline = time.monotonic() + 10
    while True:
        times = server.server_times()
        assert times is not None
        counts = {name: stage.requests for name, stage in times.stages.items()} or {"": times.requests}
        if counts == stages or time.monotonic() > deadline:
            assert counts == stages
            return times
        time.sleep(0.02)


@pytest.fixture
def flatten(tmp_path: Path) -> Step:
    """Takes the first three numbers of a photo, ten times as large."""
    (tmp_path / "flatten.py").write_text(FLATTEN)
    (tmp_path / "beside.py").write_text("FACTOR = 10")
    tensors = {"input_tensors": {"photo": "UINT8[-1,-1]"}, "output_tensors": {"x": "FP32[3]"}}
    return Step(tmp_path / "flatten.py", function="flatten", **tensors)  # type: ignore[arg-type]


class TestEnsemble:
    def test_answers_and_says_where_its_time_goes(self, doubling: Make, flatten: Step) -> None:
        net = Step(doubling(["N", 3]), name="net", instances=2, threads=1, dynamic_batching=DynamicBatching([2, 4], 50))
        endpoint = TritonEndpoint([flatten, net], model="all", shapes={"photo": (2, 2)})
        photo = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
        with started(endpoint) as server:
            assert ask(server, "all", "photo", photo).tolist() == [[0, 20, 40], [80, 100, 120]]
            ask(server, "net", "x", np.ones((1, 3), np.float32))  # of the net alone
            times = times_after(server, flatten=1, net=2)
            assert times.requests == 1
            assert times.queue_ns >= sum(stage.queue_ns for stage in times.stages.values()) > 0
            assert 0 < times.stages["flatten"].compute_infer_ns < times.compute_infer_ns
            facts = server.under_test()
            assert facts["stages"] == "flatten, net"
            assert facts["max_batch_size"] == 32
            assert (facts["net: instances"], facts["net: preferred_batch_sizes"]) == (2, "2, 4")
            assert facts["flatten: model"] == "flatten.py"
            workload = server.workload(4)
            assert workload.batch_size == 4
            with urllib.request.urlopen(server.metrics_url or "") as answer:
                assert b'nv_inference_count{model="flatten"' in answer.read()

    def test_within_an_ensemble_and_from_outside(self, doubling: Make) -> None:
        """The tree is followed down, whoever started the server."""
        steps = [
            Step(doubling(["N", 3], f"{name}.onnx", x, y), threads=1)
            for name, x, y in (("a", "x", "u"), ("b", "u", "y"))
        ]
        with started(TritonEndpoint(steps, model="inner")) as server:
            found = KServeEndpoint(server.grpc_address, "inner", protocol="grpc", metrics_url="http://there/m").start()
            try:
                ask(server, "inner", "x", np.ones((1, 3), np.float32))
                assert list(times_after(found, a=1, b=1).stages) == ["a", "b"]
                assert found.metrics_url == "http://there/m"
                assert found.under_test()["config_digest"] != found.served_model.digest, "the steps' are in it"
            finally:
                found.stop()

    def test_a_function_that_fails_is_an_error_of_the_request(self, tmp_path: Path) -> None:
        (tmp_path / "bad.py").write_text("def run(x):\n    raise ValueError('too dark')")
        tensors: dict[str, Any] = {"input_tensors": {"x": "FP32[1]"}, "output_tensors": {"y": "FP32[1]"}}
        with (
            started(TritonEndpoint(tmp_path / "bad.py", **tensors)) as server,
            pytest.raises(Exception, match=r"ValueError: too dark \(.*bad.py:2, in run\)"),
        ):
            ask(server, "bad", "x", np.ones((1, 1), np.float32))

    def test_a_shape_that_does_not_fit_is_tritons_error(self, doubling: Make, flatten: Step) -> None:
        with pytest.raises(TargetError, match=r"before it was ready(?s:.*)inconsistent shape"):
            TritonEndpoint([flatten, Step(doubling(["N", 5]))]).start()


@pytest.fixture
def repository(tmp_path: Path) -> Callable[..., Path]:
    """Makes a user's repository: each name with its backend and kind."""

    def make(**models: tuple[str, str]) -> Path:
        for name, (backend, kind) in models.items():
            version = tmp_path / "models" / name / "1"
            version.mkdir(parents=True)
            (version / "model.py").write_text(PASSES)
            (version.parent / "config.pbtxt").write_text(CONFIG.format(name=name, backend=backend, kind=kind))
        return tmp_path / "models"

    return make


class TestRepository:
    def test_is_served_as_it_is(self, repository: Callable[..., Path]) -> None:
        path = repository(mine=("python", "KIND_CPU"), broken=("no_such", "KIND_CPU"))
        with started(TritonEndpoint(repository=path, model="mine")) as server:  # only this one is loaded
            assert ask(server, "mine", "x", np.ones(1, np.float32)).tolist() == [1]
            facts = server.under_test()
            assert (facts["model"], facts["repository"], facts["max_batch_size"]) == ("mine", "models", 0)
            assert times_after(server, **{"": 1}).stages == {}
        digest = facts["model_digest"]
        (path / "mine" / "1" / "model.py").write_text(PASSES + "\n# changed\n")
        with started(TritonEndpoint(repository=path, model="mine")) as server:
            changed = server.under_test()
            assert changed["model_digest"] != digest
            assert changed["config_digest"] == facts["config_digest"]
        assert (path / "mine" / "config.pbtxt").exists(), "it is the user's"

    def test_without_that_model(self, repository: Callable[..., Path], tmp_path: Path) -> None:
        path = repository(mine=("python", "KIND_CPU"))
        with pytest.raises(TargetError, match=r"There is no model 'yours' in .*models: it has mine\."):
            TritonEndpoint(repository=path, model="yours").start()
        with pytest.raises(TargetError, match="it is not a model repository"):
            TritonEndpoint(repository=tmp_path / "none", model="m").start()

    @pytest.mark.parametrize(
        ("backend", "kind", "message"),
        [
            ("tensorrt", "KIND_CPU", r"unable to find backend library(?s:.*)The server lacks this backend"),
            ("python", "KIND_GPU", r"no GPUs are available(?s:.*)needs a GPU that is not visible to the server"),
        ],
    )
    def test_that_the_server_can_not_serve_says_why(
        self, repository: Callable[..., Path], backend: str, kind: str, message: str
    ) -> None:
        endpoint = TritonEndpoint(repository=repository(mine=(backend, kind)), model="mine", visible="")
        with pytest.raises(TargetError, match=rf"tritonserver ended with status 1 before it was ready(?s:.*){message}"):
            endpoint.start()


class TestProcess:
    def test_runs_on_its_cores_and_sees_its_gpus(self, doubling: Make) -> None:
        core = max(psutil.Process().cpu_affinity() or [0])
        with started(TritonEndpoint(doubling(["N", 3]), cpus=[core], visible="")) as server:
            assert server.under_test()["threads"] == 1
            (supervisor,) = server.processes
            family = psutil.Process(supervisor).children(recursive=True)
            assert {"tritonserver", "triton_python_b"} <= {process.name()[:15] for process in family}
            for process in family:
                status = Path(f"/proc/{process.pid}/status").read_text()
                assert f"Cpus_allowed_list:\t{core}\n" in status, process.name()
                assert process.environ()["CUDA_VISIBLE_DEVICES"] == ""
        assert server.processes == ()

    def test_a_core_that_is_not_ours(self, doubling: Make) -> None:
        with pytest.raises(OptionError, match=r"cpus=\[100000\] must name cores that this process may use"):
            TritonEndpoint(doubling(["N", 3]), cpus=[100_000]).start()


class TestMetricsOfAServerThatIsThere:
    @pytest.fixture
    def port(self, doubling: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartedTriton]:
        with started(TritonEndpoint(doubling(["N", 3]), threads=1)) as server:
            url = server.metrics_url
            assert url is not None
            monkeypatch.setattr(metrics, "_PORT", int(url.rpartition(":")[2].partition("/")[0]))
            yield server

    def test_are_found_where_triton_has_them(self, port: StartedTriton) -> None:
        found = KServeEndpoint(port.address, "double").start()
        found.stop()
        assert found.metrics_url == port.metrics_url

    def test_are_not_another_server_s(self, port: StartedTriton, monkeypatch: pytest.MonkeyPatch) -> None:
        assert metrics.find_metrics_url("127.0.0.1", "another") is None
        monkeypatch.setattr(metrics, "_PORT", int(port.address.rpartition(":")[2]))
        assert metrics.find_metrics_url("127.0.0.1", "double") is None
        monkeypatch.setattr(metrics, "_PORT", 1)
        assert metrics.find_metrics_url("::1", "double") is None
