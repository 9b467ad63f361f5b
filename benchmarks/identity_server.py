"""A real tritonserver whose models only hand their input back: what is measured is the serving and the client."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_gpuperf.targets.process import SupervisedProcess
from pytest_gpuperf.targets.triton import bundle
from pytest_gpuperf.targets.triton.endpoint import _free_ports

#: The sizes of the models' tensors, in floats: 64 bytes, and a ResNet-50's input.
SIZES = {"identity": 16, "image": 3 * 224 * 224}

# By DLPack both ways, for the reasons in pytest_gpuperf/targets/triton/python_backend/model.py.
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

# The image's answer is one float: it is the way in that is measured.
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
    """Start it, and end it."""
    server = bundle.require()
    with tempfile.TemporaryDirectory(prefix="gpuperf-identity-") as folder:
        root = Path(folder)
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
        backend = root / "backends" / "python"
        backend.mkdir(parents=True)
        for file in (*(server.root / "backends" / "python").iterdir(), server.python_stub()):
            (backend / file.name).symlink_to(file)
        http, grpc, metrics = _free_ports(3)
        prefix = f"gpuperf-bench-{os.getpid()}-"
        libraries = [str(bundle.python_library_directory()), str(server.libraries)]
        process = SupervisedProcess(
            [
                str(server.binary),
                f"--model-repository={root / 'repository'}",
                f"--backend-directory={root / 'backends'}",
                f"--backend-config=python,shm-region-prefix-name={prefix}",
                f"--http-port={http}",
                f"--grpc-port={grpc}",
                f"--metrics-port={metrics}",
                "--allow-gpu-metrics=false",
            ],
            env={
                **os.environ,
                "LD_LIBRARY_PATH": os.pathsep.join(libraries),
                "PATH": os.pathsep.join([str(Path(sys.executable).absolute().parent), os.environ.get("PATH", "")]),
            },
            log=root / "server.log",
            grace_s=8,
            shm_prefix=prefix,
        )
        try:
            _wait(f"127.0.0.1:{http}", process)
            yield IdentityServer(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}")
        finally:
            process.stop()


def _wait(address: str, process: SupervisedProcess) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}/v2/health/ready", timeout=1):
                return
        except OSError:
            if process.exit_status is not None or time.monotonic() > end:
                raise SystemExit(f"tritonserver did not start:\n{process.log_text()[-3000:]}") from None
            time.sleep(0.05)


if __name__ == "__main__":
    with identity_server() as running:
        print(f"http {running.http}  grpc {running.grpc}", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass
