"""The failed requests of a window."""

from __future__ import annotations

from collections import Counter

#: The address of a request that was never sent.
NOWHERE = -1


class Failures:
    """Failed requests: when each was due, its type, and its address.

    Attributes:
        sample: The first failure in full; empty while there is none.
    """

    def __init__(self) -> None:
        self._all: list[tuple[int, str, int]] = []
        self.sample = ""

    def __len__(self) -> int:
        return len(self._all)

    def add(self, at_ns: int, kind: str, detail: str, address: int = NOWHERE) -> None:
        self._all.append((at_ns, kind, address))
        self.sample = self.sample or f"{kind}: {detail}"

    def within(self, start_ns: int, stop_ns: int, addresses: int = 0) -> tuple[dict[str, int], tuple[int, ...]]:
        """Return the window's failures by type, and by address."""
        kinds = Counter[str]()
        by_address = [0] * addresses
        for at_ns, kind, address in self._all:
            if start_ns <= at_ns < stop_ns:
                kinds[kind] += 1
                if address != NOWHERE:
                    by_address[address] += 1
        return dict(kinds), tuple(by_address)
