"""Growing columns of 64-bit numbers in anonymous shared memory, which pass times between processes without copying."""

from __future__ import annotations

import mmap
import operator
import os

from pytest_gpuperf.load.connection import Connection
from pytest_gpuperf.load.tally import ATTRIBUTES

#: Numbers that a column has room for at first. Untouched pages cost nothing.
_ROWS = 1 << 16
#: Up to this many rows are copied: a mapping holds an open file as long as it lives, and there may be many recordings.
_COPIED_ROWS = 1 << 19


class Column:
    """A column that a process writes, and the same or another process reads.

    Attributes:
        fd: Descriptor of the memory, to be sent to the other process.
        cells: The writable numbers; a new view after every ``grow``.
    """

    def __init__(self, fd: int | None = None, rows: int = _ROWS) -> None:
        """Map the memory behind ``fd`` (which then belongs to this column), or create it."""
        self.fd = os.memfd_create("gpuperf") if fd is None else fd
        if os.fstat(self.fd).st_size < 8 * rows:
            os.ftruncate(self.fd, 8 * rows)
        self._map = mmap.mmap(self.fd, os.fstat(self.fd).st_size)
        self.cells = memoryview(self._map).cast("q")

    def grow(self) -> memoryview:
        """Double the room and return the new ``cells``."""
        size = 2 * len(self._map)
        self.cells.release()
        os.ftruncate(self.fd, size)
        self._map.resize(size)
        self.cells = memoryview(self._map).cast("q")
        return self.cells

    def read(self, rows: int) -> memoryview:
        """Return the first rows; the view stays valid when the column is closed."""
        if rows <= _COPIED_ROWS:
            return memoryview(os.pread(self.fd, 8 * rows, 0)).cast("q")
        return memoryview(mmap.mmap(self.fd, 8 * rows, prot=mmap.PROT_READ)).cast("q")

    def close(self) -> None:
        self.cells.release()
        self._map.close()
        os.close(self.fd)


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

    def discard(self) -> list[tuple[int, int]]:
        """Remove all rows; return when each request was due, or else sent, and the number of its address."""
        columns, count = self.columns, self.count
        due = columns.get("due", columns["sent"]).cells[:count].tolist()
        addresses = columns["address"].cells[:count].tolist() if "address" in columns else [0] * count
        self.count = 0
        return list(zip(due, addresses, strict=True))

    def longest_ns(self) -> int:
        """Return the longest time that an answer took; 0 without one."""
        count = self.count
        return max(map(operator.sub, self._done[:count], self._sent[:count]), default=0)

    def add_of(self, connection: Connection, done_ns: int) -> None:
        """Note the right answer that a connection has received."""
        for attribute, cells in self._extra:
            cells[self.count] = getattr(connection, attribute)
        self.add(connection.sent_ns, done_ns)
