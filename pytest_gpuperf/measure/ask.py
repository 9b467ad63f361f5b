"""Requests of algorithms that choose the loads: generators that yield ``Ask`` and are sent windows.

The algorithms know neither clocks nor servers; ``explore`` measures for them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pytest_gpuperf.model import Window

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ask:
    """The windows to measure next.

    Attributes:
        load: A concurrency, or a rate in requests per second.
        visits: The number of windows.
    """

    load: float
    visits: int


#: Yields what to measure next, is sent the windows, and returns its result.
Steps = Generator[Ask, Sequence[Window], Result]
