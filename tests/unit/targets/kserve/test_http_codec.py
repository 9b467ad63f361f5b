from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import numpy as np
import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Request
from pytest_gpuperf.targets.kserve.http_codec import decode, encode, infer_path
from pytest_gpuperf.targets.kserve.message import InferMessage, InputTensor, MemoryRange
from pytest_gpuperf.targets.payload import Array, TensorSpec, to_array

IMAGE = np.arange(12, dtype=np.float32).reshape(2, 6)
MASK = np.array([[1], [0]], np.int64)
TEXT = to_array(TensorSpec("text", "BYTES", ()), [["gpuperf", "x"]])


def message(*inputs: InputTensor, outputs: dict[str, MemoryRange | None] | None = None) -> InferMessage:
    default = (InputTensor("image", "FP32", IMAGE), InputTensor("mask", "INT64", MASK))
    return InferMessage("resnet50", "", inputs or default, outputs or {"logits": None})


def parts(request: Request) -> tuple[dict[str, Any], bytes]:
    """JSON and binary part of a body."""
    headers = dict(request.headers)
    length = int(headers.get("Inference-Header-Content-Length", len(request.body)))
    return json.loads(request.body[:length]), request.body[length:]


class TestEncode:
    def test_binary_tensors_follow_the_json(self) -> None:
        request = encode(message(), None, binary=True, binary_outputs=True)
        assert dict(request.headers)["Content-Type"] == "application/octet-stream"
        head, tail = parts(request)
        assert [
            (tensor["name"], tensor["datatype"], tensor["shape"], tensor["parameters"]["binary_data_size"])
            for tensor in head["inputs"]
        ] == [("image", "FP32", [2, 6], 48), ("mask", "INT64", [2, 1], 16)]
        assert head["outputs"] == [{"name": "logits", "parameters": {"binary_data": True}}]
        assert tail == IMAGE.tobytes() + MASK.tobytes()

    def test_json_numbers_for_servers_without_binary_tensors(self) -> None:
        request = encode(message(), None, binary=False, binary_outputs=False)
        assert dict(request.headers) == {"Content-Type": "application/json"}
        image, mask = json.loads(request.body)["inputs"]
        assert image["data"] == list(range(12))
        assert mask["data"] == [1, 0]
        assert "parameters" not in image

    def test_inputs_and_outputs_choose_their_form_each(self) -> None:
        head, tail = parts(encode(message(), None, binary=False, binary_outputs=True))
        assert (tail, head["outputs"][0]["parameters"]) == (b"", {"binary_data": True})
        head, tail = parts(encode(message(), None, binary=True, binary_outputs=False))
        assert (len(tail), head["outputs"][0]["parameters"]) == (64, {"binary_data": False})

    @pytest.mark.parametrize("binary", [True, False])
    def test_strings(self, binary: bool) -> None:
        head, tail = parts(
            encode(message(InputTensor("text", "BYTES", TEXT)), None, binary=binary, binary_outputs=binary)
        )
        if binary:
            assert tail == b"\7\0\0\0gpuperf\1\0\0\0x"
        else:
            assert head["inputs"][0]["data"] == ["gpuperf", "x"]

    def test_bytes_that_are_no_text_need_binary_tensors(self) -> None:
        values = to_array(TensorSpec("jpeg", "BYTES", ()), [b"\xff\xd8"])
        with pytest.raises(OptionError, match="'jpeg' holds bytes that are not UTF-8"):
            encode(message(InputTensor("jpeg", "BYTES", values)), None, binary=False, binary_outputs=False)

    def test_shared_memory_is_named_and_not_sent(self) -> None:
        request = encode(
            message(
                InputTensor("image", "FP32", IMAGE, MemoryRange("in", 0, 48)),
                InputTensor("mask", "INT64", MASK, MemoryRange("in", 256, 16)),
                outputs={"logits": MemoryRange("out", 512, 8), "label": None},
            ),
            None,
            binary=True,
            binary_outputs=True,
        )
        document = json.loads(request.body)
        assert [tensor["parameters"] for tensor in document["inputs"]] == [
            {"shared_memory_region": "in", "shared_memory_byte_size": 48},
            {"shared_memory_region": "in", "shared_memory_byte_size": 16, "shared_memory_offset": 256},
        ]
        assert [tensor["parameters"] for tensor in document["outputs"]] == [
            {"shared_memory_region": "out", "shared_memory_byte_size": 8, "shared_memory_offset": 512},
            {"binary_data": True},
        ]
        assert dict(request.headers) == {"Content-Type": "application/json"}

    @pytest.mark.parametrize(
        ("model", "version", "path"),
        [
            ("m", "", "/v2/models/m/infer"),
            ("m", "3", "/v2/models/m/versions/3/infer"),
            ("my model", "", "/v2/models/my%20model/infer"),
            ("größe", "", "/v2/models/gr%C3%B6%C3%9Fe/infer"),
            ("a?b/c", "", "/v2/models/a%3Fb%2Fc/infer"),
        ],
    )
    def test_a_models_name_is_quoted(self, model: str, version: str, path: str) -> None:
        assert infer_path(model, version) == path


