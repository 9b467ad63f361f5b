"""Causes of a failed start or an early end, in a tritonserver's log."""

from __future__ import annotations

import re

_ERROR = re.compile(r"E\d{4} |\d{4}-\d\d-\d\dT\S+ E |docker: |error: creating server|Traceback|\w+Error: ")
#: Messages in the log of every machine without a GPU.
_NOISE = re.compile(
    r"CudaDriverHelper|unable to (get|load) (cuda|nvml)|nvml|dcgm|CUDA (driver|memory pool)", re.IGNORECASE
)
_PORT_TAKEN = re.compile(r"already in use|failed to start (HTTP|GRPC|metrics) service", re.IGNORECASE)

#: Lines with the time of day, in both of Triton's formats (--log-format).
_TIME = r"^(?:I\d{4} |\d{4}-\d\d-\d\dT)(\d\d):(\d\d):(\d\d(?:\.\d+)?)"
_LOADING = re.compile(_TIME + r".*\bloading: ", re.MULTILINE)
_LOADED = re.compile(_TIME + r".*\bsuccessfully loaded '", re.MULTILINE)
_DAY_S = 86_400

#: Patterns of causes, and remedies. The first match in this order wins.
_REMEDIES = (
    (
        r"not compatible with this version of TensorRT|Version tag does not match|"
        r"stdVersionRead == |kSERIALIZATION_VERSION|Current Version: \d+, Serialized Engine Version",
        "The plan was built by another version of TensorRT than the server's. Rebuild it with the server's version, or "
        "use a server with yours (--gpuperf-triton docker:IMAGE; NVIDIA's support matrix for Triton lists the TensorRT "
        "version of every image).",
    ),
    (
        r"generated on an incompatible device|expecting compute \S+ got compute|"
        r"different (platform|GPU|models of devices)",
        "The plan was built for another GPU. Rebuild it on this GPU.",
    ),
    (
        r"unable to find backend library|unable to find 'libtriton_",
        "The server lacks this backend. Use a server that has it: --gpuperf-triton docker, or the path of a "
        "tritonserver.",
    ),
    (
        r"KIND_GPU but no GPUs are available|invalid or unsupported gpu id",
        "The model needs a GPU that is not visible to the server. Check nvidia-smi -L, CUDA_VISIBLE_DEVICES, "
        "--gpuperf-device and gpus=, which counts the visible GPUs from 0.",
    ),
    (
        r"configuration specified max-batch|max_batch_size .* but .* only supports max-batch",
        "max_batch_size is above the limit of the plan's profile: lower it, or rebuild the plan with a larger limit.",
    ),
    (r"out of memory|OUT_OF_MEMORY|Cuda Runtime \(out of", "The GPU's memory is full: nvidia-smi lists its users."),
    (
        r"could not select device driver",
        "Docker can't provide GPUs to containers: install the NVIDIA Container Toolkit and restart Docker.",
    ),
    (r"permission denied while trying to connect to the [Dd]ocker", "Add yourself to the group docker, or use sudo."),
    (
        r"CUDA driver version is insufficient|forward compatibility",
        "The GPU's driver is too old for the server's CUDA.",
    ),
    (
        r"No module named 'onnxruntime'",
        "The server's Python backend has no ONNX Runtime: run pip install onnxruntime in its Python, or use a server "
        "with the onnxruntime backend.",
    ),
)


def model_load_s(text: str) -> float | None:
    """Return the time in which a server loaded its models; None if the log doesn't have it.

    It lasts from the first ``loading`` to the last ``successfully loaded``, over all models that the server loads.
    """
    begins, ends = ([_day_s(match) for match in pattern.finditer(text)] for pattern in (_LOADING, _LOADED))
    if not begins or not ends:
        return None
    loading_s = ends[-1] - begins[0]
    return loading_s if loading_s >= 0 else loading_s + _DAY_S  # past midnight


def _day_s(match: re.Match[str]) -> float:
    hours, minutes, seconds = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def port_was_taken(text: str) -> bool:
    """Return whether the server ended because another process uses one of its ports."""
    return _PORT_TAKEN.search(text) is not None


def log_excerpt(text: str, lines: int = 15) -> str:
    """Return the last error lines of a log (else its last lines), and a remedy if the cause is known."""
    all_lines = text.splitlines()
    errors = [line for line in all_lines if _ERROR.match(line.strip()) and not _NOISE.search(line)]
    shown = "\n".join(f"  {line}" for line in (errors or all_lines)[-lines:])
    excerpt = f"Its log says:\n{shown}" if shown else "Its log is empty."
    remedy = next((advice for pattern, advice in _REMEDIES if re.search(pattern, "\n".join(errors))), "")
    return f"{excerpt}\n{remedy}" if remedy else excerpt
