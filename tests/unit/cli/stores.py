"""Stores with sessions in them, for the commands that work on stored sessions."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.model import PlainMapping
from pytest_gpuperf.store import Store
from tests.unit.factories import KEY, session

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
) -> None:
    """A session of three runs that differ by half a percent."""
    chance = random.Random(name)
    runs = [[p50_ms * point * math.exp(chance.gauss(0, 0.005)) for point in points] for _ in range(3)]
    store.write(session(runs, name=name, minute=DAY * day, gate=gate, status=status, key=key, commit=commit))


def gpuperf(store: Store, *arguments: str) -> int:
    """The command on that store."""
    return main([*arguments, "--store", store.url])
