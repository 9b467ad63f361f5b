"""Which of several addresses the next request goes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pytest_gpuperf.model import LEAST_OUTSTANDING, WireWorkload


class Balance(Protocol):
    """Picks addresses by number."""

    def pick(self) -> int:
        """The address of the next request."""

    def done(self, address: int) -> None:
        """A request to that address is over."""


class RoundRobin:
    """In turn; with weights, the heavier ones more often, and evenly spread.

    Source: the smooth weighted round robin of nginx: every address gains its weight, the richest is picked and pays the
    sum of all weights.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights, self._total = list(weights), sum(weights)
        self._credit = [0.0] * len(self._weights)

    def pick(self) -> int:
        credit = self._credit
        for address, weight in enumerate(self._weights):
            credit[address] += weight
        richest = credit.index(max(credit))
        credit[richest] -= self._total
        return richest

    def done(self, address: int) -> None:
        """Its answers don't matter to it."""


class LeastOutstanding:
    """Where the fewest requests are unanswered, relative to the weights; in turn where they are equal."""

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights = list(weights)
        self._outstanding = [0] * len(self._weights)
        self._next = 0

    def pick(self) -> int:
        count = len(self._weights)
        order = [(self._next + step) % count for step in range(count)]
        chosen = min(order, key=lambda address: (self._outstanding[address] + 1) / self._weights[address])
        self._outstanding[chosen] += 1
        self._next = (chosen + 1) % count
        return chosen

    def done(self, address: int) -> None:
        self._outstanding[address] -= 1


def balance_of(workload: WireWorkload) -> Balance | None:
    """The workload's balance; None for a single address."""
    if len(workload.addresses) == 1:
        return None
    weights = [address.weight for address in workload.addresses]
    return LeastOutstanding(weights) if workload.balance == LEAST_OUTSTANDING else RoundRobin(weights)
