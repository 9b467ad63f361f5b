"""What is built and read here, held against the real tritonserver. Sent with plain clients, not the load generator."""

from __future__ import annotations

import http.client
import json
import pickle
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.model import Request, StreamAnswer, WireWorkload
from pytest_gpuperf.targets.kserve import KServeEndpoint, StartedEndpoint
from pytest_gpuperf.targets.triton import TritonEndpoint, bundle
from pytest_gpuperf.targets.triton.endpoint import StartedTriton

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
grpc = pytest.importorskip("grpc")
pytestmark = pytest.mark.skipif(bundle.installed() is None, reason=f"needs a server: {bundle.INSTALL_COMMAND}")

#: Six items, each the only one of its kind, so that an answer to another request is seen.
ITEMS = [{"x": np.linspace(number, number + 1, 5, dtype=np.float32)} for number in range(6)]
RIGHT = [{"y": item["x"] * 2} for item in ITEMS]


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that adds its input to itself."""
    tensors = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 5]) for name in ("x", "y")]
    nodes = [onnx.helper.make_node("Add", ["x", "x"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "doubled", tensors[:1], tensors[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path_factory.mktemp("doubled") / "doubled.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def server(doubled: Path) -> Iterator[StartedTriton]:
    started = TritonEndpoint(doubled, threads=1).start()
    yield started
    started.stop()


@contextmanager
def endpoint(server: StartedTriton, **settings: Any) -> Iterator[StartedEndpoint]:
    address = server.address if settings.get("protocol") != "grpc" else server.grpc_address
    started = KServeEndpoint(address, "doubled", **settings).start()
    try:
        yield started
    finally:
        started.stop()


def ask(workload: WireWorkload, request: Request) -> list[str]:
    """Send it, and give what its check says to each answer; as in the load generator's processes."""
    workload, request = pickle.loads(pickle.dumps((workload, request)))
    assert request.check is not None
    (address,) = workload.addresses
    if workload.protocol == "http":
        with closing(http.client.HTTPConnection(address.host, address.port, timeout=30)) as connection:
            connection.request("POST", workload.path, request.body, dict((*workload.headers, *request.headers)))
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, body
            return [request.check(body, {name.lower(): value for name, value in response.getheaders()})]
    with grpc.insecure_channel(address.label) as channel:
        if workload.protocol == "grpc":
            return [request.check(channel.unary_unary(workload.path)(request.body, timeout=30), {})]
        said = []
        assert workload.read_stream is not None
        for message in channel.stream_stream(workload.path)(iter([request.body]), timeout=30):
            found: StreamAnswer = workload.read_stream(message)
            assert not found.error
            said += [] if found.empty else [request.check(message, {})]
            if found.last:
                return said
        raise AssertionError("the stream ended before its last answer")


JSON = {"input_tensor_format": "json", "output_tensor_format": "json"}
PROTOCOLS = [{}, JSON, {"protocol": "grpc"}, {"protocol": "grpc", "streaming": True}]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["http", "json", "grpc", "stream"])
@pytest.mark.parametrize("memory", ["none", "system"])
class TestAnswers:
    def test_are_found_right(self, server: StartedTriton, protocol: dict[str, Any], memory: str) -> None:
        with endpoint(server, input_data=ITEMS, expected=RIGHT, shared_memory=memory, **protocol) as started:
            workload = started.workload(4, in_flight=3)
            assert len(workload.rotations) == (3 if memory == "system" else 1)
            assert [len(rotation) for rotation in workload.rotations] == [3] * len(workload.rotations)
            for rotation in workload.rotations:
                for request in rotation:
                    assert ask(workload, request) == [""]

    def test_are_found_wrong(self, server: StartedTriton, protocol: dict[str, Any], memory: str) -> None:
        wrong = [{"y": right["y"] + np.array([0, 0, 0, 0.5, 0])} for right in RIGHT]
        with endpoint(server, input_data=ITEMS, expected=wrong, shared_memory=memory, **protocol) as started:
            workload = started.workload(1)
            (said,) = ask(workload, workload.rotations[0][2])
            assert said == "output 'y': element [0, 3] is 5.5, not 6.0 (tolerance 0.001)"


