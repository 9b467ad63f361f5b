"""Sequences to real stateful models, which write down what they receive."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.load import Recording, WindowSpec
from pytest_gpuperf.measure.target_under_load import TargetUnderLoad
from pytest_gpuperf.model import Constant, LoadPoint
from pytest_gpuperf.targets.kserve import KServeEndpoint, Sequences
from pytest_gpuperf.targets.kserve.sequences import INTEGER_ID, STRING_ID
from pytest_gpuperf.targets.kserve.served_model import ServedModel
from pytest_gpuperf.targets.triton import TritonEndpoint, bundle
from pytest_gpuperf.targets.triton.endpoint import StartedTriton

pytestmark = pytest.mark.skipif(bundle.installed() is None, reason=f"needs a server: {bundle.INSTALL_COMMAND}")

MODEL = """\
import json, os
import triton_python_backend_utils as pb

class TritonPythonModel:
    def initialize(self, args):
        self.log = open(os.path.join(os.path.dirname(__file__), "log"), "a", buffering=1)

    def execute(self, requests):
        answers = []
        for request in requests:
            values = pb.get_input_tensor_by_name(request, "IN").as_numpy()
            flags, parameters = request.flags(), json.loads(request.parameters() or "{}")
            line = [request.correlation_id(), bool(flags & 1), bool(flags & 2), int(values.reshape(-1)[0])]
            if line[0]:  # the sequence batcher fills its idle slots with requests of no sequence
                self.log.write(json.dumps([*line, parameters]) + "\\n")
            if values.reshape(-1)[0] == 99:
                answers.append(pb.InferenceResponse(error=pb.TritonError("99 is refused")))
            else:
                answers.append(pb.InferenceResponse([pb.Tensor("OUT", values)]))
        return answers
"""
CONFIG = """\
backend: "python"
max_batch_size: 4
sequence_batching { direct {} }
input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
PASS_ON = """\
platform: "ensemble"
max_batch_size: 4
input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
ensemble_scheduling { step [ { model_name: "counter" model_version: -1
  input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" } } ] }
"""
#: Two streams: sequences of three and of two.
STREAMS = [[{"IN": [1]}, {"IN": [2]}, {"IN": [3]}], [{"IN": [4]}, {"IN": [5]}]]


class Served:
    """A server of stateful models, and what they have received."""

    def __init__(self, repository: Path, server: StartedTriton) -> None:
        self._repository, self._server = repository, server

    def load(self, point: LoadPoint, spec: WindowSpec, model: str = "counter", **settings: Any) -> Recording:
        """Apply a load; the log begins anew."""
        for log in self._repository.glob("*/1/log"):
            log.write_text("")
        address = self._server.grpc_address if settings.get("protocol") == "grpc" else self._server.address
        endpoint = KServeEndpoint(address, model, **settings)
        workers = 2 if point.concurrency != 1 else 1
        with closing(TargetUnderLoad.start(endpoint, lambda _: 256, [point], workers)) as under_load:
            return under_load.apply(point, spec)

    def received(self, model: str = "counter") -> list[list[Any]]:
        """Return the requests in the order of their execution: id, start, end, value, parameters."""
        return [json.loads(line) for line in (self._repository / model / "1/log").read_text().splitlines()]

    def sequences(self, model: str = "counter") -> list[tuple[Any, list[int]]]:
        """Return the id and the values of each sequence, all of which must be whole."""
        begun: dict[Any, list[int]] = {}
        whole = []
        for identity, starts, ends, value, _ in self.received(model):
            if starts:
                assert identity not in begun
                begun[identity] = []
            begun[identity].append(value)
            if ends:
                whole.append((identity, begun.pop(identity)))
        assert not begun, "the server was left with open sequences"
        return whole


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    repository = tmp_path_factory.mktemp("stateful")
    for name, config in (("counter", CONFIG), ("behind", PASS_ON)):
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(config)
        if "python" in config:
            (repository / name / "1/model.py").write_text(MODEL)
    # The ensemble loads its step.
    server = TritonEndpoint(repository=repository, model="behind").start()
    yield Served(repository, server)
    server.stop()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"protocol": "grpc"},
        {"protocol": "grpc", "streaming": True},
        {"shared_memory": "system"},
    ],
    ids=["http", "grpc", "stream", "shared memory"],
)
def test_a_window_sends_whole_sequences(served: Served, settings: dict[str, Any]) -> None:
    recording = served.load(LoadPoint(3), WindowSpec(3, 0.3), input_data=STREAMS, **settings)
    assert not recording.errors, recording.error_sample
    sequences = served.sequences()
    # The last sequence of each is cut: its last request follows at once.
    uncut = [values for _, values in sequences if values in ([1, 2, 3], [4, 5])]
    assert len(sequences) - len(uncut) <= 3
    assert [1, 2, 3] in uncut
    assert [4, 5] in uncut
    assert all(values[-1] in (3, 5) for _, values in sequences)


