"""Requests of Triton's Python backend as arrays. Copied into model repositories and run by Triton, never imported."""

import ctypes
import json
import traceback
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

_HERE = Path(__file__).parent


def _array(tensor: Any, string: bool) -> Any:
    """Return the values of a Triton tensor.

    DLPack is used since the backend's stub was built against NumPy 1 and reads its layout of data types. Under NumPy 2
    ``as_numpy`` repeats the first value, and ``Tensor`` contains no bytes, both without an error.
    """
    if not string:
        return np.from_dlpack(tensor)
    # Decoded, since ONNX Runtime would use the repr of bytes objects.
    return np.vectorize(bytes.decode, otypes=[np.object_])(tensor.as_numpy())


def _tensor(name: str, values: Any) -> Any:
    """Return a Triton tensor, made through DLPack for the same reason."""
    values = np.ascontiguousarray(values)
    if values.dtype == np.object_:
        return pb_utils.Tensor(name, values)
    capsule = values.__dlpack__()
    # The stub renames a used capsule, for which NumPy's destructor would print a traceback each time.
    ctypes.pythonapi.PyCapsule_SetDestructor(ctypes.py_object(capsule), None)
    return pb_utils.Tensor.from_dlpack(name, capsule)


def _place(error: Exception) -> str:
    """Return where the user's code raised the error; empty if it did not."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent != _HERE]
    return f" ({frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name})" if frames else ""


class ArrayModel(ABC):
    """Base of models; runs the requests that Triton gathered as a batch through ``compute``."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._batched = config["max_batch_size"] > 0
        self._inputs = {tensor["name"]: tensor["data_type"] == "TYPE_STRING" for tensor in config["input"]}
        self._outputs = [tensor["name"] for tensor in config["output"]]
        gpu = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
        self.prepare(parameters, gpu)

    @abstractmethod
    def prepare(self, parameters: dict[str, str], gpu: int | None) -> None:
        """Load the model, on the GPU of that index if Triton placed the instance on a GPU."""

    @abstractmethod
    def compute(self, feed: dict[str, Any], outputs: list[str]) -> Sequence[Any]:
        """Return the outputs in the given order."""

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        try:
            feeds = [
                {
                    name: _array(pb_utils.get_input_tensor_by_name(request, name), string)
                    for name, string in self._inputs.items()
                }
                for request in requests
            ]
            # Requests with free dimensions of different sizes can't share a batch.
            shapes = {tuple(feed[name].shape[1:] for name in self._inputs) for feed in feeds}
            if self._batched and len(feeds) > 1 and len(shapes) == 1:
                return self._run_batch(feeds)
            return [self._response(self.compute(feed, self._outputs)) for feed in feeds]
        except Exception as error:  # errors of the model become responses instead of ending the server
            text = f"{type(error).__name__}: {error}{_place(error)}"
            return [pb_utils.InferenceResponse(error=pb_utils.TritonError(text)) for _ in requests]

    def _run_batch(self, feeds: list[dict[str, Any]]) -> list[Any]:
        edges = np.cumsum([len(next(iter(feed.values()))) for feed in feeds])[:-1]
        batch = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
        outputs = [np.split(output, edges) for output in self.compute(batch, self._outputs)]
        return [self._response(parts) for parts in zip(*outputs, strict=True)]

    def _response(self, outputs: Sequence[Any]) -> Any:
        return pb_utils.InferenceResponse([_tensor(*pair) for pair in zip(self._outputs, outputs, strict=True)])
