"""Stores with records, for the commands that read them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.model import LoadPoint, PlainMapping
from pytest_gpuperf.store import Store
from tests.unit.factories import KEY, record

DAY = 1440


def measured(
    store: Store,
    name: str,
    p50_ms: float = 4.0,
    *,
    day: int = 0,
    points: Sequence[float] = (1.0, 1.8),
    gate: str = "passed",
    status: str = "complete",
    key: PlainMapping = KEY,
    commit: str = "1234567890",
    device: str = "",
) -> None:
    """Store a record of three runs that differ by half a percent."""
    chance = random.Random(name)
    runs = [[p50_ms * point * math.exp(chance.gauss(0, 0.005)) for point in points] for _ in range(3)]
    new = record(runs, name=name, minute=DAY * day, gate=gate, status=status, key=key, commit=commit)
    store.write(replace(new, environment={**new.environment, "gpu_uuid": device}) if device else new)


def two_gpus(store: Store) -> None:
    """Store the records of docs/cost.md: a test on a T4, and on an A10G that is three times as fast, at several rates.

    They are computed, not measured: the queue of a single server near its capacity, runs 1% apart.
    """
    for minute, (device, name, base_ms, capacity) in enumerate(
        (("Tesla T4", "74d3f0a1b2c4", 150.0, 8.0), ("NVIDIA A10G", "a10d3f0a1b2c", 50.0, 24.0))
    ):
        chance = random.Random(name)
        rates = [rate for rate in (2.0, 4.0, 6.0, 12.0, 18.0) if rate < capacity]
        levels = [base_ms * (1 + 0.5 * (rate / capacity) / (1 - rate / capacity)) for rate in rates]
        runs = [[level * math.exp(chance.gauss(0, 0.01)) for level in levels] for _ in range(3)]
        points = [LoadPoint(0, 1, rate, "poisson") for rate in rates]
        key = {**KEY, "test": "tests/test_serving.py::test_segmentation", "device": device}
        store.write(record(runs, at=points, key=key, name=name, minute=minute, requests=600))


def gpuperf(store: Store, *arguments: str) -> int:
    """Run the command on that store."""
    return main([*arguments, "--store", store.url])