def test_the_answers_are_those_of_the_window_only(served: Served) -> None:
    spec = WindowSpec(2, 0.0, min_requests=7)
    recording = served.load(LoadPoint(2), spec, input_data=STREAMS)
    inside = [due for lane in recording.lanes for due in lane.due_ns if due < recording.stop_ns]
    assert len(inside) == 7
    assert len(served.received()) == recording.answered >= 7
    assert served.sequences()


def test_an_ensemble_with_a_stateful_step_is_stateful(served: Served) -> None:
    recording = served.load(LoadPoint(1), WindowSpec(1, 0.1), model="behind", input_data=STREAMS[0])
    assert not recording.errors
    assert [1, 2, 3] in [values for _, values in served.sequences()]


def test_open_loop_goes_round_as_many_sequences_as_it_is_told(served: Served) -> None:
    arrivals = Constant(400.0)
    spec = WindowSpec(0, 0.4, arrivals=arrivals)
    sequences = Sequences(length=5, variation=0.0, first_id=70, end_id=73, at_once=3)
    recording = served.load(LoadPoint.open_loop(arrivals), spec, sequences=sequences)
    assert not recording.errors, recording.error_sample
    assert {identity for identity, _ in served.sequences()} == {70, 71, 72}
    open_now: set[Any] = set()
    most = 0
    for identity, starts, ends, _, _ in served.received():
        open_now |= {identity} if starts else set()
        most = max(most, len(open_now))
        open_now -= {identity} if ends else set()
    assert most == 3


def test_a_refused_request_begins_a_new_sequence(served: Served) -> None:
    data = [[{"IN": [1]}, {"IN": [99]}, {"IN": [2]}], [{"IN": [4]}, {"IN": [5]}]]
    recording = served.load(LoadPoint(2), WindowSpec(2, 0.4, deadline_s=5), input_data=data)
    assert set(recording.errors) == {"HTTP 500"}
    received = served.received()
    refused = [number for number, (*_, value, _) in enumerate(received) if value == 99]
    assert refused
    for number in refused:
        identity = received[number][0]
        later = [request for request in received[number + 1 :] if request[0] == identity]
        assert all(starts for _, starts, *_ in later[:1]), "the server saw the rest of a refused sequence"


def test_parameters_go_with_every_request(served: Served) -> None:
    wanted = {"max_tokens": 256, "mode": "fast", "echo": True}
    for protocol in ("http", "grpc"):
        served.load(LoadPoint(1), WindowSpec(1, 0.0, min_requests=2), protocol=protocol, parameters=wanted)
        received = [parameters for *_, parameters in served.received()]
        assert received
        assert all(wanted.items() <= parameters.items() for parameters in received)


def test_a_batch_is_refused(served: Served) -> None:
    with pytest.raises(OptionError, match=r"batch_size=2 can't be sent, since 'counter' is stateful"):
        served.load(LoadPoint(1, 2), WindowSpec(1, 0.1))


def test_too_few_ids_are_refused(served: Served) -> None:
    with pytest.raises(OptionError, match="2 correlation ids are too few for 4 sequences at the same time"):
        served.load(LoadPoint(4), WindowSpec(4, 0.1), sequences=Sequences(end_id=3))


def test_several_servers_are_refused(served: Served) -> None:
    server = served._server.address
    with pytest.raises(OptionError, match="must reach the same server"):
        KServeEndpoint([server, server], "counter").start()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_ids_may_be_strings(served: Served, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    # This Triton refuses its own control tensor for such ids, so the configuration can't ask for it here.
    monkeypatch.setattr(ServedModel, "correlation_type", property(lambda model: STRING_ID if model.config else ""))
    served.load(LoadPoint(2), WindowSpec(2, 0.1), input_data=STREAMS, protocol=protocol)
    assert {identity for identity, _ in served.sequences()} == {"1", "2"}


@pytest.mark.parametrize(
    ("config", "correlation_type"),
    [
        ({}, ""),
        ({"sequence_batching": {}}, INTEGER_ID),
        (
            {
                "sequence_batching": {
                    "control_input": [
                        {"name": "START", "control": [{"kind": "CONTROL_SEQUENCE_START"}]},
                        {"name": "ID", "control": [{"kind": "CONTROL_SEQUENCE_CORRID", "data_type": "TYPE_STRING"}]},
                    ]
                }
            },
            STRING_ID,
        ),
    ],
)
def test_the_configuration_names_the_type_of_the_ids(config: dict[str, Any], correlation_type: str) -> None:
    assert ServedModel({}, config).correlation_type == correlation_type
