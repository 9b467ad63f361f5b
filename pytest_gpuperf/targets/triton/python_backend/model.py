"""An ONNX model inside Triton's Python backend: copied into model repositories, run by Triton, never imported here."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Runs the requests that Triton gathered as one batch."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"])
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            parameters["onnx"], options, providers=parameters["providers"].split(",")
        )
        self._batched = config["max_batch_size"] > 0
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        feeds = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        # Requests with free dimensions of different sizes can't share a batch.
        shapes = {tuple(feed[name].shape[1:] for name in self._inputs) for feed in feeds}
        try:
            if self._batched and len(feeds) > 1 and len(shapes) == 1:
                return self._run_batch(feeds)
            return [self._response(self._session.run(self._outputs, feed)) for feed in feeds]
        except Exception as error:  # whatever ONNX Runtime raises belongs into the responses, not into the server's end
            return [pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))) for _ in requests]

    def _run_batch(self, feeds: list[dict[str, Any]]) -> list[Any]:
        edges = np.cumsum([len(feed[self._inputs[0]]) for feed in feeds])[:-1]
        batch = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
        outputs = [np.split(output, edges) for output in self._session.run(self._outputs, batch)]
        return [self._response(parts) for parts in zip(*outputs, strict=True)]

    def _response(self, outputs: Sequence[Any]) -> Any:
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, np.ascontiguousarray(output))
                for name, output in zip(self._outputs, outputs, strict=True)
            ]
        )
