"""The records of a key, in order.

The name of a record begins with the time of its measurement, by the clock of the machine that measured it. That clock
may be wrong, so two rules come first: an accepted record was measured before it was accepted, and nothing was measured
in the future. A record that is dated in the future has no place in the order, unless its acceptance gives it one.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import attrgetter

from pytest_gpuperf.store import layout
from pytest_gpuperf.store.dates import is_future, latest, stem_of, time_of
from pytest_gpuperf.store.layout import ACCEPTED, PINS, RecordFile
from pytest_gpuperf.store.notes import Acceptance

_by_order = attrgetter("order")


class Listing:
    """The records in a key's folder, unread. Iteration yields them newest first, and lists a day when it reaches it.

    Args:
        names: Returns the names in a folder.
        acceptance: Returns the acceptance of a record; None if it can't be read.

    Attributes:
        ahead: The records that are dated in the future and have no place in the order. Iteration leaves them out.
    """

    def __init__(
        self, folder: str, names: Callable[[str], list[str]], acceptance: Callable[[RecordFile], Acceptance | None]
    ) -> None:
        self._folder, self._names, self._acceptance = folder, names, acceptance
        listed = names(folder)
        self._pinned = set(layout.pinned_files(names(f"{folder}/{PINS}"))) if PINS in listed else set()
        today = layout.day_of(latest())
        days = sorted(filter(layout.is_day, listed), reverse=True)
        self._days = [day for day in days if day < today]
        begun = [file for day in days if day >= today for file in self._of_day(day)]
        self._newest = [file for file in begun if not layout.is_ahead(file.name)]
        self.ahead: list[RecordFile] = []
        self._waiting: list[RecordFile] = []
        for file in begun:
            if layout.is_ahead(file.name):
                self._place(file)

    def _of_day(self, day: str) -> list[RecordFile]:
        """Return the records of a day, newest first; files that have no record's name come last."""
        folder = f"{self._folder}/{day}"
        listed = set(self._names(folder))
        judgements = {layout.record_of_judgement(name): f"{folder}/{name}" for name in listed}
        return [
            layout.parse_path(
                f"{folder}/{name}",
                accepted=name + ACCEPTED in listed,
                pinned=name in self._pinned,
                judgement=judgements.get(name, ""),
            )
            for name in sorted(filter(layout.is_record, listed), key=layout.by_name, reverse=True)
        ]

    def _place(self, file: RecordFile) -> None:
        """Let a record that is dated in the future wait for its place in the order, if it has one."""
        acceptance = self._acceptance(file)
        bounds = [stem_of(acceptance.accepted_utc), time_of(acceptance.after)] if acceptance is not None else []
        place = next((bound for bound in bounds if bound and not is_future(bound)), "")
        if place:
            insort(self._waiting, replace(file, place=place), key=_by_order)
        else:
            self.ahead.append(replace(file, future=True))

    def __iter__(self) -> Iterator[RecordFile]:
        waiting = list(self._waiting)
        for file in self._by_name():
            while waiting and waiting[-1].order > file.order:
                yield waiting.pop()
            accepted = stem_of(acceptance.accepted_utc) if (acceptance := self._acceptance(file)) else ""
            if accepted and accepted < time_of(file.name):
                insort(waiting, replace(file, place=accepted), key=_by_order)
            else:
                yield file
        yield from reversed(waiting)

    def _by_name(self) -> Iterator[RecordFile]:
        yield from self._newest
        for day in self._days:
            yield from self._of_day(day)
