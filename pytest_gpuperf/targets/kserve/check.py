"""Holding answers against what they should be. Sent to the load generator's processes with the requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pytest_gpuperf.model import GRPC, GRPC_STREAM, HTTP
from pytest_gpuperf.targets.kserve import grpc_form, http_form
from pytest_gpuperf.targets.kserve.memory import Slot
from pytest_gpuperf.targets.kserve.settings import Judge
from pytest_gpuperf.targets.payload import Array

Decode = Callable[[bytes, Mapping[str, str], Any], "dict[str, Array] | None"]
_DECODERS: dict[str, Decode] = {
    HTTP: http_form.decode,
    GRPC: grpc_form.decode,
    GRPC_STREAM: grpc_form.decode_stream,
}
#: Headers that say how a body is read: with others the same bytes may mean something else.
_FORM = ("inference-header-content-length", "content-encoding")
#: Right bodies that are remembered. More than one: a model that gathers requests into batches may compute the same
#: request in a few ways.
_REMEMBERED = 4
_SHOWN = 60


class AnswerCheck:
    """Whether an answer has the right outputs.

    Args:
        protocol: in which it comes.
        expected: the outputs, with the batch; or what judges them.
        tolerance: relative, of floating point outputs.
        slot: where the server puts the outputs; None: into the answer.
    """

    def __init__(
        self, protocol: str, expected: Mapping[str, Array] | Judge, tolerance: float, slot: Slot | None = None
    ) -> None:
        self._state = (protocol, expected, tolerance, slot)
        self._prepare()

    def _prepare(self) -> None:
        if self._state[0] != HTTP:
            # Now, not when the first answer is there: it takes a while, in which no request would be sent.
            grpc_form.messages()
        self._right: deque[tuple[bytes, ...]] = deque(maxlen=_REMEMBERED)

    def __getstate__(self) -> tuple[Any, ...]:
        return self._state

    def __setstate__(self, state: tuple[str, Mapping[str, Array] | Judge, float, Slot | None]) -> None:
        self._state = state
        self._prepare()

    def __call__(self, body: bytes, headers: Mapping[str, str]) -> str:
        protocol, expected, tolerance, slot = self._state
        try:
            # The same bytes in the same place were right before. Shared memory is part of the answer.
            memory = [slot.output(name) or b"" for name in slot.places] if slot is not None else []
            seen = (body, *memory, *(headers.get(name, "").encode() for name in _FORM))
            if seen in self._right:
                return ""
            outputs = _DECODERS[protocol](body, headers, slot)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            return f"it can't be read: {error!r}" if not isinstance(error, ValueError) else f"it can't be read: {error}"
        if outputs is None:
            return ""
        wrong = _judged(expected, outputs) if callable(expected) else difference(expected, outputs, tolerance)
        if not wrong:
            self._right.append(seen)
        return wrong


def _judged(judge: Judge, outputs: dict[str, Array]) -> str:
    try:
        verdict = judge(outputs)
    except Exception as error:  # noqa: BLE001 - the user's function; one that fails has not found the answer right
        return f"expected= failed on it: {error!r}"
    if isinstance(verdict, str):
        return verdict
    return "" if verdict else "expected= found it wrong"


def difference(expected: Mapping[str, Array], outputs: Mapping[str, Array], tolerance: float) -> str:
    """What is wrong with the outputs; empty when nothing is."""
    for name, right in expected.items():
        found = outputs.get(name)
        if found is None:
            return f"there is no output {name!r}; the answer has {', '.join(outputs) or 'none'}"
        if found.shape != right.shape:
            return f"output {name!r} has the shape {list(found.shape)}, not {list(right.shape)}"
        place = worst(right, found, tolerance)
        if place is not None:
            margin = f" (tolerance {tolerance:g})" if right.dtype.kind == "f" else ""
            return (
                f"output {name!r}: element {list(place)} is {_shown(found[place])}, not {_shown(right[place])}{margin}"
            )
    return ""


def worst(right: Array, found: Array, tolerance: float) -> tuple[int, ...] | None:
    """The element that is farthest off; None when none is.

    Floating point numbers may differ by ``tolerance`` of the right value, or of the output's root mean square where
    that is larger: a logit near zero among logits near ten is not computed more exactly than they are.
    """
    if right.dtype.kind != "f":
        wrong = found != right
        if not np.any(wrong):
            return None
        if right.dtype.kind in "iu":
            # As Python's integers, since differences of the widest types don't fit into them.
            distance = np.abs(found.astype(object) - right.astype(object))
            return _place(int(np.argmax(distance.reshape(-1))), right)
        return _place(int(np.argmax(wrong.reshape(-1))), right)
    exact, got = right.astype(np.float64), found.astype(np.float64)
    finite = exact[np.isfinite(exact)]
    scale = float(np.sqrt(np.mean(finite * finite))) if finite.size else 0.0
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        excess = np.abs(got - exact) - tolerance * np.maximum(np.abs(exact), scale)
    same = (got == exact) | (np.isnan(got) & np.isnan(exact))
    # An infinity or a NaN in the wrong place is as wrong as can be.
    excess = np.where(same, -np.inf, np.where(np.isfinite(got) & np.isfinite(exact), excess, np.inf))
    if not excess.size or excess.max() <= 0:
        return None
    return _place(int(np.argmax(excess.reshape(-1))), right)


def _place(index: int, array: Array) -> tuple[int, ...]:
    return tuple(int(part) for part in np.unravel_index(index, array.shape))


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        text = repr(value)
        return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    return str(value)
