"""The anchor: a small fixed workload that is measured beside a target to show how fast the machine currently is.

Its model is a chain of 64 dense layers of width 192. The file name contains the first digits of the file's SHA-256:
records with the same digest were anchored to the same work.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.targets.target import Target

#: First digits of the SHA-256 of the model's file.
DIGEST = "f11ead494901"
#: Rows in each request: with 16, a request takes a few milliseconds on a core, ten times the server's overhead.
BATCH_SIZE = 16


def model_path() -> Path:
    """Return the path of the model's file."""
    path = Path(__file__).with_name(f"anchor-{DIGEST}.onnx")
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest()[: len(DIGEST)] != DIGEST:
        raise TargetError(f"The anchor's model is missing or damaged: {path}.\nInstall pytest-gpuperf again.")
    return path


def anchor_target(kind: str, server: str | None = None, visible: str = "") -> Target:
    """Return the anchor for a kind of device: a tritonserver on the CPU, a TensorRT engine on a GPU.

    Args:
        kind: ``cpu`` or ``gpu``.
        server: Which tritonserver to run (see ``TritonEndpoint``); the first available when None.
        visible: UUID of the GPU; the first that this process sees when empty.
    """
    if kind == "gpu":
        from pytest_gpuperf.targets.tensorrt import TensorRTEngine

        return TensorRTEngine(model_path(), batch_sizes=(BATCH_SIZE,), visible=visible)
    from pytest_gpuperf.targets.triton import TritonEndpoint

    return TritonEndpoint(model_path(), server=server, max_batch_size=BATCH_SIZE, threads=1, visible="")
