from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.input_data import InputSettings, Payload, make_payloads
from pytest_gpuperf.targets.payload import DTYPES, TensorSpec

IMAGE = TensorSpec("image", "FP32", (-1, 3, 4))
TEXT = TensorSpec("text", "BYTES", (-1, 2))
IDS = TensorSpec("ids", "INT32", (-1, -1))
SCORE = TensorSpec("score", "FP32", (-1, 2))


def make(
    specs: Sequence[TensorSpec] | TensorSpec, batch_size: int = 1, *, batched: bool = True, **settings: Any
) -> tuple[Payload, ...]:
    expected = settings.pop("expected", None)
    return make_payloads(
        InputSettings(**settings),
        [specs] if isinstance(specs, TensorSpec) else specs,
        batch_size=batch_size,
        batched=batched,
        outputs=[SCORE],
        expected=expected,
    )


def only(payloads: tuple[Payload, ...]) -> Payload:
    (payload,) = payloads
    return payload


class TestRandom:
    @given(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(1, 4), max_size=3), st.integers(1, 5))
    def test_the_same_signature_gives_the_same_values(self, datatype: str, shape: list[int], batch_size: int) -> None:
        specs = [TensorSpec("x", datatype, (-1, *shape)), TensorSpec("y", "FP32", (-1, 2))]
        first, second = (only(make(specs, batch_size)).inputs for _ in range(2))
        for name in ("x", "y"):
            assert first[name].shape[0] == batch_size
            assert np.array_equal(first[name], second[name])

    def test_another_seed_gives_others(self) -> None:
        first, second = (only(make(IMAGE, seed=seed)).inputs["image"] for seed in (0, 1))
        assert not np.array_equal(first, second)

    def test_inputs_and_items_differ(self) -> None:
        inputs = only(make([IMAGE, TensorSpec("other", "FP32", (-1, 3, 4))], 2)).inputs
        assert not np.array_equal(inputs["image"], inputs["other"])
        assert not np.array_equal(inputs["image"][0], inputs["image"][1])

    def test_several_requests_differ_and_begin_with_the_one(self) -> None:
        payloads = make(IMAGE, payloads=3)
        assert len({payload.inputs["image"].tobytes() for payload in payloads}) == 3
        assert np.array_equal(payloads[0].inputs["image"], only(make(IMAGE)).inputs["image"])

    def test_strings_have_the_length(self) -> None:
        strings = only(make(TEXT, 3, string_length=5)).inputs["text"]
        assert strings.shape == (3, 2)
        assert {len(text) for text in strings.reshape(-1).tolist()} == {5}

    def test_zeros(self) -> None:
        assert not only(make(IMAGE, 2, input_data="zero")).inputs["image"].any()

    @pytest.mark.parametrize("payloads", [0, -1])
    def test_fewer_than_one(self, payloads: int) -> None:
        with pytest.raises(OptionError, match=f"payloads={payloads}"):
            InputSettings(payloads=payloads)

    def test_only_random_requests_are_counted(self) -> None:
        with pytest.raises(OptionError, match=r"payloads=3 applies to random requests only; omit it with input_data="):
            InputSettings(payloads=3, input_data=[{"x": 1}])


class TestShapes:
    def test_must_be_given_for_free_dimensions(self) -> None:
        with pytest.raises(OptionError, match=r"'ids' has free dimensions \[-1\].*shapes=\{'ids': \[128\]\}"):
            make(IDS)
        assert only(make(IDS, 4, shapes={"ids": [16]})).inputs["ids"].shape == (4, 16)

    def test_a_model_without_batches_has_them_too(self) -> None:
        spec = TensorSpec("audio", "FP32", (1, -1))
        assert only(make(spec, batched=False, shapes={"audio": (1, 160)})).inputs["audio"].shape == (1, 160)

    def test_contradict_the_model(self) -> None:
        with pytest.raises(OptionError, match=r"shapes=\{'image': \[3, 5\]\} contradicts the model"):
            make(IMAGE, shapes={"image": [3, 5]})

    def test_of_an_unknown_input(self) -> None:
        with pytest.raises(OptionError, match="no input 'id'; its inputs are ids"):
            make(IDS, shapes={"id": [16]})


def test_a_fixed_first_dimension_is_no_batch() -> None:
    fixed = TensorSpec("x", "FP32", (2, 3))
    assert only(make(fixed, batched=False)).inputs["x"].shape == (2, 3)
    with pytest.raises(OptionError, match="batch_size=4 can't be sent, since the model's first dimension is fixed"):
        make(fixed, 4, batched=False)


