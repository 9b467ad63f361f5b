from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.report import escape
from pytest_gpuperf.report.table import Table
from pytest_gpuperf.safe_text import printable
from tests.unit.report.markdown.github_page import rendered
from tests.unit.reports import HOSTILE

TEXTS = st.text(max_size=30) | st.sampled_from(HOSTILE) | st.text("`|\\<>@#:[]()*_~!&;wgh.-/ \n0a", max_size=20)


def squeezed(text: str) -> str:
    return " ".join(text.split())


@given(TEXTS)
def test_untrusted_text_stays_text(given_text: str) -> None:
    page = rendered(f"before {escape.text(given_text)} after")
    assert squeezed(page.text) == squeezed(f"before {printable(given_text)} after")
    assert page.names <= {"p", "code", "wbr"}


@given(TEXTS)
def test_untrusted_text_stays_text_in_a_table_cell(given_text: str) -> None:
    page = rendered("\n".join(Table(("one", "two"), ((given_text, "end"),)).as_markdown()))
    assert [squeezed(cell) for cell in page.rows[1]] == [squeezed(printable(given_text)), "end"]
    assert page.names <= {"table", "thead", "tbody", "tr", "th", "td", "code", "wbr"}


@given(TEXTS)
def test_untrusted_text_stays_text_in_html(given_text: str) -> None:
    page = rendered(f"<details>\n<summary>{escape.html_code(given_text)}</summary>\n\nbody\n\n</details>")
    assert squeezed(page.text) == squeezed(f"{printable(given_text)} body")
    assert page.names <= {"details", "summary", "code", "p"}


@pytest.mark.parametrize("name", [name for name in HOSTILE if "@" in name or "#" in name])
def test_github_finds_nobody_to_notify_and_nothing_to_link(name: str) -> None:
    """Mentions and issue numbers are looked for outside of code."""
    prose = rendered(f"before {escape.text(name)} after").prose
    assert prose.split() == ["before", "after"]


@pytest.mark.parametrize(
    "harmless",
    [
        "p50",
        "+50% [+42%, x12]",
        "concurrency 4, batch 8",
        "NVIDIA A100-SXM4-80GB",
        "500/s poisson",
        "2026-01-01 10:15 UTC",
    ],
)
def test_harmless_text_is_unchanged(harmless: str) -> None:
    assert escape.text(harmless) == harmless


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_a_code_block_contains_its_lines(lines: list[str]) -> None:
    page = rendered("\n".join([*escape.code_block([f"pytest {shlex.quote(line)}" for line in lines]), "", "after"]))
    assert page.names == {"pre", "code", "p"}
    assert page.text.endswith("after\n")


@given(st.text(max_size=300), st.integers(10, 100))
def test_a_long_text_keeps_its_ends(text: str, most: int) -> None:
    cut = escape.shorten(text, most)
    assert len(cut) <= most
    assert cut == text if len(text) <= most else (cut[0], cut[-1]) == (text[0], text[-1])
