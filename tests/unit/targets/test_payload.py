from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.payload import (
    DTYPES,
    Array,
    TensorSpec,
    from_bytes,
    resolve_item_shape,
    synthetic_array,
    to_array,
    to_bytes,
    to_item,
)

NUMERIC = sorted(set(DTYPES) - {"BYTES"})


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class TestMadeUp:
    @pytest.mark.parametrize("datatype", DTYPES)
    def test_every_datatype_has_values(self, datatype: str) -> None:
        spec = TensorSpec("x", datatype, (-1, 5))
        for generator in (random(), None):
            array = synthetic_array(spec, (4, 5), generator, 8)
            assert array.dtype == np.dtype(DTYPES[datatype])
            assert array.shape == (4, 5)

    @pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
    def test_floats_are_normal_numbers(self, datatype: str) -> None:
        values = synthetic_array(TensorSpec("x", datatype, (-1,)), (10_000,), random(), 0).astype(np.float64)
        assert abs(values.mean()) < 0.1
        assert 0.9 < values.std() < 1.1

    @pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "INT32", "INT64"])
    def test_integers_are_valid_as_token_ids_and_masks(self, datatype: str) -> None:
        values = synthetic_array(TensorSpec("x", datatype, (-1,)), (1000,), random(), 0)
        assert set(np.unique(values).tolist()) == {0, 1}

    def test_random_strings_have_the_length_and_differ(self) -> None:
        values = synthetic_array(TensorSpec("x", "BYTES", (-1, 3)), (2, 3), random(), 20).reshape(-1).tolist()
        assert all(isinstance(value, bytes) and len(value) == 20 and value.isalnum() for value in values)
        assert len(set(values)) == 6

    def test_zeros(self) -> None:
        assert not synthetic_array(TensorSpec("x", "FP32", (3,)), (3,), None, 0).any()
        assert synthetic_array(TensorSpec("x", "BYTES", (2,)), (2,), None, 9).tolist() == [b"0", b"0"]

    def test_a_scalar_has_no_dimensions(self) -> None:
        assert synthetic_array(TensorSpec("x", "FP32", ()), (), random(), 0).shape == ()
        assert synthetic_array(TensorSpec("x", "BYTES", ()), (), random(), 3).shape == ()

    def test_a_type_that_nobody_knows_is_refused_by_name(self) -> None:
        with pytest.raises(OptionError, match="'x' has the unsupported type FP4"):
            synthetic_array(TensorSpec("x", "FP4", (2,)), (2,), random(), 0)


class TestSizes:
    tokens = TensorSpec("tokens", "INT64", (-1, -1, 3))

    def test_fill_the_free_dimensions(self) -> None:
        assert resolve_item_shape(self.tokens, [16, 3], batched=True) == (16, 3)
        assert resolve_item_shape(self.tokens, [2, 16, 3], batched=False) == (2, 16, 3)

    def test_are_what_the_model_says_when_not_given(self) -> None:
        assert resolve_item_shape(self.tokens, None, batched=True) == (-1, 3)

    @pytest.mark.parametrize("sizes", [[16, 4], [16], [16, 3, 1], [16, -1], []])
    def test_never_override_what_the_model_fixes(self, sizes: list[int]) -> None:
        with pytest.raises(OptionError, match=r"contradicts the model's shape \[-1, 3\] \(without the batch"):
            resolve_item_shape(self.tokens, sizes, batched=True)


class TestConverted:
    def test_to_the_models_type(self) -> None:
        array = to_array(TensorSpec("x", "FP32", (2,)), [1, 2])
        assert array.dtype == np.float32

    def test_scalars_stay_scalars(self) -> None:
        assert to_array(TensorSpec("x", "FP32", ()), 1.5).shape == ()

    def test_a_slice_becomes_contiguous(self) -> None:
        array = to_array(TensorSpec("x", "INT32", (2,)), np.arange(8, dtype=np.int32)[::4])
        assert array.flags.c_contiguous

    def test_text_becomes_bytes(self) -> None:
        array = to_array(TensorSpec("x", "BYTES", (2,)), ["é", b"\xff"])
        assert array.tolist() == ["é".encode(), b"\xff"]

    @pytest.mark.parametrize(
        ("datatype", "values"),
        [
            ("UINT8", [300]),
            ("UINT8", [-1]),
            ("INT32", [0.5]),
            ("BOOL", [2]),
            ("FP32", ["one"]),
            ("FP32", [[1, 2], [3]]),
            ("BYTES", [1]),
        ],
    )
    def test_values_that_would_be_changed_are_refused(self, datatype: str, values: list[object]) -> None:
        with pytest.raises(OptionError, match="'x'"):
            to_array(TensorSpec("x", datatype, (-1,)), values)