class TestGivenInputs:
    def test_are_sent_for_every_item(self) -> None:
        values = np.arange(12, dtype=np.float64).reshape(3, 4)
        sent = only(make(IMAGE, 5, inputs={"image": values})).inputs["image"]
        assert sent.dtype == np.float32
        assert sent.flags.c_contiguous
        assert all(np.array_equal(item, values) for item in sent)

    def test_free_from_naming_sizes(self) -> None:
        assert only(make(IDS, 2, inputs={"ids": np.ones(7)})).inputs["ids"].shape == (2, 7)

    def test_leave_the_others_random(self) -> None:
        inputs = only(make([IMAGE, SCORE], inputs={"score": np.zeros(2)})).inputs
        assert not inputs["score"].any()
        assert inputs["image"].std() > 0

    def test_go_before_input_data(self) -> None:
        items = [{"image": np.zeros((3, 4))}, {"image": np.ones((3, 4))}]
        payloads = make([IMAGE, SCORE], input_data=items, inputs={"score": [1, 2]})
        assert [payload.inputs["score"].tolist() for payload in payloads] == [[[1, 2]], [[1, 2]]]

    @pytest.mark.parametrize("shape", [(3,), (4, 3), (1, 3, 4)])
    def test_of_another_shape(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(
            OptionError, match=r"'image' has the shape .* the model expects \[3, 4\] \(without the batch\)"
        ):
            make(IMAGE, inputs={"image": np.zeros(shape)})

    def test_for_an_unknown_input(self) -> None:
        with pytest.raises(OptionError, match="no input 'img'; its inputs are image"):
            make(IMAGE, inputs={"img": np.zeros(1)})


class TestItems:
    items = tuple({"score": [number, -number]} for number in range(3))

    def sent(self, batch_size: int) -> list[list[int]]:
        return [payload.inputs["score"][:, 0].tolist() for payload in make(SCORE, batch_size, input_data=self.items)]

    def test_are_sent_in_turn(self) -> None:
        assert self.sent(1) == [[0], [1], [2]]

    def test_fill_batches_one_after_the_other(self) -> None:
        assert self.sent(2) == [[0, 1], [2, 0], [1, 2]]
        assert self.sent(3) == [[0, 1, 2]]
        assert self.sent(4) == [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 2]]

    def test_an_iterator_is_read_once_and_serves_every_start(self) -> None:
        settings = InputSettings(input_data=iter(self.items))
        for _ in range(2):
            assert len(make_payloads(settings, [SCORE], batch_size=1, batched=True)) == 3

    def test_of_different_shapes_share_no_request(self) -> None:
        items = [{"ids": [1]}, {"ids": [1, 2]}]
        assert [payload.inputs["ids"].shape for payload in make(IDS, input_data=items)] == [(1, 1), (1, 2)]
        with pytest.raises(OptionError, match=r"Items 0 and 1 differ in the shape of 'ids'.*batch_size=1"):
            make(IDS, 2, input_data=items)

    def test_without_batches_are_whole_requests(self) -> None:
        spec = TensorSpec("x", "INT32", (2, 2))
        payloads = make(spec, batched=False, input_data=[{"x": [[1, 2], [3, 4]]}, {"x": [[5, 6], [7, 8]]}])
        assert [payload.inputs["x"].tolist() for payload in payloads] == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]

    def test_may_leave_out_what_is_optional(self) -> None:
        mask = TensorSpec("mask", "BOOL", (-1, 2), optional=True)
        assert set(only(make([SCORE, mask], input_data=[{"score": [1, 2]}])).inputs) == {"score"}

    @pytest.mark.parametrize(
        ("items", "message"),
        [
            ([], "is empty"),
            ([{"score": [1, 2]}, {}], r"input_data\[1\] has no value for the input 'score'"),
            ([{"scores": [1, 2]}], r"input_data\[0\]: the model has no input 'scores'; its inputs are score"),
            ([{"score": [1]}], r"input_data\[0\]: 'score' has the shape \[1\]"),
            ([[1, 2]], r"input_data\[0\] is int, not a mapping from input to array, nor a list of these"),
        ],
    )
    def test_that_do_not_fit(self, items: list[Any], message: str) -> None:
        with pytest.raises(OptionError, match=message):
            make(SCORE, input_data=items)


