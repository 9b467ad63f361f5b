"""How an algorithm that chooses its own loads asks for them: a generator that yields ``Ask`` and is sent windows.

The algorithms know neither clocks nor servers. ``drive`` shows the protocol; ``explore`` measures for them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
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


def drive(steps: Steps[Result], measure: Callable[[Ask], Sequence[Window]]) -> Result:
    """Measure what an algorithm asks for, and return its result."""
    try:
        ask = next(steps)
        while True:
            ask = steps.send(measure(ask))
    except StopIteration as end:
        result: Result = end.value
        return result
