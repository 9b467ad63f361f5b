from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.payload import Array, TensorSpec, make_inputs

DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
IMAGE = TensorSpec("image", "FP32", (-1, 3, 8, 8))


def one(spec: TensorSpec, batch_size: int = 1, *, batched: bool = True, **options: dict[str, object]) -> Array:
    shapes, values = options.get("shapes", {}), options.get("given", {})
    (array,) = make_inputs(
        [spec],
        batch_size=batch_size,
        batched=batched,
        shapes=shapes,  # type: ignore[arg-type]
        given=values,  # type: ignore[arg-type]
    ).values()
    return array


@pytest.mark.parametrize("datatype", DTYPES)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_every_datatype_has_numbers(datatype: str, batch_size: int) -> None:
    array = one(TensorSpec("x", datatype, (-1, 5)), batch_size)
    assert array.dtype == np.dtype(DTYPES[datatype])
    assert array.shape == (batch_size, 5)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_floats_are_normal_numbers(datatype: str) -> None:
    values = one(TensorSpec("x", datatype, (-1, 10_000))).astype(np.float64)
    assert abs(values.mean()) < 0.1
    assert 0.9 < values.std() < 1.1


@pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "INT32", "INT64"])
def test_integers_are_valid_as_token_ids_and_masks(datatype: str) -> None:
    assert set(np.unique(one(TensorSpec("x", datatype, (-1, 1000)))).tolist()) == {0, 1}


def test_bytes_are_bytes() -> None:
    assert one(TensorSpec("x", "BYTES", (-1, 2)), 3).tolist() == [[b"gpuperf"] * 2] * 3


@given(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(1, 5), max_size=3), st.integers(1, 6))
def test_the_same_signature_gives_the_same_bytes(datatype: str, shape: list[int], batch_size: int) -> None:
    specs = [TensorSpec("x", datatype, (-1, *shape)), TensorSpec("y", "FP32", (-1, 2))]
    first, second = (make_inputs(specs, batch_size=batch_size, batched=True, shapes={}) for _ in range(2))
    for name in ("x", "y"):
        assert first[name].shape[0] == batch_size
        assert np.array_equal(first[name], second[name])


def test_another_seed_gives_others() -> None:
    first, second = (make_inputs([IMAGE], batch_size=1, batched=True, shapes={}, seed=seed)["image"] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_two_inputs_differ() -> None:
    specs = [TensorSpec("left", "FP32", (-1, 50)), TensorSpec("right", "FP32", (-1, 50))]
    inputs = make_inputs(specs, batch_size=1, batched=True, shapes={})
    assert not np.array_equal(inputs["left"], inputs["right"])


def test_a_fixed_first_dimension_is_no_batch() -> None:
    fixed = TensorSpec("x", "FP32", (2, 3))
    assert one(fixed, batched=False).shape == (2, 3)
    with pytest.raises(OptionError, match="first dimension is fixed, so batch_size=4 can't be sent"):
        one(fixed, 4, batched=False)


def test_a_scalar_has_no_dimensions() -> None:
    assert one(TensorSpec("x", "FP32", ()), batched=False).shape == ()
    assert one(TensorSpec("x", "INT64", (-1,)), 4).shape == (4,)


class TestFreeDimensions:
    tokens = TensorSpec("tokens", "INT64", (-1, -1))

    def test_must_be_given(self) -> None:
        with pytest.raises(OptionError, match=r"'tokens' has free dimensions \[-1\].*shapes=\{'tokens': \[128\]\}"):
            one(self.tokens)

    def test_as_sizes_without_the_batch(self) -> None:
        assert one(self.tokens, 4, shapes={"tokens": [16]}).shape == (4, 16)

    def test_a_model_without_batches_has_them_too(self) -> None:
        spec = TensorSpec("audio", "FP32", (1, -1))
        with pytest.raises(OptionError, match=r"shapes=\{'audio': \[1, 128\]\}"):
            one(spec, batched=False)
        assert one(spec, batched=False, shapes={"audio": (1, 16000)}).shape == (1, 16000)

    def test_a_size_for_an_unknown_input_is_refused(self) -> None:
        with pytest.raises(OptionError, match="no input 'token'; its inputs are tokens"):
            one(self.tokens, shapes={"token": [16]})


class TestGiven:
    def test_is_sent_once_for_every_item_of_the_batch(self) -> None:
        values = np.arange(3 * 8 * 8, dtype=np.float32).reshape(3, 8, 8)
        sent = one(IMAGE, 5, given={"image": values})
        assert sent.shape == (5, 3, 8, 8)
        assert all(np.array_equal(item, values) for item in sent)
        assert sent.flags.c_contiguous

    def test_is_sent_as_it_is_when_there_are_no_batches(self) -> None:
        values = np.ones((2, 3), np.float32)
        assert np.array_equal(one(TensorSpec("x", "FP32", (2, 3)), batched=False, given={"x": values}), values)

    def test_gets_the_models_type(self) -> None:
        sent = one(IMAGE, given={"image": np.zeros((3, 8, 8), np.float64)})
        assert sent.dtype == np.float32

    def test_frees_from_naming_sizes(self) -> None:
        assert one(TensorSpec("x", "INT64", (-1, -1)), 2, given={"x": np.ones(7)}).shape == (2, 7)

    def test_leaves_the_other_inputs_random(self) -> None:
        specs = [TensorSpec("x", "FP32", (-1, 2)), TensorSpec("y", "FP32", (-1, 20))]
        inputs = make_inputs(specs, batch_size=1, batched=True, shapes={}, given={"x": np.zeros(2)})
        assert not inputs["x"].any()
        assert inputs["y"].std() > 0

    def test_for_an_unknown_input_is_refused(self) -> None:
        with pytest.raises(OptionError, match="no input 'img'; its inputs are image"):
            one(IMAGE, given={"img": np.zeros(1)})


def test_a_type_without_numbers_is_refused_by_name() -> None:
    with pytest.raises(OptionError, match="'x' has the type BF16"):
        one(TensorSpec("x", "BF16", (-1, 2)))
