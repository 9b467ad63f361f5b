"""Growing columns of 64-bit numbers in anonymous shared memory: times cross processes without being copied."""

from __future__ import annotations

import mmap
import os

#: Room for so many numbers is made before a window. Untouched pages cost nothing.
_ROWS = 1 << 16
#: Fewer rows are read as a copy: a mapping holds an open file as long as it lives, and recordings may be many.
_COPIED_ROWS = 1 << 19


class Column:
    """One column, written by one process and read by another, or by the same.

    Attributes:
        fd: the memory's descriptor, to be handed to the other process.
        cells: what is writable now; a new view after every ``grow``.
    """

    def __init__(self, fd: int | None = None, rows: int = _ROWS) -> None:
        """Map the memory behind ``fd`` (which then belongs to this column), or create it."""
        self.fd = os.memfd_create("gpuperf") if fd is None else fd
        if os.fstat(self.fd).st_size < 8 * rows:
            os.ftruncate(self.fd, 8 * rows)
        self._map = mmap.mmap(self.fd, os.fstat(self.fd).st_size)
        self.cells = memoryview(self._map).cast("q")

    def grow(self) -> memoryview:
        """Twice the room; the new ``cells``."""
        size = 2 * len(self._map)
        self.cells.release()
        os.ftruncate(self.fd, size)
        self._map.resize(size)
        self.cells = memoryview(self._map).cast("q")
        return self.cells

    def read(self, rows: int) -> memoryview:
        """The first rows, valid as long as the view lives, whatever becomes of this column."""
        if rows <= _COPIED_ROWS:
            return memoryview(os.pread(self.fd, 8 * rows, 0)).cast("q")
        return memoryview(mmap.mmap(self.fd, 8 * rows, prot=mmap.PROT_READ)).cast("q")

    def close(self) -> None:
        self.cells.release()
        self._map.close()
        os.close(self.fd)