class TestShaped:
    def test_one_free_dimension_is_found(self) -> None:
        assert to_item(TensorSpec("x", "INT32", ()), np.arange(12), (-1, 3)).shape == (4, 3)

    @pytest.mark.parametrize("shape", [(5,), (-1, 5), (2, 2), ()])
    def test_values_that_do_not_fit(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(OptionError, match="'x' has 12 values, which do not match the shape"):
            to_item(TensorSpec("x", "INT32", ()), np.arange(12), shape)

    def test_two_free_dimensions_must_be_given(self) -> None:
        with pytest.raises(OptionError, match=r"free dimensions \[-1, -1\].*shapes=\{'x': \[128, 128\]\}"):
            to_item(TensorSpec("x", "INT32", ()), np.arange(12), (-1, -1))


class TestBytes:
    @given(st.sampled_from(NUMERIC), st.lists(st.integers(0, 4), max_size=3), st.integers(0, 100))
    def test_numbers_survive_the_wire(self, datatype: str, shape: list[int], seed: int) -> None:
        sent = synthetic_array(TensorSpec("x", datatype, ()), tuple(shape), random(seed), 0)
        wire = to_bytes(datatype, sent)
        assert len(wire) == TensorSpec("x", datatype, ()).item_bytes * sent.size
        back = from_bytes(datatype, wire).reshape(shape)
        if datatype == "BF16":
            assert np.allclose(back, sent, rtol=2**-8)
        else:
            assert np.array_equal(back, sent)

    @given(st.lists(st.binary(max_size=9)))
    def test_strings_survive_the_wire(self, strings: list[bytes]) -> None:
        sent = to_array(TensorSpec("x", "BYTES", ()), strings)
        wire = to_bytes("BYTES", sent)
        assert from_bytes("BYTES", wire).tolist() == strings
        assert from_bytes("BYTES", wire + b"\0\0", len(strings)).tolist() == strings

    def test_are_little_endian_and_row_major(self) -> None:
        assert to_bytes("INT16", np.array([[1, 2], [3, 4]], np.int16)) == b"\1\0\2\0\3\0\4\0"
        assert to_bytes("INT16", np.array([[1, 2], [3, 4]], np.int16).T) == b"\1\0\3\0\2\0\4\0"
        assert to_bytes("BYTES", to_array(TensorSpec("x", "BYTES", ()), ["ab", ""])) == b"\2\0\0\0ab\0\0\0\0"

    @pytest.mark.parametrize(
        ("value", "bits"),
        [
            (1.0, 0x3F80),
            (-2.0, 0xC000),
            (1 + 2**-8, 0x3F80),  # a tie goes to the even neighbour
            (1 + 3 * 2**-8, 0x3F82),
            (1 + 2**-8 + 2**-20, 0x3F81),
            (float("inf"), 0x7F80),
            (3.4e38, 0x7F80),
        ],
    )
    def test_bf16_is_rounded_to_the_nearest(self, value: float, bits: int) -> None:
        assert to_bytes("BF16", np.array([value], np.float32)) == bits.to_bytes(2, "little")

    def test_bf16_keeps_what_is_not_a_number(self) -> None:
        odd: Array = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
        assert np.isnan(from_bytes("BF16", to_bytes("BF16", odd)).astype(np.float64)).all()

    @pytest.mark.parametrize("wire", [b"\5\0", b"\5\0\0\0abcd", b"\0\0\0\0\xff\xff\xff\xffx"])
    def test_strings_that_are_cut_off(self, wire: bytes) -> None:
        with pytest.raises(ValueError, match="cut off"):
            from_bytes("BYTES", wire)
