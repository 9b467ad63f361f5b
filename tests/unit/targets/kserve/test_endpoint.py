from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_gpuperf.errors import OptionError, TargetDied, TargetError
from pytest_gpuperf.model import Address, Request, ServerTimes, StreamAnswer
from pytest_gpuperf.targets.kserve import KServeEndpoint
from pytest_gpuperf.targets.payload import Array
from tests.unit.load.hostile import Exchange, Server, answers, response
from tests.unit.load.listening import HOST
from tests.unit.targets.kserve.fake_servers import ALL, HttpTriton, grpc_triton


@pytest.fixture
def triton() -> Iterator[tuple[Server, HttpTriton]]:
    behave = HttpTriton(*ALL)
    with Server(behave) as server:
        yield server, behave


def url(server: Server) -> str:
    return f"{HOST}:{server.port}"


def parts(request: Request) -> tuple[dict[str, Any], bytes]:
    """JSON and binary part of a body."""
    length = int(dict(request.headers).get("Inference-Header-Content-Length", len(request.body)))
    return json.loads(request.body[:length]), request.body[length:]


class TestWorkload:
    def test_uses_the_extensions_that_the_server_lists(self, triton: tuple[Server, HttpTriton]) -> None:
        started = KServeEndpoint(url(triton[0]), "m").start()
        try:
            workload = started.workload(4)
            assert workload.protocol == "http"
            assert workload.addresses == (Address(HOST, triton[0].port),)
            assert workload.path == "/v2/models/m/infer"
            assert workload.batch_size == 4
            assert workload.max_in_flight is None
            ((request,),) = workload.rotations
            head, tail = parts(request)
            assert head["inputs"][0]["shape"] == [4, 4]
            assert len(tail) == 4 * 4 * 4
            assert started.server_times() == ServerTimes(33, 22, 22, 33, 44, 55)
            facts = started.under_test()
            assert facts["server"] == "fake 1.2"
            assert facts["versions"] == "1, 2"
            assert re.fullmatch("[0-9a-f]{32}", str(facts["config_digest"]))
        finally:
            started.stop()
            started.stop()

    def test_and_no_others(self) -> None:
        with Server(HttpTriton(max_batch_size=1)) as server:
            started = KServeEndpoint(f"http://{url(server)}", "m").start()
            ((request,),) = started.workload(3).rotations
            assert dict(request.headers)["Content-Type"] == "application/json"
            assert json.loads(request.body)["inputs"][0]["shape"] == [3, 4]
            assert started.server_times() is None
            assert "config_digest" not in started.under_test()
            started.stop()
            assert not any(b"/config" in request or b"/stats" in request for request in server.seen)

    def test_every_run_sends_the_same_bytes(self, triton: tuple[Server, HttpTriton]) -> None:
        bodies = set()
        for _ in range(2):
            started = KServeEndpoint(url(triton[0]), "m", payloads=3).start()
            bodies.add(tuple(request.body for request in started.workload(2).rotations[0]))
            started.stop()
        (sent,) = bodies
        assert len(set(sent)) == 3

    def test_has_no_shared_state_of_in_flight_without_shared_memory(self, triton: tuple[Server, HttpTriton]) -> None:
        started = KServeEndpoint(url(triton[0]), "m").start()
        assert len(started.workload(1, 100).rotations) == 1
        started.stop()

    def test_can_be_sent_to_other_processes(self, triton: tuple[Server, HttpTriton]) -> None:
        endpoint = KServeEndpoint(url(triton[0]), "m", expected={"y": [1, 2]}, bearer_token="secret")
        started = pickle.loads(pickle.dumps(endpoint)).start()
        workload = pickle.loads(pickle.dumps(started.workload(2)))
        assert dict(workload.headers) == {"authorization": "Bearer secret"}
        ((request,),) = workload.rotations
        answer = {"outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 1, 2]}]}
        assert request.check(json.dumps(answer).encode(), {}) == ""
        started.stop()

    def test_given_inputs_are_sent(self, triton: tuple[Server, HttpTriton]) -> None:
        values = np.array([1, 2, 3, 4], np.float32)
        started = KServeEndpoint(url(triton[0]), "m", inputs={"x": values}).start()
        assert started.workload(2).rotations[0][0].body.endswith(values.tobytes() * 2)
        started.stop()

    def test_a_version_is_part_of_the_path(self, triton: tuple[Server, HttpTriton]) -> None:
        started = KServeEndpoint(url(triton[0]), "m", version="2").start()
        assert started.workload(1).path == "/v2/models/m/versions/2/infer"
        assert started.under_test()["versions"] == "2"
        started.stop()

    def test_a_batch_above_the_models_limit_is_refused(self, triton: tuple[Server, HttpTriton]) -> None:
        started = KServeEndpoint(url(triton[0]), "m").start()
        with pytest.raises(OptionError, match="batch_size=9 is above the model's max_batch_size=8"):
            started.workload(9)
        started.stop()

    def test_a_model_without_batches_takes_none(self) -> None:
        with Server(HttpTriton(*ALL, max_batch_size=0, shape=(2, 4))) as server:
            started = KServeEndpoint(url(server), "m").start()
            with pytest.raises(OptionError, match="batch_size=2 can't be sent"):
                started.workload(2)
            assert len(parts(started.workload(1).rotations[0][0])[1]) == 2 * 4 * 4
            started.stop()

    def test_a_function_that_can_not_be_sent_is_refused(self, triton: tuple[Server, HttpTriton]) -> None:
        with pytest.raises(OptionError, match=r"can't be sent to the load generator's processes .*define it with def"):
            KServeEndpoint(url(triton[0]), "m", expected=lambda _: True).start()


class TestGrpc:
    def test_needs_only_the_grpc_port(self) -> None:
        pb = pytest.importorskip("tritonclient.grpc.service_pb2")
        with grpc_triton(*ALL) as (port, _):
            started = KServeEndpoint(f"grpc://{HOST}:{port}", "m", version="2", expected={"y": [1, 2]}).start()
            workload = started.workload(4)
            assert workload.protocol == "grpc"
            assert workload.path == "/inference.GRPCInferenceService/ModelInfer"
            ((request,),) = workload.rotations
            sent = pb.ModelInferRequest.FromString(request.body)
            assert (sent.model_name, sent.model_version) == ("m", "2")
            assert list(sent.inputs[0].shape) == [4, 4]
            assert "triton_enable_empty_final_response" not in sent.parameters
            assert started.server_times() == ServerTimes(33, 22, 22, 33, 44, 55)
            assert started.under_test()["protocol"] == "grpc"
            started.check()
            started.stop()

    def test_streams_ask_for_an_end(self) -> None:
        pb = pytest.importorskip("tritonclient.grpc.service_pb2")
        with grpc_triton(*ALL, decoupled=True) as (port, _):
            started = KServeEndpoint(f"{HOST}:{port}", "m", protocol="grpc", streaming=True).start()
            workload = pickle.loads(pickle.dumps(started.workload(1)))
            assert workload.protocol == "grpc-stream"
            assert workload.path == "/inference.GRPCInferenceService/ModelStreamInfer"
            sent = pb.ModelInferRequest.FromString(workload.rotations[0][0].body)
            assert sent.parameters["triton_enable_empty_final_response"].bool_param
            assert workload.read_stream(b"") == StreamAnswer(last=True, empty=True)
            started.stop()

    @pytest.mark.parametrize("protocol", ["http", "grpc"])
    def test_a_decoupled_model_needs_a_stream(self, protocol: str) -> None:
        message = r"'m' is decoupled.*protocol='grpc' and streaming=True"
        if protocol == "grpc":
            with grpc_triton(*ALL, decoupled=True) as (port, _), pytest.raises(OptionError, match=message):
                KServeEndpoint(f"grpc://{HOST}:{port}", "m").start()
        else:
            with Server(HttpTriton(*ALL, decoupled=True)) as server, pytest.raises(OptionError, match=message):
                KServeEndpoint(url(server), "m").start()

    def test_streams_need_grpc(self) -> None:
        with pytest.raises(OptionError, match="streaming=True needs gRPC"):
            KServeEndpoint("host:8000", "m", streaming=True).start()


class TestSeveralServers:
    def test_share_the_load(self, triton: tuple[Server, HttpTriton]) -> None:
        with Server(HttpTriton(*ALL)) as other:
            urls = [url(triton[0]), url(other)]
            endpoint = KServeEndpoint(urls, "m", weights=[1, 2], balance="least-outstanding")
            started = endpoint.start()
            workload = started.workload(1)
            assert workload.addresses == (Address(HOST, triton[0].port, 1.0), Address(HOST, other.port, 2.0))
            assert workload.balance == "least-outstanding"
            assert started.server_times() == ServerTimes(66, 44, 44, 66, 88, 110)
            assert started.under_test()["server"] == "fake 1.2"
            assert started.under_test()["endpoints"] == 2
            started.check()
            other.die()
            with pytest.raises(TargetDied, match=url(other)):
                started.check()
            started.stop()

    @pytest.mark.parametrize(
        ("other", "part"),
        [
            (HttpTriton(*ALL, shape=(-1, 5)), "inputs"),
            (HttpTriton(*ALL, max_batch_size=4), "max_batch_size"),
        ],
    )
    def test_that_differ_are_named(self, triton: tuple[Server, HttpTriton], other: HttpTriton, part: str) -> None:
        with Server(other) as second:
            message = f"'m' differs between {url(second)} and {url(triton[0])} in its {part}"
            with pytest.raises(TargetError, match=message):
                KServeEndpoint([url(triton[0]), url(second)], "m").start()

    def test_use_the_extensions_that_all_have(self, triton: tuple[Server, HttpTriton]) -> None:
        with Server(HttpTriton()) as other:
            started = KServeEndpoint([url(triton[0]), url(other)], "m").start()
            assert started.server_times() is None
            assert dict(started.workload(1).rotations[0][0].headers)["Content-Type"] == "application/json"
            started.stop()


class TestSharedMemory:
    def test_needs_the_servers_extension(self) -> None:
        with (
            Server(HttpTriton("model_configuration")) as server,
            pytest.raises(
                OptionError, match=f"{url(server)} does not support system shared memory; use shared_memory='none'"
            ),
        ):
            KServeEndpoint(url(server), "m", shared_memory="system").start()

    def test_that_the_server_refuses_is_removed(self, triton: tuple[Server, HttpTriton]) -> None:
        before = set(Path("/dev/shm").glob("gpuperf-*-system-*"))
        started = KServeEndpoint(url(triton[0]), "m", shared_memory="system").start()
        with pytest.raises(TargetError, match="Shared memory needs a server on this host"):
            started.workload(1)
        started.stop()
        assert set(Path("/dev/shm").glob("gpuperf-*-system-*")) <= before

    def test_needs_to_know_the_size_of_the_outputs(self, triton: tuple[Server, HttpTriton]) -> None:
        triton[1].documents["model"]["outputs"][0]["shape"] = [-1, -1]
        started = KServeEndpoint(url(triton[0]), "m", shared_memory="system").start()
        with pytest.raises(OptionError, match=r"output 'y' \(FP32, \[-1\]\).*output_shared_memory_size="):
            started.workload(1)
        started.stop()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_tensor_format": "xml"}, "input_tensor_format='xml' must be 'binary' or 'json'"),
        ({"composing_models": "a"}, "composing_models='a' must be a list of names"),
        ({"shared_memory": "gpu"}, "shared_memory='gpu' must be 'none', 'system' or 'cuda'"),
        ({"tolerance": -0.1}, "tolerance=-0.1"),
        ({"output_shared_memory_size": 0}, "output_shared_memory_size=0"),
        ({"payloads": 0}, "payloads=0"),
    ],
)
def test_settings_that_can_not_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        KServeEndpoint("host:8000", "m", **settings)


