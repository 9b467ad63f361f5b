"""The formats of a report, and how it is written to a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_gpuperf.atomic_write import atomic_write
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import ReportedTest
from pytest_gpuperf.safe_text import lines_text, redacted

MARKDOWN, HTML, JSON, CSV, TABLE, BENCHMARK = "markdown", "html", "json", "csv", "table", "benchmark"
FORMATS = (TABLE, MARKDOWN, HTML, JSON, CSV, BENCHMARK)
#: Formats that have charts, for which earlier records are read.
WITH_CHARTS = frozenset({HTML})
_ENDINGS = {".md": MARKDOWN, ".html": HTML, ".json": JSON, ".csv": CSV}


def format_of(path: str) -> str:
    """Return the format that a file's ending stands for.

    Raises:
        ValueError: No format has this ending; the message says what to write.
    """
    name = _ENDINGS.get(Path(path).suffix.lower(), "")
    if not name:
        junit = " (--junitxml writes JUnit's XML, with our figures as properties)"
        hint = junit if path.lower().endswith(".xml") else ""
        raise ValueError(f"write a file that ends in {', '.join(_ENDINGS)}{hint}")
    return name


def render(
    name: str,
    reported: Sequence[ReportedTest],
    *,
    title: str,
    generated_utc: str,
    marker: str = "",
    notes: Sequence[str] = (),
    error: str = "",
) -> str:
    """Return a report's text, without secrets.

    Args:
        notes: What was not compared, in formats for people and JSON.
        error: Why no test was compared, in the same formats.

    Raises:
        MissingExtra: The format needs a library that isn't installed.
    """
    return redacted(_rendered(name, reported, title, generated_utc, marker, notes=notes, error=error))


def _rendered(
    name: str,
    reported: Sequence[ReportedTest],
    title: str,
    generated_utc: str,
    marker: str,
    *,
    notes: Sequence[str],
    error: str,
) -> str:
    if name == MARKDOWN:
        from pytest_gpuperf.report.markdown.comment import comment

        return comment(reported, title=title, marker=marker, notes=notes, error=error)
    if name == JSON:
        from pytest_gpuperf.report.exchange.report_json import json_text

        return json_text(reported, title=title, generated_utc=generated_utc, notes=notes, error=error)
    if name == CSV:
        from pytest_gpuperf.report.exchange.record_csv import records_csv

        return records_csv(reported)
    if name == BENCHMARK:
        from pytest_gpuperf.report.exchange.benchmark_export import benchmark_text

        return benchmark_text(reported, generated_utc=generated_utc)
    if name == HTML:
        from pytest_gpuperf.report.page import page

        title = title or "GPU performance"
        return page(reported, title=title, generated_utc=generated_utc, notes=notes, error=error)
    from pytest_gpuperf.report.terminal.section import full_lines

    return lines_text(full_lines(reported)) + "\n"


def write(path: Path, text: str) -> None:
    """Write a report atomically, so that a reader never sees half of it.

    Raises:
        OptionError: The file can't be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")  # a pipe or a terminal, which can't be replaced
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as beside:
            beside.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise OptionError(f"The report {path} can't be written: {error}") from error
