"""Start-up, first answers and failed requests of a real server, gated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.invocations import Run

CONFIG = """
name: "stream" backend: "python" max_batch_size: 0
model_transaction_policy { decoupled: true }
input [{ name: "x" data_type: TYPE_FP32 dims: [ 1 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }]
instance_group [{ count: 1 kind: KIND_CPU }]
"""
MODEL = """
import os
import time

import numpy as np
import triton_python_backend_utils as pb_utils

SLOWER = float(os.environ.get("SLOWER", "1"))


class TritonPythonModel:
    def initialize(self, args):
        time.sleep(0.5 * SLOWER)
        self.requests = 0

    def execute(self, requests):
        for request in requests:
            self.requests += 1
            sender = request.get_response_sender()
            time.sleep(0.004 * SLOWER)
            if SLOWER > 1 and self.requests % 20 == 0:
                error = pb_utils.InferenceResponse(error=pb_utils.TritonError("overloaded"))
                sender.send(error, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                continue
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("y", np.zeros(1, dtype=np.float32))]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
SUITE = """
    import pytest

    @pytest.mark.gpuperf(metrics=["startup", "model_load", "failed", "goodput_20ms", "first_p50"])
    def test_stream(gpuperf, triton_endpoint):
        target = triton_endpoint(
            repository="models", model="stream", server="bundled", protocol="grpc", streaming=True
        )
        gpuperf.sweep(target, window_s=0.3)
"""


@pytest.fixture(autouse=True)
def suite(pytester: pytest.Pytester) -> None:
    version = pytester.mkdir("models") / "stream" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    pytester.makepyfile(test_stream=SUITE)


def test_a_slower_start_a_later_first_answer_and_failures_are_regressions(run: Run, pytester: pytest.Pytester) -> None:
    run().assert_outcomes(passed=1)
    result = run("--gpuperf-report=report.json", SLOWER="10")
    result.assert_outcomes(failed=1)
    test = json.loads(Path(pytester.path / "report.json").read_text())["tests"][0]
    verdicts = {(row["metric"], row["point"]): row["verdict"] for row in test["rows"]}
    assert verdicts["model_load", "start"] == "regressed"
    assert verdicts["first_p50", "concurrency 1"] == "regressed"
    assert verdicts["goodput_20ms", "concurrency 1"] == "regressed"
    failed = next(row for row in test["rows"] if row["metric"] == "failed")
    assert failed["baseline"] == 0
    assert failed["candidate"] == pytest.approx(0.05, abs=0.02)
    cold, warm = test["starts"]
    assert cold["cold"]
    assert not warm["cold"]
    assert all(5 <= start["model_load_s"] < start["startup_s"] for start in (cold, warm))
    assert {start["engine_build_s"] for start in (cold, warm)} == {None}
