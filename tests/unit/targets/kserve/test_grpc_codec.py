from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from pytest_gpuperf.errors import MissingExtra
from pytest_gpuperf.model import StreamAnswer
from pytest_gpuperf.targets.kserve import grpc_codec
from pytest_gpuperf.targets.kserve.message import STREAM_FINAL, InferMessage, InputTensor, MemoryRange
from pytest_gpuperf.targets.payload import TensorSpec, to_array

pb = pytest.importorskip("tritonclient.grpc.service_pb2")

IMAGE = np.arange(12, dtype=np.float32).reshape(2, 6)
TEXT = to_array(TensorSpec("text", "BYTES", ()), [["gpuperf", "x"]])


def sent(message: InferMessage) -> Any:
    return pb.ModelInferRequest.FromString(grpc_codec.encode(message, None).body)


class TestEncode:
    def test_tensors_are_raw_bytes(self) -> None:
        inputs = (InputTensor("image", "FP32", IMAGE), InputTensor("text", "BYTES", TEXT))
        request = sent(InferMessage("m", "3", inputs, {"y": None, "z": None}))
        assert (request.model_name, request.model_version, request.id) == ("m", "3", "")
        assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in request.inputs] == [
            ("image", "FP32", [2, 6]),
            ("text", "BYTES", [1, 2]),
        ]
        assert list(request.raw_input_contents) == [IMAGE.tobytes(), b"\7\0\0\0gpuperf\1\0\0\0x"]
        assert [output.name for output in request.outputs] == ["y", "z"]
        assert not request.parameters

    def test_shared_memory_is_named_and_not_sent(self) -> None:
        inputs = (InputTensor("image", "FP32", IMAGE, MemoryRange("in", 256, 48)),)
        request = sent(InferMessage("m", "", inputs, {"y": MemoryRange("out", 0, 8)}))
        assert not request.raw_input_contents
        place = request.inputs[0].parameters
        assert place["shared_memory_region"].string_param == "in"
        assert place["shared_memory_byte_size"].int64_param == 48
        assert place["shared_memory_offset"].int64_param == 256
        assert request.outputs[0].parameters["shared_memory_region"].string_param == "out"

    def test_the_same_message_is_the_same_bytes(self) -> None:
        inputs = (InputTensor("image", "FP32", IMAGE, MemoryRange("in", 256, 48)),)
        message = InferMessage("m", "", inputs, {"y": MemoryRange("out", 8, 8)}, {STREAM_FINAL: True})
        assert len({grpc_codec.encode(message, None).body for _ in range(20)}) == 1
        assert sent(message).parameters[STREAM_FINAL].bool_param

    def test_without_grpc(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("tritonclient.grpc", "tritonclient.grpc.service_pb2"):
            monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(MissingExtra, match=r"pip install 'pytest-gpuperf\[grpc\]'"):
            grpc_codec.messages()


def answer(**parameters: bool) -> Any:
    found = pb.ModelInferResponse(model_name="m")
    for name, value in parameters.items():
        found.parameters[name].bool_param = value
    return found


class TestDecode:
    def test_raw_bytes(self) -> None:
        response = answer()
        response.outputs.add(name="y", datatype="FP32", shape=[2, 6])
        response.outputs.add(name="s", datatype="BYTES", shape=[2])
        response.raw_output_contents.extend([IMAGE.tobytes(), b"\1\0\0\0a\0\0\0\0"])
        found = grpc_codec.decode(response.SerializeToString(), {}, None)
        assert np.array_equal(found["y"], IMAGE)
        assert found["s"].tolist() == [b"a", b""]

    def test_typed_contents_of_other_servers(self) -> None:
        response = answer()
        response.outputs.add(name="a", datatype="UINT8", shape=[3]).contents.uint_contents.extend([1, 2, 255])
        response.outputs.add(name="b", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([0.5, 2])
        response.outputs.add(name="c", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"x")
        found = grpc_codec.decode(response.SerializeToString(), {}, None)
        assert found["a"].tolist() == [1, 2, 255]
        assert found["a"].dtype == np.uint8
        assert found["b"].tolist() == [[0.5, 2]]
        assert found["c"].tolist() == [b"x"]

    def test_that_can_not_be_read(self) -> None:
        with pytest.raises(ValueError, match="not a ModelInferResponse"):
            grpc_codec.decode(b"\xff\xff", {}, None)
        response = answer()
        response.outputs.add(name="y", datatype="FP32", shape=[2, 6])
        with pytest.raises(ValueError, match="no values for 'y'"):
            grpc_codec.decode(response.SerializeToString(), {}, None)
        response.raw_output_contents.append(b"abc")
        with pytest.raises(ValueError, match="buffer size"):
            grpc_codec.decode(response.SerializeToString(), {}, None)


class TestStreams:
    reader = pickle.loads(pickle.dumps(grpc_codec.StreamReader()))

    def read(self, response: Any, error: str = "") -> StreamAnswer:
        message = pb.ModelStreamInferResponse(error_message=error, infer_response=response)
        found = self.reader(message.SerializeToString())
        assert isinstance(found, StreamAnswer)
        return found

    def test_an_answer_that_says_nothing_about_it_is_the_last(self) -> None:
        response = answer()
        response.outputs.add(name="y", datatype="FP32", shape=[1])
        assert self.read(response) == StreamAnswer(last=True)

    def test_answers_of_decoupled_models_say_whether_they_are(self) -> None:
        response = answer(triton_final_response=False)
        response.outputs.add(name="y", datatype="FP32", shape=[1])
        assert self.read(response) == StreamAnswer(last=False)
        assert self.read(answer(triton_final_response=True)) == StreamAnswer(last=True, empty=True)

    def test_errors(self) -> None:
        assert self.read(None, "out of memory") == StreamAnswer(last=True, error="out of memory")
        found = self.reader(b"\xff\xff")
        assert found.last
        assert "not a ModelStreamInferResponse" in found.error

    def test_outputs(self) -> None:
        response = answer(triton_final_response=False)
        response.outputs.add(name="y", datatype="FP32", shape=[2, 6])
        response.raw_output_contents.append(IMAGE.tobytes())
        wire = pb.ModelStreamInferResponse(infer_response=response).SerializeToString()
        found = grpc_codec.decode_stream(wire, {}, None)
        assert found is not None
        assert np.array_equal(found["y"], IMAGE)
        end = pb.ModelStreamInferResponse(infer_response=answer(triton_final_response=True))
        assert grpc_codec.decode_stream(end.SerializeToString(), {}, None) is None
        with pytest.raises(ValueError, match="out of memory"):
            grpc_codec.decode_stream(
                pb.ModelStreamInferResponse(error_message="out of memory").SerializeToString(), {}, None
            )
