"""What a user's editor and type checker make of the fixtures."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import TypedDict

import pytest

import pytest_gpuperf
from pytest_gpuperf import KServeEndpoint, TritonEndpoint, plugin
from pytest_gpuperf.targets.fleet.factory import BalancerOptions, EndpointOptions
from tests.e2e.language_server import parameters_at

RIGHT = """\
import pytest

from pytest_gpuperf import (
    Gpu,
    Gpuperf,
    KServeEndpoint,
    OnnxRuntimeEngine,
    TensorRTEngine,
    TritonEndpoint,
    TritonFleetFactory,
)


@pytest.mark.gpuperf(min_effect=0.02)
def test_model(
    gpuperf: Gpuperf,
    gpu: Gpu,
    triton_endpoint: type[TritonEndpoint],
    triton_fleet: TritonFleetFactory,
    kserve_endpoint: type[KServeEndpoint],
    onnxruntime_engine: type[OnnxRuntimeEngine],
    tensorrt_engine: type[TensorRTEngine],
) -> None:
    endpoint = triton_endpoint("m.onnx", max_batch_size=32, dynamic_batching=True, instances=2)
    curve = gpuperf.sweep(endpoint, concurrency=[1, 2, 4], batch_size=8)
    assert curve.best(p90_ms=50).throughput > 400
    gpuperf.duet(tensorrt_engine("m.onnx", precision="fp16"), onnxruntime_engine("m.onnx"))
    gpuperf.measure(kserve_endpoint("127.0.0.1:8000", "m"), rate=100)
    fleet = triton_fleet("m.onnx", devices=gpu(mig="1g.10gb", count=7), balancer="envoy", dynamic_batching=True)
    gpuperf.scaling(fleet, replicas=[1, 2])
    gpuperf.scaling(triton_fleet(endpoint, gpu(mig="1g.10gb")), 1)
    gpuperf.sweep(triton_fleet("m", replicas=0, balancer="http://127.0.0.1:50050", bearer_token="secret"))
    gpuperf.sweep(lambda: print(gpu.name), rate=[1, 2])
"""

#: Calls that a type checker refuses, for a wrong keyword and for a wrong type of each fixture.
WRONG = (
    'triton_endpoint("m.onnx", max_batchsize=32)',
    'triton_endpoint("m.onnx", instances="two")',
    'triton_fleet("m.onnx", balancr="envoy")',
    'triton_fleet("m.onnx", max_batchsize=3)',
    'triton_fleet("m.onnx", instances="two")',
    'triton_fleet("m.onnx", replicas=2, bearer_token="secret")',
    'kserve_endpoint("127.0.0.1:8000", "m", header={})',
    'kserve_endpoint(8000, "m")',
    'onnxruntime_engine("m.onnx", label=1)',
    'onnxruntime_engine("m.onnx", thread=1)',
    'tensorrt_engine("m.onnx", precission="fp16")',
    'tensorrt_engine("m.onnx", streams="two")',
    'gpu(migg="1g.10gb")',
    'gpu(count="two")',
    "gpuperf.sweep(print, concurency=2)",
    'gpuperf.sweep(print, concurrency="two")',
    "gpuperf.sweep(3)",
)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A user's test file, right up to where ``WRONG`` begins."""
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    path = tmp_path / "test_suite.py"
    path.write_text(RIGHT + "".join(f"    {call}\n" for call in WRONG))
    return path


def refused(suite: Path, *command: str) -> list[str]:
    """Return the lines in which a type checker finds errors."""
    done = subprocess.run(
        [sys.executable, "-m", *command, suite.name], cwd=suite.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    lines = suite.read_text().splitlines()
    found = re.findall(r"test_suite\.py:(\d+):.*\berror:", done.stdout.replace(" - error", ": error"))
    return list(dict.fromkeys(lines[int(number) - 1].strip() for number in found))


def test_mypy_takes_what_is_right_and_refuses_what_is_wrong(suite: Path) -> None:
    pytest.importorskip("mypy")
    assert refused(suite, "mypy", "--strict", "--config-file=", "--python-version=3.10") == list(WRONG)


def test_pyright_takes_what_is_right_and_refuses_what_is_wrong(suite: Path) -> None:
    pytest.importorskip("basedpyright")
    assert refused(suite, "basedpyright", "--pythonpath", sys.executable) == list(WRONG)


@pytest.mark.parametrize(
    ("call", "parameters"),
    [
        ("triton_endpoint(", {"source", "max_batch_size", "dynamic_batching", "instances", "protocol", "visible"}),
        ("tensorrt_engine(", {"onnx", "precision", "batch_sizes", "streams"}),
        ("triton_fleet(", {"source", "devices", "replicas", "balancer", "dynamic_batching", "bearer_token"}),
        ("gpuperf.sweep(", {"target", "concurrency", "batch_size", "rate"}),
        ("gpu(", {"mig", "count"}),
    ],
)
def test_an_editor_shows_the_parameters(suite: Path, call: str, parameters: set[str]) -> None:
    pytest.importorskip("basedpyright")
    shown = {parameter.partition(":")[0] for parameter in parameters_at(suite, call)}
    assert shown >= parameters


def test_fixtures_have_the_types_that_users_write() -> None:
    """An editor that knows pytest takes the types from the fixtures and needs no annotations."""
    module = ast.parse(Path(plugin.__file__).read_text())
    fixtures = {
        node.name: ast.unparse(node.returns)
        for node in module.body
        if isinstance(node, ast.FunctionDef) and node.decorator_list and node.returns
    }
    (test,) = (node for node in ast.parse(RIGHT).body if isinstance(node, ast.FunctionDef))
    assert fixtures == {
        argument.arg: ast.unparse(argument.annotation) for argument in test.args.args if argument.annotation
    }
    assert set(re.findall(r"[A-Z]\w+", " ".join(fixtures.values()))) <= set(pytest_gpuperf.__all__)


@pytest.mark.parametrize(
    ("options", "target", "decided_by_the_fleet"),
    [
        (EndpointOptions, TritonEndpoint, {"source", "http_port", "grpc_port", "visible", "cpus"}),
        (BalancerOptions, KServeEndpoint, {"url", "model", "balance", "weights"}),
    ],
)
def test_a_fleet_takes_the_settings_of_its_endpoints(
    options: type[TypedDict],  # type: ignore[valid-type]
    target: type[TritonEndpoint | KServeEndpoint],
    decided_by_the_fleet: set[str],
) -> None:
    settings = {field.name: field.type for field in fields(target) if field.name not in decided_by_the_fleet}
    annotations = {name: hint.__forward_arg__ for name, hint in options.__annotations__.items()}
    assert annotations == settings
