"""The right answers of a window: a row of times each."""

from __future__ import annotations

from pytest_gpuperf.load.columns import Column
from pytest_gpuperf.load.connection import Connection
from pytest_gpuperf.load.tally import ATTRIBUTES


class Rows:
    """Fills a window's columns.

    Attributes:
        columns: The columns by name.
        count: Number of filled rows.
        plain: Whether only the times of sending and completion are noted.
    """

    def __init__(self, columns: dict[str, Column]) -> None:
        self.columns = columns
        self.count = 0
        self.plain = columns.keys() == {"sent", "done"}
        self._view()

    def _view(self) -> None:
        """Take new views of the columns, which may have grown."""
        columns = self.columns
        self._sent, self._done = columns["sent"].cells, columns["done"].cells
        self._extra = [
            (ATTRIBUTES[name], column.cells) for name, column in columns.items() if name not in ("sent", "done")
        ]
        self._room = min(len(column.cells) for column in columns.values())

    def add(self, sent_ns: int, done_ns: int) -> None:
        """Note a right answer, in a window of ``plain`` rows."""
        count = self.count
        self._sent[count], self._done[count] = sent_ns, done_ns
        self.count = count = count + 1
        if count == self._room:
            for column in self.columns.values():
                column.grow()
            self._view()

    def add_of(self, connection: Connection, done_ns: int) -> None:
        """Note the right answer that a connection has received."""
        for attribute, cells in self._extra:
            cells[self.count] = getattr(connection, attribute)
        self.add(connection.sent_ns, done_ns)
