"""Precisions, and the builder settings that produce them in each version of TensorRT."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_gpuperf.errors import OptionError

FP32, TF32, FP16, BF16, INT8, FP8 = "fp32", "tf32", "fp16", "bf16", "int8", "fp8"
PRECISIONS = (FP32, TF32, FP16, BF16, INT8, FP8)
#: Precisions that need a model with QuantizeLinear and DequantizeLinear nodes.
QUANTIZED = (INT8, FP8)
#: Precisions with a builder flag of that name, in versions that don't always use the model's types.
_FLAGGED = (FP16, BF16)


@dataclass(frozen=True)
class Recipe:
    """Builder settings for a precision.

    Attributes:
        flags, cleared: Names of builder flags to set and to clear.
        strongly_typed: Whether the builder uses the model's types and chooses none itself.
        convert: Precision that the ONNX model is converted to first; empty for no conversion.
    """

    flags: tuple[str, ...] = ()
    cleared: tuple[str, ...] = ()
    strongly_typed: bool = False
    convert: str = ""


def recipe_for(precision: str, *, always_typed: bool) -> Recipe:
    """Return the builder settings for a precision.

    TF32 is TensorRT's default, so fp32 clears its flag; other precisions keep it for layers that remain in FP32.

    Args:
        always_typed: Whether this TensorRT has no flags for precisions (TensorRT 11, TensorRT for RTX).
    """
    if precision not in PRECISIONS:
        raise OptionError(f"precision={precision!r}: the precisions are {', '.join(PRECISIONS)}.")
    if precision == FP32:
        return Recipe(cleared=("TF32",), strongly_typed=always_typed)
    if precision in _FLAGGED:
        if always_typed:
            return Recipe(flags=("TF32",), strongly_typed=True, convert=precision)
        return Recipe(flags=("TF32", precision.upper()))
    return Recipe(flags=("TF32",), strongly_typed=always_typed or precision in QUANTIZED)
