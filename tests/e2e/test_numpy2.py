"""Python models of the user's, in the bundled server, under NumPy 2: its Python backend was built against NumPy 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.measure.target_under_load import TargetUnderLoad
from pytest_gpuperf.model import LoadPoint
from pytest_gpuperf.targets.kserve import KServeEndpoint
from pytest_gpuperf.targets.triton import TritonEndpoint, bundle
from pytest_gpuperf.targets.triton.endpoint import StartedTriton

pytestmark = [
    pytest.mark.skipif(bundle.installed() is None, reason=f"needs a server: {bundle.INSTALL_COMMAND}"),
    pytest.mark.skipif(int(np.__version__.partition(".")[0]) < 2, reason="NumPy 1 has no such fault"),
]

MODEL = """\
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            tensors = []
            for tensor in request.inputs():
                assert isinstance(tensor, pb.Tensor)
                values = tensor.as_numpy()
                # Written into, and with strides of its own.
                values[...] = values[..., ::-1].copy()
                tensors.append(pb.Tensor("OUT" + tensor.name(), values[..., ::-1][..., ::-1]))
            answers.append(pb.InferenceResponse(tensors))
        return answers
"""
TYPES = ["BOOL", "UINT8", "UINT16", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]


def tensors(kind: str, prefix: str, types: list[str]) -> str:
    names = ", ".join(f'{{ name: "{prefix}{name}" data_type: TYPE_{name} dims: [ 3 ] }}' for name in types)
    return f"{kind} [ {names} ]\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedTriton]:
    repository = tmp_path_factory.mktemp("numpy2")
    steps = []
    for name, types in (("numbers", TYPES), ("text", ["STRING"])):
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1/model.py").write_text(MODEL)
        (repository / name / "config.pbtxt").write_text(
            'backend: "python"\nmax_batch_size: 4\ninstance_group [ { kind: KIND_CPU } ]\n'
            + tensors("input", "", types)
            + tensors("output", "OUT", types)
        )
        maps = [
            f'{side}_map {{ key: "{prefix}{kind}" value: "{prefix}{kind}" }}'
            for kind in types
            for side, prefix in (("input", ""), ("output", "OUT"))
        ]
        steps.append(f'{{ model_name: "{name}" model_version: -1 {" ".join(maps)} }}')
    (repository / "both" / "1").mkdir(parents=True)
    (repository / "both/config.pbtxt").write_text(
        'platform: "ensemble"\nmax_batch_size: 4\n'
        + tensors("input", "", [*TYPES, "STRING"])
        + tensors("output", "OUT", [*TYPES, "STRING"])
        + f"ensemble_scheduling {{ step [ {', '.join(steps)} ] }}"
    )
    started = TritonEndpoint(repository=repository, model="both").start()
    yield started
    started.stop()


def apply(server: StartedTriton, model: str, **settings: Any) -> None:
    point = LoadPoint(1, 2)
    endpoint = KServeEndpoint(server.address, model, **settings)
    with closing(TargetUnderLoad.start(endpoint, lambda _: 1, [point])) as under_load:
        under_load.apply(point, WindowSpec(1, 0.0, min_requests=3), errors=False)


def test_models_read_and_return_numbers(server: StartedTriton) -> None:
    item = {name: [1, 0, 0] for name in TYPES}
    right = {f"OUT{name}": [0, 0, 1] for name in TYPES}
    apply(server, "numbers", input_data=[item], expected=right)


def test_a_model_that_reads_strings_is_told_what_to_do(server: StartedTriton) -> None:
    with pytest.raises(LoadError, match=r"under NumPy 2.*pip install .{1,2}numpy<2"):
        apply(server, "text", string_data="a")