def answer(*outputs: tuple[str, str, Array, bool]) -> tuple[bytes, dict[str, str]]:
    """A server's answer: name, type, values, and whether they follow as bytes."""
    tensors, tail = [], b""
    for name, datatype, values, binary in outputs:
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": values.shape}
        if binary:
            tensor["parameters"] = {"binary_data_size": values.nbytes}
            tail += values.tobytes()
        else:
            tensor["data"] = values.reshape(-1).tolist()
        tensors.append(tensor)
    head = json.dumps({"model_name": "m", "outputs": tensors}).encode()
    return head + tail, {"inference-header-content-length": str(len(head))} if tail else {}


class TestDecode:
    @pytest.mark.parametrize("binary", [(True, True), (True, False), (False, False)])
    def test_bytes_and_numbers(self, binary: tuple[bool, bool]) -> None:
        body, headers = answer(("a", "FP32", IMAGE, binary[0]), ("b", "INT64", MASK, binary[1]))
        found = decode(body, headers, None)
        assert np.array_equal(found["a"], IMAGE)
        assert found["a"].dtype == np.float32
        assert np.array_equal(found["b"], MASK)

    def test_strings(self) -> None:
        body = b'{"outputs": [{"name": "s", "datatype": "BYTES", "shape": [1, 2], "data": ["a", "\xc3\xa9"]}]}'
        assert decode(body, {}, None)["s"].tolist() == [[b"a", "é".encode()]]

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZIP", "raw"])
    def test_compressed(self, encoding: str) -> None:
        body, headers = answer(("a", "FP32", IMAGE, True))
        packed = {"gzip": gzip.compress(body), "deflate": zlib.compress(body), "raw": _raw_deflate(body)}[
            encoding.lower()
        ]
        sent = {**headers, "content-encoding": encoding if encoding != "raw" else "deflate"}
        assert np.array_equal(decode(packed, sent, None)["a"], IMAGE)

    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            (b"", {}),
            (b"<html>", {}),
            (b"[]", {}),
            (b'{"status": "ok"}', {}),
            (b'{"outputs": [{"name": "s", "datatype": "FP32", "shape": [2], "data": [1]}]}', {}),
            (b'{"outputs": []}', {"content-encoding": "br"}),
            (b"not gzip", {"content-encoding": "gzip"}),
            (answer(("a", "FP32", IMAGE, True))[0][:-1], answer(("a", "FP32", IMAGE, True))[1]),
        ],
    )
    def test_that_can_not_be_read(self, body: bytes, headers: dict[str, str]) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - json's, numpy's and our own
            decode(body, headers, None)


def _raw_deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeeze.compress(data) + squeeze.flush()
