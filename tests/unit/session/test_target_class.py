from __future__ import annotations

import inspect
import pickle

from pytest_gpuperf import TritonEndpoint
from pytest_gpuperf.session.target_class import with_defaults


def test_a_call_adds_the_defaults_of_the_running_test_to_what_it_states() -> None:
    devices = {"visible": "GPU-1"}
    endpoint_class = with_defaults(TritonEndpoint, lambda: devices)
    assert endpoint_class("m.onnx", instances=2) == TritonEndpoint("m.onnx", instances=2, visible="GPU-1")
    assert endpoint_class("m.onnx", visible="GPU-7").visible == "GPU-7"
    devices["visible"] = "GPU-2"
    assert endpoint_class("m.onnx").visible == "GPU-2"


def test_its_targets_are_those_of_the_class_itself() -> None:
    endpoint = with_defaults(TritonEndpoint, dict)("m.onnx")
    assert type(endpoint) is TritonEndpoint
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint


def test_it_is_a_class_with_the_signature_and_the_help_of_the_original() -> None:
    endpoint_class = with_defaults(TritonEndpoint, dict)
    assert issubclass(endpoint_class, TritonEndpoint)
    assert inspect.signature(endpoint_class) == inspect.signature(TritonEndpoint)
    assert endpoint_class.__doc__ == TritonEndpoint.__doc__