class TestSharedMemory:
    def test_each_request_in_flight_has_its_own_outputs(self, server: StartedTriton) -> None:
        with endpoint(server, input_data=ITEMS, expected=RIGHT, shared_memory="system") as started:
            workload = started.workload(1, in_flight=2)
            first, second = (rotation[index] for index, rotation in enumerate(workload.rotations))
            assert ask(workload, first) == ask(workload, second) == [""]
            # Both are still there: the second did not overwrite the first.
            body = b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 5]}]}'
            assert [request.check(body, {}) for request in (first, second) if request.check] == ["", ""]

    def test_nothing_of_it_is_left(self, doubled: Path) -> None:
        endpoint = TritonEndpoint(doubled, threads=1, shared_memory="system", expected={"y": np.zeros(5)})
        started = endpoint.start()
        try:
            workloads = [started.workload(batch_size, in_flight=4) for batch_size in (1, 2)]
            for workload in workloads:
                assert isinstance(workload, WireWorkload)
                assert ask(workload, workload.rotations[3][0]) != [""]
            assert isinstance(workload, WireWorkload)
            region = json.loads(workload.rotations[0][0].body)["inputs"][0]["parameters"]["shared_memory_region"]
            prefix = region[: len("gpuperf-") + 12]
            assert len(list(Path("/dev/shm").glob(f"{prefix}-system-*"))) == 4
        finally:
            started.stop()
        assert list(Path("/dev/shm").glob(f"{prefix}*")) == []

    def test_the_server_forgets_it(self, server: StartedTriton) -> None:
        from tritonclient.http import InferenceServerClient

        with closing(InferenceServerClient(server.address)) as client:
            with endpoint(server, shared_memory="system") as started:
                started.workload(1)
                assert len(client.get_system_shared_memory_status()) == 2
            assert client.get_system_shared_memory_status() == []

    def test_a_place_too_small_is_the_servers_error(
        self, server: StartedTriton, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pytest_gpuperf.targets.kserve.endpoint.output_sizes", lambda *_: {"y": 8})
        with endpoint(server, expected={"y": np.zeros(5)}, shared_memory="system") as started:
            workload = started.workload(1)
            with pytest.raises(AssertionError, match="shared memory"):
                ask(workload, workload.rotations[0][0])


def test_perf_analyzers_json(server: StartedTriton, tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [{"x": item["x"].tolist()} for item in ITEMS]
    right = [{"y": {"content": one["y"].tolist(), "shape": [5]}} for one in RIGHT]
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"data": [entries[:2], entries[2:]], "validation_data": [right[:2], right[2:]]}))
    with endpoint(server, input_data=file) as started:
        workload = started.workload(2)
        assert [ask(workload, request) for request in workload.rotations[0]] == [[""]] * 3


def test_statistics_are_the_same_in_both_protocols(server: StartedTriton) -> None:
    with endpoint(server) as over_http, endpoint(server, protocol="grpc") as over_grpc:
        assert over_http.server_times() == over_grpc.server_times()
        over_http.check()
        over_grpc.check()
        facts = over_http.under_test(), over_grpc.under_test()
        assert [fact["protocol"] for fact in facts] == ["http", "grpc"]
        assert facts[0]["server"] == facts[1]["server"] == "triton 2.51.0"


def test_a_triton_endpoint_is_asked_over_grpc(doubled: Path) -> None:
    started = TritonEndpoint(doubled, threads=1, protocol="grpc", input_data=ITEMS, expected=RIGHT).start()
    try:
        workload = started.workload(3)
        assert isinstance(workload, WireWorkload)
        assert workload.addresses[0].label == started.grpc_address
        assert [ask(workload, request) for request in workload.rotations[0]] == [[""]] * 2
        assert started.under_test()["protocol"] == "grpc"
        started.check()
    finally:
        started.stop()


def test_a_triton_endpoint_that_can_not_be_asked_is_not_started(doubled: Path) -> None:
    with pytest.raises(OptionError, match="streaming=True needs gRPC"):
        TritonEndpoint(doubled, streaming=True)
    with pytest.raises(OptionError, match="protocol='tcp'"):
        TritonEndpoint(doubled, protocol="tcp")


COUNTING = """
import ctypes
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    \"\"\"Answers with 0, 1, ... as often as it is told to.\"\"\"

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            times = int(np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "times"))[0])
            for number in range(times):
                capsule = np.array([number], np.int32).__dlpack__()
                ctypes.pythonapi.PyCapsule_SetDestructor(ctypes.py_object(capsule), None)
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("number", capsule)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None
"""
CONFIG = """
name: "counting" backend: "python" max_batch_size: 0
input [{ name: "times" data_type: TYPE_INT32 dims: [ 1 ] }]
output [{ name: "number" data_type: TYPE_INT32 dims: [ 1 ] }]
instance_group [{ count: 1 kind: KIND_CPU }]
model_transaction_policy { decoupled: true }
"""


def few(outputs: dict[str, Any]) -> bool:
    return 0 <= int(outputs["number"][0]) < 3


@contextmanager
def counting(**settings: Any) -> Iterator[StartedTriton]:
    scratch = Path(tempfile.mkdtemp(prefix="gpuperf-test-"))
    version = scratch / "counting" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(COUNTING)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    started = None
    try:
        started = TritonEndpoint(repository=scratch, model="counting", **settings).start()
        yield started
    finally:
        if started is not None:
            started.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def test_a_decoupled_models_answers_are_counted() -> None:
    items: Sequence[dict[str, Any]] = [{"times": [times]} for times in (3, 1, 0, 5)]
    settings: dict[str, Any] = {"protocol": "grpc", "streaming": True, "input_data": items, "expected": few}
    with counting(**settings) as started:
        workload = started.workload(1)
        assert isinstance(workload, WireWorkload)
        said = [ask(workload, request) for request in workload.rotations[0]]
        wrong = "expected= rejected it"
        assert said == [[""] * 3, [""], [], ["", "", "", wrong, wrong]]


def test_a_decoupled_model_over_http_is_refused() -> None:
    with pytest.raises((OptionError, TargetError), match="'counting' is decoupled"), counting():
        pass
