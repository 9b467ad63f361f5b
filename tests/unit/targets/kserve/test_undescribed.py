"""Models that their server does not describe: the inputs come from the user's data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.targets.input_data import InputSettings, make_payloads
from pytest_gpuperf.targets.kserve import KServeEndpoint
from pytest_gpuperf.targets.kserve.served_model import ServedModel
from pytest_gpuperf.targets.kserve.undescribed import with_inputs
from tests.unit.load.hostile import Exchange, Server, response
from tests.unit.targets.kserve.fake_servers import ALL, HttpTriton

BARE: dict[str, Any] = {"name": "iris", "versions": [], "platform": "", "inputs": [], "outputs": []}


def described(**settings: Any) -> ServedModel:
    return with_inputs(ServedModel(BARE, None), InputSettings(**settings), "iris", "host:8080")


def written(path: Path, *entries: Any) -> Path:
    (path / "data.json").write_text(json.dumps({"data": list(entries)}))
    return path / "data.json"


def test_a_file_tells_the_type_and_the_shape(tmp_path: Path) -> None:
    entry = {
        "x": {"content": [5.1, 3.5, 1.4, 0.2], "shape": [1, 4], "datatype": "FP64"},
        "text": ["a"],
        "n": [[1], [2]],
    }
    model = described(input_data=written(tmp_path, entry))
    assert {spec.name: (spec.datatype, spec.shape) for spec in model.inputs} == {
        "x": ("FP64", (1, 4)),
        "text": ("BYTES", (1,)),
        "n": ("INT64", (2, 1)),
    }
    assert not model.batched
    settings = InputSettings(input_data=tmp_path / "data.json")
    (payload,) = make_payloads(settings, model.inputs, batch_size=1, batched=False)
    assert payload.inputs["x"].tolist() == [[5.1, 3.5, 1.4, 0.2]]
    assert payload.inputs["text"].tolist() == [b"a"]


def test_sizes_that_differ_are_free(tmp_path: Path) -> None:
    model = described(input_data=written(tmp_path, [{"x": [[1.5, 2.5]]}, {"x": [[1.5, 2.5, 3.5]]}]))
    assert model.inputs[0].shape == (1, -1)


def test_arrays_and_sizes_tell_it_too() -> None:
    assert described(input_data=[{"x": np.zeros((2, 3), np.float32)}]).inputs[0].shape == (2, 3)
    (spec,) = described(shapes={"x": [1, 4]}).inputs
    assert (spec.datatype, spec.shape) == ("FP32", (1, 4))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ((), "host:8080 does not describe the inputs of 'iris'"),
        (({"x": {"content": {"b64": "AAAA"}}},), 'add "datatype" and "shape"'),
        (({"x": [1]}, {"x": [[1]]}), "differ in the type or the number of dimensions of 'x'"),
        (({"x": [[1], [1, 2]]},), "have no shape"),
        (({"x": {"content": [1], "shape": "wide"}},), "not a list of whole numbers"),
        (({"x": [None]},), 'add "datatype"'),
    ],
)
def test_data_that_do_not_tell_it(tmp_path: Path, entries: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        described(input_data=written(tmp_path, *entries))


def test_random_data_without_sizes_are_refused_with_what_to_write() -> None:
    with pytest.raises(OptionError, match=r"does not describe the inputs.*input_data=.*shapes=\{'NAME': \[1, 2\]\}"):
        described()


def test_a_description_is_kept() -> None:
    model = ServedModel({**BARE, "inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}]}, None)
    assert with_inputs(model, InputSettings(), "m", "host") is model


def test_a_server_may_not_describe_itself() -> None:
    said = HttpTriton(*ALL)

    def without(exchange: Exchange) -> None:
        if exchange.request.split()[1].rstrip(b"/") == b"/v2":
            exchange.send(response(b"not found", "404 Not Found"))
        else:
            said(exchange)

    with Server(without) as server:
        started = KServeEndpoint(f"127.0.0.1:{server.port}", "m").start()
        workload = started.workload(1)
        assert dict(workload.rotations[0][0].headers) == {"Content-Type": "application/json"}, "no extension is assumed"
        started.stop()
        with pytest.raises(TargetError, match="no such thing"):
            KServeEndpoint(f"127.0.0.1:{server.port}", "gone").start()


@pytest.mark.parametrize("absent", [{}, {"inputs": None, "outputs": None}])
def test_a_server_may_leave_out_what_it_does_not_describe(absent: dict[str, Any]) -> None:
    said = HttpTriton()
    said.documents["server"]["extensions"] = None
    said.documents["model"] = {"name": "m", **absent}
    with Server(said) as server:
        started = KServeEndpoint(f"127.0.0.1:{server.port}", "m", shapes={"x": [1, 4]}).start()
        assert [spec.name for spec in started.served_model.inputs] == ["x"]
        assert started.server_times() is None
        started.stop()