class TestExpected:
    items = ({"ids": [1]}, {"ids": [2]})

    def test_one_for_all_is_repeated(self) -> None:
        right = only(make(SCORE, 2, input_data="zero", expected={"score": [1, 2]})).expected
        assert right is not None
        assert right["score"].tolist() == [[1, 2], [1, 2]]

    def test_one_for_each_goes_with_its_item(self) -> None:
        expected = [{"score": [1, 1]}, {"score": [2, 2]}]
        payload = only(make(IDS, 2, input_data=self.items, expected=expected))
        assert payload.expected is not None
        assert payload.expected["score"].tolist() == [[1, 1], [2, 2]]

    def test_of_random_requests(self) -> None:
        expected = [{"score": [1, 1]}, {"score": [2, 2]}]
        right = [payload.expected for payload in make(SCORE, payloads=2, expected=expected)]
        assert [one["score"].tolist() for one in right if one is not None] == [[[1, 1]], [[2, 2]]]
        with pytest.raises(OptionError, match=r"an entry per random request.*use batch_size=1"):
            make(SCORE, 2, payloads=2, expected=expected)

    @pytest.mark.parametrize(
        ("expected", "message"),
        [
            ([{"score": [1, 1]}], r"expected= has 1 entries for 2 item\(s\)"),
            ({"y": [1, 1]}, "expected: the model has no output 'y'; its outputs are score"),
            ({"score": [1]}, r"expected: 'score' has the shape \[1\], but the model expects \[2\]"),
            ([{"score": [1, 1]}, {"score": "x"}], r"expected\[1\]: The values of 'score' can't be converted"),
        ],
    )
    def test_that_does_not_fit(self, expected: Any, message: str) -> None:
        with pytest.raises(OptionError, match=message):
            make(IDS, input_data=self.items, expected=expected)


class TestDirectory:
    def test_has_a_file_for_each_input(self, tmp_path: Path) -> None:
        values = np.arange(12, dtype="<f4").reshape(3, 4)
        (tmp_path / "image").write_bytes(values.tobytes())
        (tmp_path / "text").write_bytes(b"two words\nl\xc3\xadne\n")
        inputs = only(make([IMAGE, TEXT], 2, input_data=tmp_path)).inputs
        assert np.array_equal(inputs["image"], [values, values])
        assert inputs["text"].tolist() == [[b"two words", "líne".encode()]] * 2

    def test_may_have_the_right_outputs(self, tmp_path: Path) -> None:
        (tmp_path / "image").write_bytes(bytes(48))
        (tmp_path / "score").write_bytes(np.array([1, 2], "<f4").tobytes())
        right = only(make(IMAGE, input_data=str(tmp_path))).expected
        assert right is not None
        assert right["score"].tolist() == [[1, 2]]

    def test_finds_one_free_dimension(self, tmp_path: Path) -> None:
        (tmp_path / "ids").write_bytes(np.arange(5, dtype="<i4").tobytes())
        assert only(make(IDS, input_data=tmp_path)).inputs["ids"].tolist() == [[0, 1, 2, 3, 4]]

    def test_half_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "image").write_bytes(bytes(40))
        with pytest.raises(OptionError, match=rf"{tmp_path}: 'image' has 10 values.*\[3, 4\]"):
            make(IMAGE, input_data=tmp_path)
        (tmp_path / "image").write_bytes(bytes(41))
        with pytest.raises(OptionError, match="image can't be read as FP32"):
            make(IMAGE, input_data=tmp_path)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=rf"{tmp_path} has no value for the input 'image'"):
            make(IMAGE, input_data=tmp_path)

    def test_no_such_path(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="must be 'random', 'zero', or an existing directory or JSON file"):
            make(IMAGE, input_data=tmp_path / "gone")
        with pytest.raises(OptionError, match="'randm' must be"):
            make(IMAGE, input_data="randm")


