"""Links and paths in the documents lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pytest_gpuperf"
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / ".github").rglob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_contributing_page_names_modules_that_exist() -> None:
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"(?<![\w./])(?:[\w.]+/)+(?:[\w.]+\.(?:py|md))?(?![\w./])", text))
    assert len(paths) > 30
    paths = {path for path in paths if "NAME" not in path}  # modules that a reader is to add
    assert sorted(path for path in paths if not (PACKAGE / path).exists() and not (ROOT / path).exists()) == []


def test_every_package_has_a_place_in_the_drawing() -> None:
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {package for package in packages if f"{package}/" not in text} == set()


def test_the_totals_of_perf_clients_table_are_those_of_its_rows() -> None:
    text = " ".join((ROOT / "docs/sweep.md").read_text().split())
    rows = re.findall(r"\| (taken|refused) \| (taken|refused) \|", text)
    both, none, ours = (rows.count(row) for row in (("taken",) * 2, ("refused",) * 2, ("refused", "taken")))
    assert f"Of {len(rows)} rows both take {both}, both refuse {none}, and only this command takes {ours};" in text
    assert both + none + ours == len(rows), "what perf_client takes is taken"


def test_the_reliability_page_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests/e2e/)?(?:\w+/)*test_\w+\.py)(?:::(\w+))?`", text)
    assert len(named) > 40
    missing = []
    for file, test in named:
        path = ROOT / file if file.startswith("tests/") else ROOT / "tests" / "unit" / file
        if not path.is_file() or (test and f"def {test}(" not in path.read_text(encoding="utf-8")):
            missing.append(f"{file}::{test}")
    assert missing == []
