from __future__ import annotations

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.tensorrt.precision import PRECISIONS, QUANTIZED, recipe_for


def test_fp32_is_without_tf32_and_all_others_are_with_it() -> None:
    for always_typed in (False, True):
        for precision in PRECISIONS:
            found = recipe_for(precision, always_typed=always_typed)
            assert ("TF32" in found.cleared) == (precision == "fp32")
            assert ("TF32" in found.flags) == (precision != "fp32")


def test_tensorrt_10_has_flags() -> None:
    assert "FP16" in recipe_for("fp16", always_typed=False).flags
    assert "BF16" in recipe_for("bf16", always_typed=False).flags
    assert not recipe_for("fp16", always_typed=False).strongly_typed
    assert not any(recipe_for(precision, always_typed=False).convert for precision in PRECISIONS)


def test_from_11_on_the_model_is_converted() -> None:
    assert [recipe_for(precision, always_typed=True).convert for precision in PRECISIONS] == [
        "",
        "",
        "fp16",
        "bf16",
        "",
        "",
    ]
    assert all(recipe_for(precision, always_typed=True).strongly_typed for precision in PRECISIONS)
    assert {flag for one in PRECISIONS for flag in recipe_for(one, always_typed=True).flags} == {"TF32"}


def test_quantized_models_keep_their_types() -> None:
    assert all(recipe_for(precision, always_typed=False).strongly_typed for precision in QUANTIZED)


def test_anything_else_is_refused() -> None:
    with pytest.raises(OptionError, match="precision='fp4': the precisions are fp32, tf32, fp16"):
        recipe_for("fp4", always_typed=True)