def test_facts_tell_what_the_work_is(triton: tuple[Server, HttpTriton]) -> None:
    started = KServeEndpoint(url(triton[0]), "m", input_data="zero", bearer_token="secret").start()
    facts = started.under_test()
    assert {name: facts[name] for name in ("protocol", "encrypted", "endpoints", "shared_memory", "input_data")} == {
        "protocol": "http",
        "encrypted": False,
        "endpoints": 1,
        "shared_memory": "none",
        "input_data": "zero",
    }
    assert "secret" not in str(facts)
    started.stop()


class TestServer:
    def test_an_unknown_model_is_a_target_error_that_names_it(self, triton: tuple[Server, HttpTriton]) -> None:
        with pytest.raises(TargetError, match=r"refused get_model_metadata.*'flower'.*no such thing"):
            KServeEndpoint(url(triton[0]), "flower").start()

    @pytest.mark.parametrize("protocol", ["http", "grpc"])
    def test_nobody_there_is_a_target_error_with_the_remedy(self, protocol: str) -> None:
        with Server(answers(b"")) as server:
            port = server.port
        with pytest.raises(
            TargetError, match=rf"{HOST}:{port} does not answer(.|\n)*Start the server, or correct url="
        ) as caught:
            KServeEndpoint(f"{HOST}:{port}", "m", protocol=protocol).start()
        assert not isinstance(caught.value, TargetDied), "it never lived"

    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            response(b"<html>It works!</html>", "200 OK", "Content-Type: text/html"),
            response(b"[]", "200 OK", "Content-Type: application/json"),
        ],
    )
    def test_something_else_there_is_a_target_error(self, answer: bytes) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.send(answer)
            exchange.hang_up()

        with Server(behave) as server, pytest.raises(TargetError, match=url(server)):
            KServeEndpoint(url(server), "m").start()

    def test_another_service_that_speaks_json_is_a_target_error(self) -> None:
        answer = response(b'{"status": "ok"}', "200 OK", "Content-Type: application/json")
        with Server(answers(answer)) as server, pytest.raises(TargetError, match=url(server)):
            KServeEndpoint(url(server), "m").start().workload(1)

    def test_a_server_that_is_gone_or_no_longer_ready_died(self, triton: tuple[Server, HttpTriton]) -> None:
        server, behave = triton
        started = KServeEndpoint(url(server), "m").start()
        started.check()
        behave.ready = False
        with pytest.raises(TargetDied, match=url(server)):
            started.check()
        behave.ready = True
        started.check()
        server.die()
        with pytest.raises(TargetDied, match=url(server)):
            started.check()
        with pytest.raises(TargetDied, match=url(server)):
            started.server_times()
        started.stop()


def test_is_called_after_its_model() -> None:
    assert KServeEndpoint("host:8000", "flower").name == "flower"


def judge(outputs: dict[str, Array]) -> bool:
    return bool(outputs["y"].any())


def test_a_function_at_the_top_level_judges(triton: tuple[Server, HttpTriton]) -> None:
    started = KServeEndpoint(url(triton[0]), "m", expected=judge).start()
    check = pickle.loads(pickle.dumps(started.workload(1))).rotations[0][0].check
    assert check(b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0, 1]}]}', {}) == ""
    assert check(b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}]}', {}) != ""
    started.stop()
