"""What a tritonserver's log says of why it does not run."""

from __future__ import annotations

import re

_ERROR = re.compile(r"E\d{4} |\d{4}-\d\d-\d\dT\S+ E |docker: |error: creating server|Traceback|\w+Error: ")
#: What every machine without a GPU has in its log.
_NOISE = re.compile(
    r"CudaDriverHelper|unable to (get|load) (cuda|nvml)|nvml|dcgm|CUDA (driver|memory pool)", re.IGNORECASE
)
_PORT_TAKEN = re.compile(r"already in use|failed to start (HTTP|GRPC|metrics) service", re.IGNORECASE)

#: What can be done about what the log says. The first that matches is the cause; what follows it in the log is not.
_REMEDIES = (
    (
        r"not compatible with this version of TensorRT|Version tag does not match|"
        r"stdVersionRead == |kSERIALIZATION_VERSION|Current Version: \d+, Serialized Engine Version",
        "The plan was built by another version of TensorRT than the server's. Build it with the server's, or use the "
        "server of the release that has yours (--gpuperf-triton docker:IMAGE; NVIDIA's support matrix for Triton lists "
        "the TensorRT of every image).",
    ),
    (
        r"generated on an incompatible device|expecting compute \S+ got compute|"
        r"different (platform|GPU|models of devices)",
        "The plan was built for another GPU. Build it on this one.",
    ),
    (
        r"unable to find backend library|unable to find 'libtriton_",
        "The server lacks that backend. Use one that has it: --gpuperf-triton docker, or the path of its tritonserver.",
    ),
    (
        r"KIND_GPU but no GPUs are available|invalid or unsupported gpu id",
        "The model wants a GPU that the server does not see. Look at nvidia-smi -L, CUDA_VISIBLE_DEVICES, "
        "--gpuperf-device and gpus=; GPUs are counted among those that are visible, from 0.",
    ),
    (
        r"configuration specified max-batch|max_batch_size .* but .* only supports max-batch",
        "max_batch_size is above what the plan's profile allows: lower it, or build the plan with a larger one.",
    ),
    (r"out of memory|OUT_OF_MEMORY|Cuda Runtime \(out of", "The GPU's memory is full: see nvidia-smi for who has it."),
    (
        r"could not select device driver",
        "Docker can't give containers a GPU: install the NVIDIA Container Toolkit, and restart Docker.",
    ),
    (r"permission denied while trying to connect to the [Dd]ocker", "Add yourself to the group docker, or use sudo."),
    (
        r"CUDA driver version is insufficient|forward compatibility",
        "The GPU's driver is too old for the server's CUDA.",
    ),
    (
        r"No module named 'onnxruntime'",
        "The server's Python backend has no ONNX Runtime: pip install onnxruntime into the Python that it uses, or use "
        "a server with the onnxruntime backend.",
    ),
)


def port_was_taken(text: str) -> bool:
    """The server ended since somebody else was on one of its ports."""
    return _PORT_TAKEN.search(text) is not None


def log_excerpt(text: str, lines: int = 15) -> str:
    """The part of a log that says why, and what to do where that is known."""
    every = text.splitlines()
    errors = [line for line in every if _ERROR.match(line.strip()) and not _NOISE.search(line)]
    chosen = [line for line in every if line in errors] or every
    shown = "\n".join(f"  {line}" for line in chosen[-lines:])
    said = f"Its log says:\n{shown}" if shown else "Its log is empty."
    remedy = next((advice for pattern, advice in _REMEDIES if re.search(pattern, "\n".join(errors))), "")
    return f"{said}\n{remedy}" if remedy else said
