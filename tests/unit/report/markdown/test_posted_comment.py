from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpuperf.model import Finding
from pytest_gpuperf.report.markdown.comment import MAX_CHARACTERS, comment
from pytest_gpuperf.report.markdown.posted_comment import GITHUB_MAX_CHARACTERS, MARKER, comment_body, neutralized
from pytest_gpuperf.report.markdown.size_limit import utf16_length
from tests.unit.report.markdown.github_page import rendered
from tests.unit.reports import HOSTILE, reported


def test_a_report_stays_as_it_is() -> None:
    text = "<!-- gpuperf abc -->\n## regressed\n[docs](https://example.org) @ada"
    assert comment_body(text) == (text, "<!-- gpuperf abc -->")


def test_a_long_report_is_cut_at_a_line_and_says_so() -> None:
    body, marker = comment_body("<!-- gpuperf -->\nhead\n" + "| a row | of 🙂 |\n" * 10_000)
    assert marker == MARKER
    first, note, _, head, *rows = body.splitlines()
    assert (first, head) == (MARKER, "head")
    assert "Shortened to GitHub's size limit" in note
    assert set(rows) == {"| a row | of 🙂 |"}
    assert GITHUB_MAX_CHARACTERS - 40 < len(body.encode("utf-16-le")) // 2 <= GITHUB_MAX_CHARACTERS


@settings(max_examples=40, deadline=None)
@given(st.text(), st.booleans(), st.integers(1, 30_000))
def test_any_text_becomes_a_body(text: str, trusted: bool, times: int) -> None:
    body, marker = comment_body(text * times, trusted=trusted)
    assert body.startswith(marker)
    assert len(body.encode("utf-16-le")) // 2 <= GITHUB_MAX_CHARACTERS


@pytest.mark.parametrize(
    "active",
    [
        "@team/all",
        "fixes #12",
        "![pixel](https://x.example/p.png)",
        "[accept](https://x.example)",
        "[accept][1]",
        "[1]: https://x.example",
        '<a href="https://x.example">accept</a>',
        '<img src="x">',
        "<!-- gpuperf other -->",
        "<details open onclick=x>",
        "https://x.example",
        "www.x.example",
        "GH-12",
        "&#64;team",
        "&#x40;team",
        "&commat;team",
    ],
)
def test_text_from_a_fork_notifies_nobody_and_links_nothing(active: str) -> None:
    body, marker = comment_body(f"{active}\n| 1 | `code` |", trusted=False)
    assert marker == MARKER
    assert active not in body
    assert "Written by code from a fork" in body
    assert body.endswith("\n| 1 | `code` |")


def test_the_shape_of_a_report_survives_a_fork() -> None:
    table = "| conc | p50 |\n|---|---:|\n| 1 | +5% [+3, +7] |\n"
    text = f"# regressed\n\n{table}<details><summary>all</summary>\n\n- x\n</details>\n"
    assert neutralized(text) == text


@pytest.mark.parametrize("trusted", [True, False])
def test_a_report_is_shortened_only_once(trusted: bool) -> None:
    many = [reported(6.0, test=f"t.py::test[{n} {'🙂' * 60}]", name=f"{n:012x}", load_points=8) for n in range(80)]
    text = comment(many)
    assert utf16_length(text) <= MAX_CHARACTERS < 2 * len(text)
    body, _ = comment_body(text, trusted=trusted)
    assert "Shortened to fit GitHub's size limit" in body
    assert body.rstrip().endswith("</details>")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_report_looks_the_same_from_a_fork(name: str) -> None:
    text = comment(
        [reported(6.0, test=f"t.py::test[{name}]", findings=(Finding("nvml_other", detail=name),), error=name)]
    )
    ours, theirs = rendered(text), rendered(neutralized(text))
    assert theirs.tags == ours.tags
    assert theirs.text.replace("\u2060", "").split() == ours.text.split()
