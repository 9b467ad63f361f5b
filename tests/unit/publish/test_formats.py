from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.publish.formats import BENCHMARK, CSV, HTML, JSON, MARKDOWN, TABLE, format_of, render, write
from tests.unit.reports import reported


@pytest.mark.parametrize(("path", "name"), [("a/b.md", MARKDOWN), ("B.JSON", JSON), ("c.csv", CSV)])
def test_a_file_s_ending_says_what_it_is(path: str, name: str) -> None:
    assert format_of(path) == name


@pytest.mark.parametrize(("path", "hint"), [("report", "ends in .md, .html"), ("report.xml", "--junitxml")])
def test_other_endings_say_what_to_write(path: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        format_of(path)


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        (MARKDOWN, "<!-- pytest-gpuperf report x -->"),
        (JSON, '{\n  "gpuperf_report": 1'),
        (CSV, "Concurrency,"),
        (TABLE, "tests/test_serving.py::test_resnet50[fp16]\n"),
        (BENCHMARK, '{\n    "machine_info"'),
    ],
)
def test_every_format_is_a_text(name: str, begin: str) -> None:
    text = render(name, [reported()], title="t", generated_utc="2026-01-01T00:00:00+00:00", marker="x")
    assert text.startswith(begin)
    assert text.endswith("\n")


@pytest.mark.parametrize("name", [MARKDOWN, HTML, JSON])
def test_a_report_without_figures_says_why(name: str) -> None:
    facts = {"title": "fix against main", "generated_utc": "2026-01-01T00:00:00+00:00"}
    text = render(name, [], **facts, notes=["only at head: test_new"], error="base failed: https://me:secret@host/")
    assert all(part in text for part in ("fix against main", "only at head: test_new", "base failed"))
    assert "secret" not in text


def test_a_report_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.md"
    write(path, "one")
    write(path, "zwei")
    assert path.read_text() == "zwei"
    assert [each.name for each in path.parent.iterdir()] == ["r.md"]


def test_a_place_that_can_t_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match=r"file/r.md can't be written"):
        write(tmp_path / "file" / "r.md", "text")


def test_what_is_no_file_is_written_into(tmp_path: Path) -> None:
    """As /dev/stdout: it can't be replaced."""
    pipe = tmp_path / "pipe.md"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    write(pipe, "text")
    reader.join()
    assert found == ["text"]
