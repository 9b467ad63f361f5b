"""An ONNX model in Triton's Python backend. Copied into model repositories and run by Triton, never imported."""

from collections.abc import Sequence
from typing import Any

import onnxruntime
from gpuperf_requests import ArrayModel


class TritonPythonModel(ArrayModel):
    """Model in an ``InferenceSession`` of ONNX Runtime."""

    def prepare(self, parameters: dict[str, str], gpu: int | None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"])
        options.log_severity_level = 3
        on_gpu = {} if gpu is None else {"device_id": str(gpu)}
        providers = [(name, on_gpu if name.startswith("CUDA") else {}) for name in parameters["providers"].split(",")]
        self._session = onnxruntime.InferenceSession(parameters["source"], options, providers=providers)

    def compute(self, feed: dict[str, Any], outputs: list[str]) -> Sequence[Any]:
        return self._session.run(outputs, feed)
