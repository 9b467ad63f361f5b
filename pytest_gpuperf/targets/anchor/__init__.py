"""The anchor: a small workload that never changes, measured beside a target to tell how fast the machine is just now.

Its model is a chain of 64 dense layers of width 192. The file carries the beginning of its SHA-256 in its name: two
sessions with the same digest were anchored to the same work.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.targets.target import Target

#: Of the SHA-256 of the model's file.
DIGEST = "f11ead494901"
#: Rows in each request: with 16 a request takes a few milliseconds of one core, ten times what the server adds.
BATCH_SIZE = 16


def model_path() -> Path:
    """The model's file.

    Raises:
        TargetError: it isn't what its name says.
    """
    path = Path(__file__).with_name(f"anchor-{DIGEST}.onnx")
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest()[: len(DIGEST)] != DIGEST:
        raise TargetError(f"The anchor's model is missing or damaged: {path}.\nInstall pytest-gpuperf again.")
    return path


def anchor_target(kind: str, server: str | None = None, visible: str = "") -> Target:
    """The anchor of a kind of device: on the CPU a server as ``triton_endpoint`` starts it, on a GPU an engine.

    Args:
        kind: ``cpu`` or ``gpu``.
        server: which tritonserver; the first there is when None.
        visible: which GPU, by its UUID; the first that this process sees when empty.

    Raises:
        TargetError: the model's file isn't what its name says.
    """
    if kind == "gpu":
        from pytest_gpuperf.targets.tensorrt import TensorRTEngine

        return TensorRTEngine(model_path(), batch_sizes=(BATCH_SIZE,), visible=visible)
    from pytest_gpuperf.targets.triton import TritonEndpoint

    return TritonEndpoint(model_path(), server=server, max_batch_size=BATCH_SIZE, threads=1, visible="")
