"""Precisions, and how each version of TensorRT is brought to them."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_gpuperf.errors import OptionError

FP32, TF32, FP16, BF16, INT8, FP8 = "fp32", "tf32", "fp16", "bf16", "int8", "fp8"
PRECISIONS = (FP32, TF32, FP16, BF16, INT8, FP8)
#: Those that need a model with QuantizeLinear and DequantizeLinear nodes: calibration is the training side's work.
QUANTIZED = (INT8, FP8)
#: Those that have flags of their own as long as a network's types need not be the model's.
_FLAGGED = {FP16: "FP16", BF16: "BF16"}


@dataclass(frozen=True)
class Recipe:
    """How an engine of some precision is built.

    Attributes:
        flags, cleared: builder flags to set and to clear, by name.
        strongly_typed: the types are those of the model, and the builder chooses none itself.
        convert: the ONNX model is converted to this precision first; empty where it isn't.
    """

    flags: tuple[str, ...] = ()
    cleared: tuple[str, ...] = ()
    strongly_typed: bool = False
    convert: str = ""


def recipe_for(precision: str, *, always_typed: bool) -> Recipe:
    """How to come to a precision.

    TF32 is TensorRT's own default, so fp32 has to switch it off; elsewhere it stays for the layers left in FP32.

    Args:
        always_typed: this TensorRT knows no flags for precisions (TensorRT 11, TensorRT for RTX).

    Raises:
        OptionError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise OptionError(f"precision={precision!r}: the precisions are {', '.join(PRECISIONS)}.")
    if precision == FP32:
        return Recipe(cleared=("TF32",), strongly_typed=always_typed)
    if precision in _FLAGGED:
        if always_typed:
            return Recipe(flags=("TF32",), strongly_typed=True, convert=precision)
        return Recipe(flags=("TF32", _FLAGGED[precision]))
    return Recipe(flags=("TF32",), strongly_typed=always_typed or precision in QUANTIZED)
