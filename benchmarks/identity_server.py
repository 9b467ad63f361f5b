"""A real tritonserver whose models return their input, which measures the server and the client alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_gpuperf.model import GRPC, HTTP
from pytest_gpuperf.targets.scratch import Scratch
from pytest_gpuperf.targets.triton.launchers import choose_launcher
from pytest_gpuperf.targets.triton.server import ServerProcess

#: The sizes of the models' tensors, in floats: 64 bytes, and a ResNet-50's input.
SIZES = {"identity": 16, "image": 3 * 224 * 224}

# DLPack in both directions, for the reasons in pytest_gpuperf/targets/triton/python_backend/gpuperf_requests.py.
_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("OUTPUT0", tensor.to_dlpack())]))
        return answers
"""

# The answer to an image is a single float: only the upload is measured.
_SINK = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            first = np.array(np.from_dlpack(tensor)[:, :1])
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("OUTPUT0", _whole(first))]))
        return answers

import ctypes
def _whole(values):
    capsule = values.__dlpack__()
    ctypes.pythonapi.PyCapsule_SetDestructor(ctypes.py_object(capsule), None)
    return capsule
"""


@dataclass(frozen=True)
class IdentityServer:
    """Addresses of the running server."""

    http: str
    grpc: str


@contextmanager
def identity_server() -> Iterator[IdentityServer]:
    """Start the server, and stop it at the end."""
    scratch = Scratch("triton")
    root = scratch.path
    assert root is not None
    try:
        for name, size in SIZES.items():
            model = root / "repository" / name
            (model / "1").mkdir(parents=True)
            (model / "1" / "model.py").write_text(_MODEL if name == "identity" else _SINK)
            out = size if name == "identity" else 1
            (model / "config.pbtxt").write_text(
                f'name: "{name}"\nbackend: "python"\nmax_batch_size: 8\n'
                f'input [{{ name: "INPUT0" data_type: TYPE_FP32 dims: [ {size} ] }}]\n'
                f'output [{{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ {out} ] }}]\n'
                "instance_group [{ count: 2 kind: KIND_CPU }]\n"
            )
        process = ServerProcess(choose_launcher(), root / "repository", scratch)
        try:
            yield IdentityServer(process.ports.address(HTTP).label, process.ports.address(GRPC).label)
        finally:
            process.stop()
    finally:
        scratch.remove()


if __name__ == "__main__":
    with identity_server() as running:
        print(f"http {running.http}  grpc {running.grpc}", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass
