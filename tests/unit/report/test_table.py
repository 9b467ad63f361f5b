from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.report.table import Table
from tests.unit.report.markdown.github_page import rendered

CELLS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12).map(str.strip)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    width = draw(st.integers(1, 5))
    titles = tuple(draw(st.sampled_from(["", ">"])) + f"title{index}" for index in range(width))
    rows = draw(st.lists(st.tuples(*[CELLS] * width), max_size=5))
    return Table(titles, tuple(rows))


def from_text(table: Table) -> list[list[str]]:
    """The cells of the text, cut where the columns must be."""
    cells = [[title.lstrip(">") for title in table.titles], *table.rows]
    widths = [max(len(row[index]) for row in cells) for index in range(len(table.titles))]
    starts = [sum(widths[:index]) + 2 * index for index in range(len(widths))]
    return [
        [line[start : start + width].strip() for start, width in zip(starts, widths, strict=True)]
        for line in table.as_text()
    ]


def from_markdown(table: Table) -> list[list[str]]:
    return rendered("\n".join(table.as_markdown())).rows


@given(tables())
def test_text_and_markdown_agree_cell_by_cell(table: Table) -> None:
    cells = [[title.lstrip(">") for title in table.titles], *map(list, table.rows)]
    assert from_text(table) == from_markdown(table) == cells


@given(tables(), st.integers(0, 8))
def test_lines_of_text_are_indented_and_end_with_a_letter(table: Table, spaces: int) -> None:
    for line, plain in zip(table.as_text(" " * spaces), table.as_text(), strict=True):
        assert line == " " * spaces + plain
        assert plain == plain.rstrip()


def test_columns_are_aligned_as_their_titles_say() -> None:
    table = Table((">n", "name"), (("1", "a"), ("100", "long")))
    assert table.as_text() == ["  n  name", "  1  a", "100  long"]
    assert table.as_markdown()[:2] == ["| n | name |", "| ---: | --- |"]


def test_a_pipe_does_not_end_a_markdown_cell() -> None:
    table = Table(("test",), (("a|b",), ("a\\|b`c`",)))
    assert from_markdown(table) == [["test"], ["a|b"], ["a\\|b`c`"]]


@given(tables(), st.integers(1, 60))
def test_a_narrow_screen_gets_every_cell_on_lines_that_fit(table: Table, width: int) -> None:
    lines = table.as_text(width=width)
    rows = len(table.rows) + 1
    per_row = len(lines) // rows
    assert len(lines) == per_row * rows
    for index, cells in enumerate([[title.lstrip(">") for title in table.titles], *table.rows]):
        text = " ".join(lines[index * per_row : (index + 1) * per_row])
        assert "".join(text.split()) == "".join("".join(cells).split())
    columns = zip(*([title.lstrip(">") for title in table.titles], *table.rows), strict=True)
    widest = max(len(cell) for column in columns for cell in column)
    assert max(map(len, lines)) <= max(width, widest + 4)


def test_columns_that_do_not_fit_stand_below_their_row() -> None:
    table = Table(("record", ">p90", "test"), (("aaaa", "4.00 ms", "tests/test_serving.py::test_a"),))
    assert table.as_text(width=36) == [
        "record      p90",
        "    test",
        "aaaa    4.00 ms",
        "    tests/test_serving.py::test_a",
    ]
