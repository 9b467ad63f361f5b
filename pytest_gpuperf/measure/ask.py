"""How an algorithm that chooses its next load asks for it: generators that yield ``Ask`` and are sent windows.

So the algorithms know neither clocks nor servers, and the one loop that measures (``drive`` shows it) knows nothing of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pytest_gpuperf.model import Window

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ask:
    """The next thing to measure.

    Attributes:
        load: a concurrency, or a rate in requests per second.
        visits: how many windows.
    """

    load: float
    visits: int


#: Yields what is to be measured, is sent the windows, and returns its result.
Steps = Generator[Ask, Sequence[Window], Result]


def drive(steps: Steps[Result], measure: Callable[[Ask], Sequence[Window]]) -> Result:
    """Measure whatever is asked for until there is a result."""
    try:
        ask = next(steps)
        while True:
            ask = steps.send(measure(ask))
    except StopIteration as end:
        result: Result = end.value
        return result
