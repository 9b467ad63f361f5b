"""Comparison of answers with the expected outputs. Sent to the load generator's processes with the requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pytest_gpuperf.model import GRPC, GRPC_STREAM, HTTP
from pytest_gpuperf.targets.kserve import grpc_codec, http_codec
from pytest_gpuperf.targets.kserve.message import OutputSlot
from pytest_gpuperf.targets.kserve.settings import Judge
from pytest_gpuperf.targets.payload import Array

Decode = Callable[[bytes, Mapping[str, str], Any], "dict[str, Array] | None"]
_DECODERS: dict[str, Decode] = {
    HTTP: http_codec.decode,
    GRPC: grpc_codec.decode,
    GRPC_STREAM: grpc_codec.decode_stream,
}
#: Headers that define how a body is decoded: with other values the same bytes may mean something else.
_DECODING_HEADERS = ("inference-header-content-length", "content-encoding")
#: How many accepted bodies are remembered. More than one, since a model that batches requests may compute the same
#: request in several ways.
_REMEMBERED = 4
_MAX_VALUE_CHARS = 60
#: What decoding raises for answers of another form than the protocol's: also nested or huge ones.
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError)


class OutputCheck:
    """Callable that compares an answer with the expected outputs and returns what is wrong; "" if nothing is.

    Args:
        protocol: Protocol of the answer.
        expected: Outputs by name, including the batch dimension; or a function that judges them.
        tolerance: Relative tolerance of floating point outputs.
        slot: Shared memory into which the server writes the outputs; None if the answer contains them.
    """

    def __init__(
        self, protocol: str, expected: Mapping[str, Array] | Judge, tolerance: float, slot: OutputSlot | None = None
    ) -> None:
        self._arguments = (protocol, expected, tolerance, slot)
        if protocol != HTTP:
            # Import now: at the first answer, the import would delay the next requests.
            grpc_codec.messages()
        self._accepted: deque[tuple[bytes, ...]] = deque(maxlen=_REMEMBERED)

    def __reduce__(self) -> tuple[type[OutputCheck], tuple[Any, ...]]:
        return OutputCheck, self._arguments

    def __call__(self, body: bytes, headers: Mapping[str, str]) -> str:
        protocol, expected, tolerance, slot = self._arguments
        try:
            # The same bytes were accepted before. Shared memory is part of the answer.
            memory = [slot.output(name) or b"" for name in slot.memory_ranges] if slot is not None else []
            answer = (body, *memory, *(headers.get(name, "").encode() for name in _DECODING_HEADERS))
            if answer in self._accepted:
                return ""
            outputs = _DECODERS[protocol](body, headers, slot)
        except _UNREADABLE as error:
            return f"it can't be read: {error if isinstance(error, ValueError) else repr(error)}"
        if outputs is None:
            return ""
        wrong = (
            _call_judge(expected, outputs) if callable(expected) else describe_difference(expected, outputs, tolerance)
        )
        if not wrong:
            self._accepted.append(answer)
        return wrong


def _call_judge(judge: Judge, outputs: dict[str, Array]) -> str:
    try:
        verdict = judge(outputs)
    except Exception as error:  # noqa: BLE001 - a function of the user that fails did not accept the answer
        return f"expected= raised {error!r}"
    if isinstance(verdict, str):
        return verdict
    return "" if verdict else "expected= rejected it"


def describe_difference(expected: Mapping[str, Array], outputs: Mapping[str, Array], tolerance: float) -> str:
    """Return what is wrong with the outputs; empty if nothing is."""
    for name, wanted in expected.items():
        actual = outputs.get(name)
        if actual is None:
            return f"there is no output {name!r}; the answer has {', '.join(outputs) or 'none'}"
        if actual.shape != wanted.shape:
            return f"output {name!r} has the shape {list(actual.shape)}, not {list(wanted.shape)}"
        index = worst_element(wanted, actual, tolerance)
        if index is not None:
            margin = f" (tolerance {tolerance:g})" if wanted.dtype.kind == "f" else ""
            values = f"{_formatted(actual[index])}, not {_formatted(wanted[index])}"
            return f"output {name!r}: element {list(index)} is {values}{margin}"
    return ""


def worst_element(wanted: Array, actual: Array, tolerance: float) -> tuple[int, ...] | None:
    """Return the index of the element that differs most; None if all are within the tolerance.

    Floating point numbers may differ by ``tolerance`` times the wanted value, or times the output's root mean square if
    that is larger: a logit near zero among logits near ten is not computed more precisely than they are.
    """
    if wanted.dtype.kind != "f":
        wrong = actual != wanted
        if not np.any(wrong):
            return None
        if wanted.dtype.kind in "iu":
            # Python integers, since differences of 64-bit values may overflow.
            distance = np.abs(actual.astype(object) - wanted.astype(object))
            return _index(int(np.argmax(distance.reshape(-1))), wanted)
        return _index(int(np.argmax(wrong.reshape(-1))), wanted)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        exact, got = wanted.astype(np.float64), actual.astype(np.float64)
        finite = exact[np.isfinite(exact)]
        scale = float(np.sqrt(np.mean(finite * finite))) if finite.size else 0.0
        excess = np.abs(got - exact) - tolerance * np.maximum(np.abs(exact), scale)
    same = (got == exact) | (np.isnan(got) & np.isnan(exact))
    # A misplaced infinity or NaN counts as the largest difference.
    excess = np.where(same, -np.inf, np.where(np.isfinite(got) & np.isfinite(exact), excess, np.inf))
    if not excess.size or excess.max() <= 0:
        return None
    return _index(int(np.argmax(excess.reshape(-1))), wanted)


def _index(index: int, array: Array) -> tuple[int, ...]:
    return tuple(int(part) for part in np.unravel_index(index, array.shape))


def _formatted(value: Any) -> str:
    if isinstance(value, bytes):
        text = repr(value)
        return text if len(text) <= _MAX_VALUE_CHARS else text[: _MAX_VALUE_CHARS - 3] + "..."
    return str(value)
