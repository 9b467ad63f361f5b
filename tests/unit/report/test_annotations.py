from __future__ import annotations

import pytest

from pytest_gpuperf.report.annotations import error_lines
from tests.unit.reports import reported


def test_an_error_stands_at_its_test() -> None:
    (line,) = error_lines([reported(6.0), reported()], "backend")
    assert line.startswith("::error file=backend/tests/test_serving.py,line=12,title=gpuperf%3A ")
    assert (
        "::p90 +51%25 (95%25 interval +44%25 to +58%25) at concurrency 1: 4.53 ms to 6.82 ms (9 rows regressed)" in line
    )


@pytest.mark.parametrize("name", ["a::b,c=d%0A", "two\nlines\r::error::forged"])
def test_a_name_ends_neither_a_property_nor_the_line(name: str) -> None:
    (line,) = error_lines([reported(6.0, test=name)])
    assert "\n" not in line
    assert "\r" not in line
    head, _, message = line.removeprefix("::error ").partition("::")
    assert {part.partition("=")[0] for part in head.split(",")} == {"file", "line", "title"}
    assert "forged" not in message


def test_there_are_ten_at_most_the_worst_first() -> None:
    many = [reported(6.0 + number, test=f"t.py::test_{number}", load_points=1) for number in range(14)]
    lines = error_lines(many)
    assert len(lines) == 10
    assert "test_13 regressed" in lines[0]
    assert lines[-1].endswith("%0Aand 4 more tests regressed")
