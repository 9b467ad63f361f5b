from __future__ import annotations

import gc
import subprocess
import sys

import psutil
import pytest

from pytest_gpuperf.load.columns import Column

_WRITER = """
import sys
from pytest_gpuperf.load.columns import Column
column, count = Column(int(sys.argv[1])), int(sys.argv[2])
cells = column.cells
for number in range(count):
    if number == len(cells):
        cells = column.grow()
    cells[number] = number * number
column.close()
"""


def test_a_fresh_column_is_empty_and_holds_64_bits() -> None:
    column = Column(rows=3)
    assert list(column.cells[:3]) == [0, 0, 0]
    column.cells[:3] = memoryview(b"".join(n.to_bytes(8, sys.byteorder, signed=True) for n in (-1, 1, 2**62))).cast("q")
    assert list(column.read(3)) == [-1, 1, 2**62]
    column.close()


def test_growing_keeps_what_was_there_and_makes_room() -> None:
    column = Column(rows=4)
    cells, room = column.cells, []
    for number in range(200_000):
        if number == len(cells):
            room.append(number)
            cells = column.grow()
        cells[number] = number
    assert room[:3] == [4, 8, 16]
    assert list(column.read(200_000)) == list(range(200_000))
    column.close()


def test_another_process_may_grow_it_far_beyond_its_first_room() -> None:
    column, count = Column(), 200_000
    assert len(column.cells) < count / 2, "it should double twice"
    subprocess.run(
        [sys.executable, "-c", _WRITER, str(column.fd), str(count)], pass_fds=[column.fd], check=True, timeout=60
    )
    assert list(column.read(count)) == [number * number for number in range(count)]
    column.close()


def test_views_outlive_the_column() -> None:
    column = Column(rows=2)
    column.cells[1] = 7
    view, nothing = column.read(2), column.read(0)
    column.close()
    assert list(view) == [0, 7]
    assert list(nothing) == []
    assert view.format == nothing.format == "q"


def test_a_view_can_not_be_written() -> None:
    column = Column(rows=2)
    with pytest.raises(TypeError):
        column.read(2)[0] = 1
    column.close()


def test_nothing_stays_open() -> None:
    gc.collect()
    before = psutil.Process().num_fds()
    for _ in range(20):
        column = Column(rows=8)
        column.grow()
        view = column.read(4)
        column.close()
        del view
    assert psutil.Process().num_fds() == before
