"""Growing columns of 64-bit numbers in anonymous shared memory, which pass times between processes without copying."""

from __future__ import annotations

import mmap
import os

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
