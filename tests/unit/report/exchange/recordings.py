"""Recordings of windows, made by hand."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from pytest_gpuperf.load.generator import Recording, Times


def column(values: Sequence[int]) -> memoryview:
    return memoryview(array("q", values))


def closed_loop(*sent_done: tuple[int, int], start_ns: int = 0, stop_ns: int = 1000) -> Recording:
    sent = column([sent for sent, _ in sent_done])
    lane = Times(sent, sent, column([done for _, done in sent_done]))
    return Recording(start_ns, stop_ns, (lane,), {}, "", 0.0)
