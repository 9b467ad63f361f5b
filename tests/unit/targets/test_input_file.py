"""Input files as perf_analyzer's users have them."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.input_data import InputSettings, Payload, make_payloads
from pytest_gpuperf.targets.input_file import read_base64, read_json
from pytest_gpuperf.targets.payload import TensorSpec

TEXT = TensorSpec("text", "BYTES", (-1, 1))
ROW = TensorSpec("row", "FP32", (-1, 4))
IMAGE = TensorSpec("image", "FP32", (-1, -1, -1, 3))


def payloads(spec: TensorSpec, source: Any) -> tuple[Payload, ...]:
    return make_payloads(InputSettings(input_data=source), [spec], batch_size=1, batched=True)


def from_text(path: Path, text: str, spec: TensorSpec) -> list[Any]:
    (path / "data.json").write_text(text)
    return [payload.inputs[spec.name] for payload in payloads(spec, path / "data.json")]


@given(st.binary(max_size=300), st.integers(1, 100), st.booleans())
def test_base64_may_have_line_breaks_and_lack_its_padding(content: bytes, width: int, padded: bool) -> None:
    encoded = base64.b64encode(content).decode()
    encoded = encoded if padded else encoded.rstrip("=")
    broken = "\r\n".join(encoded[start : start + width] for start in range(0, len(encoded), width))
    assert read_base64(TensorSpec("x", "UINT8", (-1,)), broken).tobytes() == content


@pytest.mark.parametrize("text", ["a", "not base64!", "AAAA=BBB", 5, None])
def test_other_text_is_not_base64(text: object) -> None:
    with pytest.raises(OptionError, match=r"'x'.*base64"):
        read_base64(TensorSpec("x", "UINT8", (-1,)), text)


def test_numbers_may_be_infinite_as_rapidjson_spells_it(tmp_path: Path) -> None:
    text = '{"data": [{"row": [NaN, Inf, -Inf, 1.5]}, {"row": [Infinity, -Infinity, 0, 1]}]}'
    first, second = (row.reshape(-1).tolist() for row in from_text(tmp_path, text, ROW))
    assert math.isnan(first[0])
    assert first[1:] == [math.inf, -math.inf, 1.5]
    assert second == [math.inf, -math.inf, 0, 1]


def test_inf_inside_a_string_is_kept(tmp_path: Path) -> None:
    (text,) = from_text(tmp_path, '{"data": [{"text": ["-Inf \\"Inf\\" Inf"]}], "note": -Inf}', TEXT)
    assert text.tolist() == [[b'-Inf "Inf" Inf']]


@pytest.mark.parametrize("content", [b"", b"{", b"[inf]", b"[Infinit]", b"\x80{", b"[" * 100_000])
def test_a_file_that_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.json").write_bytes(content)
    with pytest.raises(OptionError, match=r"data\.json can't be read as JSON"):
        read_json(tmp_path / "data.json")


def test_the_nesting_of_a_list_is_its_shape(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    data = [{"image": values.tolist()}, {"image": [values.tolist()]}]  # the second with its batch of one
    arrays = from_text(tmp_path, json.dumps({"data": data}), IMAGE)
    assert all(np.array_equal(array, values[None]) for array in arrays)
    with pytest.raises(OptionError, match="entry 0 of data"):
        from_text(tmp_path, '{"data": [{"image": [[[1, 2, 3], [4, 5]]]}]}', IMAGE)


def test_an_entry_may_name_its_model(tmp_path: Path) -> None:
    (text,) = from_text(tmp_path, '{"data": [{"model": "llama", "text": ["a"]}]}', TEXT)
    assert text.tolist() == [[b"a"]]
    with pytest.raises(OptionError, match="no input 'modle'"):
        from_text(tmp_path, '{"data": [{"modle": "llama", "text": ["a"]}]}', TEXT)
    (values,) = from_text(tmp_path, '{"data": [{"model": ["a"]}]}', TensorSpec("model", "BYTES", (-1, 1)))
    assert values.tolist() == [[b"a"]]


@pytest.mark.parametrize("name", ["image", "image.npy"])
def test_a_directory_may_hold_arrays_of_numpy(tmp_path: Path, name: str) -> None:
    values = np.ones((2, 2, 3), np.float64)
    with (tmp_path / name).open("wb") as file:
        np.save(file, values)
    (payload,) = payloads(IMAGE, tmp_path)
    assert payload.inputs["image"].shape == (1, 2, 2, 3)
    assert payload.inputs["image"].dtype == np.float32


def test_an_array_of_objects_is_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", np.array([b"a"], object), allow_pickle=True)
    with pytest.raises(OptionError, match=r"text\.npy can't be read as BYTES"):
        payloads(TEXT, tmp_path)


def test_the_data_of_a_sequence_are_a_stream() -> None:
    items = [[{"row": [1, 1, 1, 1]}, {"row": [2, 2, 2, 2]}], [{"row": [3, 3, 3, 3]}]]
    assert [payload.stream for payload in payloads(ROW, items)] == [0, 0, 1]
    assert [payload.stream for payload in payloads(ROW, [item for part in items for item in part])] == [0, 0, 0]
