from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.payload import TensorSpec
from pytest_gpuperf.targets.tensorrt.profiles import ShapeRange, batch_range, choose_profile, make_profiles, size_range

IMAGE = TensorSpec("x", "FP32", (-1, 3, -1, -1))
IDS = TensorSpec("ids", "INT64", (-1, -1))
FIXED = TensorSpec("x", "FP32", (1, 3, 8, 8))


class TestBatches:
    def test_a_number_is_exact_and_three_are_a_range(self) -> None:
        assert batch_range(8) == (8, 8, 8)
        assert batch_range((1, 4, 32)) == (1, 4, 32)

    @pytest.mark.parametrize("batch", [0, -1, (1, 2), (4, 2, 8), (1, 8, 4), (0, 1, 2), "8", (1.0, 2.0, 3.0)])
    def test_anything_else_is_refused(self, batch: Any) -> None:
        with pytest.raises(OptionError, match=r"must be a batch size, such as 8, or \(smallest"):
            batch_range(batch)


class TestSizes:
    def test_a_shape_or_a_range_of_shapes(self) -> None:
        assert size_range("x", [3, 8, 8]) == ShapeRange((3, 8, 8), (3, 8, 8), (3, 8, 8))
        assert size_range("x", ([1], [128], [512])) == ShapeRange((1,), (128,), (512,))
        assert size_range("x", []).exact

    @pytest.mark.parametrize(
        "sizes", [[0], [-1], ([1], [2]), ([2], [1], [3]), ([1], [2, 2], [3]), ([], [], []), "abc", (1, [2], 3)]
    )
    def test_anything_else_is_refused(self, sizes: Any) -> None:
        with pytest.raises(OptionError, match=r"must be a shape without the batch, such as \[128\], or \(smallest"):
            size_range("x", sizes)


class TestProfiles:
    def test_one_for_each_batch_size(self) -> None:
        one, two = make_profiles([IMAGE], batched=True, batch_sizes=(1, (2, 4, 8)), shapes={"x": [3, 16, 32]})
        assert one["x"] == ShapeRange((1, 3, 16, 32), (1, 3, 16, 32), (1, 3, 16, 32))
        assert two["x"] == ShapeRange((2, 3, 16, 32), (4, 3, 16, 32), (8, 3, 16, 32))

    def test_ranges_of_sizes_go_into_every_one(self) -> None:
        found = make_profiles([IDS], batched=True, batch_sizes=(1, 8), shapes={"ids": ([1], [64], [128])})
        assert [str(one["ids"]) for one in found] == ["[1, 1] to [1, 128]", "[8, 1] to [8, 128]"]

    def test_a_fixed_model_has_none(self) -> None:
        assert make_profiles([FIXED], batched=False, batch_sizes=(1,), shapes={}) == ()

    def test_a_model_without_a_batch_has_one(self) -> None:
        (found,) = make_profiles(
            [TensorSpec("x", "FP32", (1, -1))], batched=False, batch_sizes=(1,), shapes={"x": [1, 9]}
        )
        assert found["x"].tuned == (1, 9)

    def test_a_fixed_batch_can_not_be_chosen(self) -> None:
        with pytest.raises(OptionError, match="first dimension is fixed"):
            make_profiles([FIXED], batched=False, batch_sizes=(1, 8), shapes={})

    def test_free_dimensions_need_sizes(self) -> None:
        with pytest.raises(
            OptionError, match=r"'x' has free dimensions \[3, -1, -1\].*shapes=\{'x': \[3, 128, 128\]\}"
        ):
            make_profiles([IMAGE], batched=True, batch_sizes=(1,), shapes={})

    def test_sizes_can_not_contradict_the_model(self) -> None:
        for sizes in ([4, 16, 16], [3, 16], ([3, 8, 8], [3, 8, 8], [4, 8, 8])):
            with pytest.raises(OptionError, match="contradicts the model"):
                make_profiles([IMAGE], batched=True, batch_sizes=(1,), shapes={"x": sizes})

    def test_names_must_be_inputs(self) -> None:
        with pytest.raises(OptionError, match="no input 'y'; its inputs are x"):
            make_profiles([FIXED], batched=False, batch_sizes=(1,), shapes={"y": [1]})


class TestChoice:
    profiles = make_profiles([IDS], batched=True, batch_sizes=((1, 4, 32), 8), shapes={"ids": [16]})

    def test_prefers_the_one_that_is_exact(self) -> None:
        assert choose_profile(self.profiles, {"ids": (8, 16)}) == 1

    def test_takes_the_first_that_fits(self) -> None:
        assert choose_profile(self.profiles, {"ids": (7, 16)}) == 0

    @pytest.mark.parametrize("shape", [(33, 16), (8, 17), (8,)])
    def test_says_what_the_engine_was_built_for(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(
            OptionError, match=r"(?s)was not built for ids.*profile 0: ids \[1, 16\] to \[32, 16\].*batch_sizes="
        ):
            choose_profile(self.profiles, {"ids": shape})

    @given(st.lists(st.integers(1, 64), min_size=1, max_size=5), st.integers(1, 64))
    def test_exact_profiles_take_their_own_batch_sizes_and_no_other(self, sizes: list[int], wanted: int) -> None:
        profiles = make_profiles([IDS], batched=True, batch_sizes=sizes, shapes={"ids": [4]})
        if wanted in sizes:
            assert sizes[choose_profile(profiles, {"ids": (wanted, 4)})] == wanted
        else:
            with pytest.raises(OptionError, match="was not built for"):
                choose_profile(profiles, {"ids": (wanted, 4)})