class TestJson:
    def write(self, path: Path, data: Any, **more: Any) -> Path:
        file = path / "data.json"
        file.write_text(json.dumps({"data": data, **more}))
        return file

    def test_lists_are_flat_or_nested(self, tmp_path: Path) -> None:
        values = list(range(12))
        nested = np.reshape(values, (3, 4)).tolist()
        file = self.write(tmp_path, [{"image": values}, {"image": nested}])
        first, second = make(IMAGE, input_data=file)
        assert first.inputs["image"].tolist() == second.inputs["image"].tolist() == [nested]

    def test_base64_is_little_endian_bytes(self, tmp_path: Path) -> None:
        encoded = base64.b64encode(np.arange(12, dtype="<f4").tobytes()).decode()
        strings = base64.b64encode(b"\1\0\0\0a\2\0\0\0\xff\xfe").decode()
        file = self.write(tmp_path, [{"image": {"b64": encoded}, "text": {"content": {"b64": strings}, "shape": [2]}}])
        inputs = only(make([IMAGE, TEXT], input_data=file)).inputs
        assert inputs["image"].reshape(-1).tolist() == list(range(12))
        assert inputs["text"].tolist() == [[b"a", b"\xff\xfe"]]

    def test_a_shape_goes_before_the_given_sizes(self, tmp_path: Path) -> None:
        grid = TensorSpec("grid", "INT32", (-1, -1, -1))
        data = [
            {"grid": {"content": list(range(6)), "shape": [2, 3]}},
            {"grid": {"content": list(range(6)), "shape": [6, 1]}},
            {"grid": {"content": list(range(6))}},
        ]
        payloads = make(grid, input_data=self.write(tmp_path, data), shapes={"grid": [3, 2]})
        assert [payload.inputs["grid"].shape[1:] for payload in payloads] == [(2, 3), (6, 1), (3, 2)]

    def test_strings(self, tmp_path: Path) -> None:
        file = self.write(tmp_path, [{"text": ["é", "b"]}])
        assert only(make(TEXT, input_data=file)).inputs["text"].tolist() == [["é".encode(), b"b"]]

    def test_streams_are_sent_one_after_the_other(self, tmp_path: Path) -> None:
        file = self.write(tmp_path, [[{"ids": [1]}, {"ids": [2]}], [{"ids": [3]}]])
        assert [payload.inputs["ids"].item() for payload in make(IDS, input_data=file)] == [1, 2, 3]

    def test_validation_data_goes_with_its_entry(self, tmp_path: Path) -> None:
        file = self.write(
            tmp_path,
            [[{"ids": [1]}, {"ids": [2]}]],
            validation_data=[[{"score": [1, 1]}, {"score": {"content": [2, 2], "shape": [2]}}]],
        )
        (payload,) = make(IDS, 2, input_data=file)
        assert payload.expected is not None
        assert payload.expected["score"].tolist() == [[1, 1], [2, 2]]

    def test_expected_goes_before_it(self, tmp_path: Path) -> None:
        file = self.write(tmp_path, [{"ids": [1]}], validation_data=[{"score": [1, 1]}])
        right = only(make(IDS, input_data=file, expected={"score": [3, 3]})).expected
        assert right is not None
        assert right["score"].tolist() == [[3, 3]]

    @pytest.mark.parametrize(
        ("data", "more", "message"),
        [
            ({"ids": [1]}, {}, 'no list under "data"'),
            ([1], {}, "entry 0 of data is int, not an object"),
            ([{"ids": [1]}, {"id": [1]}], {}, "entry 1 of data: the model has no input 'id'"),
            ([{"ids": [0.5]}], {}, "entry 0 of data: The values of 'ids' can't be converted to INT32"),
            ([{"ids": {"b64": "not base64!"}}], {}, "'ids' is not base64-encoded INT32"),
            ([{"ids": {"b64": "AAA="}}], {}, "'ids' is not base64-encoded INT32"),
            ([{"ids": {"values": [1]}}], {}, 'neither "content" nor "b64"'),
            ([{"ids": {"content": [1, 2], "shape": [3]}}], {}, r"2 values, which do not match the shape \[3\]"),
            ([{"ids": [1]}], {"validation_data": [{}, {}]}, '1 entries under "data" and 2 under "validation_data"'),
            ([{"ids": [1]}], {"validation_data": [{"y": [1]}]}, "of validation_data: the model has no output 'y'"),
            ([{"ids": [1]}], {"validation_data": [3]}, "of validation_data is int, not a mapping"),
            ([{"ids": [1]}], {"validation_data": 5}, '"validation_data" is int, not a list'),
            ([{"ids": {"content": [1], "shape": 5}}], {}, "has the shape 5, which is not a list of whole numbers"),
            ([{"ids": {"content": [1], "shape": ["x"]}}], {}, "which is not a list of whole numbers"),
            ([{"ids": {"content": [1], "shape": [None]}}], {}, "which is not a list of whole numbers"),
        ],
    )
    def test_that_does_not_fit(self, tmp_path: Path, data: Any, more: dict[str, Any], message: str) -> None:
        file = self.write(tmp_path, data, **more)
        with pytest.raises(OptionError, match=message) as caught:
            make(IDS, input_data=file)
        assert str(file) in str(caught.value)

    def test_that_is_no_json(self, tmp_path: Path) -> None:
        file = tmp_path / "data.json"
        file.write_bytes(b"\x80{")
        with pytest.raises(OptionError, match=r"data.json can't be read as JSON"):
            make(IDS, input_data=file)


def test_facts_tell_the_kind_and_not_the_data(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text("{}")
    kinds = ("random", "zero", tmp_path, str(file), [{"x": 1}])
    assert [InputSettings(input_data=kind).facts() for kind in kinds] == [
        {"input_data": "random", "payloads": 1},
        {"input_data": "zero"},
        {"input_data": "directory"},
        {"input_data": "json"},
        {"input_data": "python"},
    ]
