"""The choice of the address that the next request goes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pytest_gpuperf.model import LEAST_OUTSTANDING, WireWorkload


class Balance(Protocol):
    """Picks addresses by number."""

    def pick(self) -> int:
        """Return the address of the next request."""

    def done(self, address: int) -> None:
        """Note that a request to the address is over."""


class RoundRobin:
    """Picks the addresses in turn; with weights, heavier addresses more often, and evenly spread.

    Source: the smooth weighted round robin of nginx. Every address gains its weight, the richest is picked and pays the
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
        """Do nothing: answers don't change the order."""


class LeastOutstanding:
    """Picks the address with the fewest unanswered requests relative to its weight; of equal ones, in turn."""

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
    """Return the workload's balance; None for a single address."""
    if len(workload.addresses) == 1:
        return None
    weights = [address.weight for address in workload.addresses]
    return LeastOutstanding(weights) if workload.balance == LEAST_OUTSTANDING else RoundRobin(weights)
