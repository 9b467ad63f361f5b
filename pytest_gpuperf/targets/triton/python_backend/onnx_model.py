"""An ONNX model inside Triton's Python backend: copied into model repositories, run by Triton, never imported here."""

from collections.abc import Sequence
from typing import Any

import onnxruntime
from gpuperf_requests import ArrayModel


class TritonPythonModel(ArrayModel):
    """One session of ONNX Runtime."""

    def prepare(self, parameters: dict[str, str], gpu: int | None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"])
        options.log_severity_level = 3
        on_gpu = {} if gpu is None else {"device_id": str(gpu)}
        providers = [(name, on_gpu if name.startswith("CUDA") else {}) for name in parameters["providers"].split(",")]
        self._session = onnxruntime.InferenceSession(parameters["source"], options, providers=providers)

    def compute(self, feed: dict[str, Any], outputs: list[str]) -> Sequence[Any]:
        return self._session.run(outputs, feed)
