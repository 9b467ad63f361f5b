"""The words and the shape of the package: docs/glossary.md, one name for each class, small files and folders."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "pytest_gpuperf").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
#: Parts of identifiers that name nothing.
VAGUE = frozenset({"one", "found", "own", "told", "thing", "whole"})
#: Class names that say nothing about their instances.
RIDDLES = re.compile(r"_?(Up|How|Shown|Carried|Taken|Placed|Choice|Moved|Lapsed|Other|Located|Swept|Powered|Judged)")
#: Triton looks for a class of this name in every Python model.
DICTATED = frozenset({"TritonPythonModel"})


def classes() -> Iterator[tuple[Path, ast.ClassDef]]:
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield path, node


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string
    for node in ast.walk(TREES[path]):  # names inside f-strings, which tokenize reads as strings before Python 3.12
        if isinstance(node, ast.Name):
            yield node.lineno, node.id


def test_a_class_name_is_defined_once() -> None:
    count = Counter(node.name for _, node in classes())
    assert sorted(name for name, times in count.items() if times > 1 and name not in DICTATED) == []


def test_class_names_are_nouns_that_say_something() -> None:
    assert sorted(f"{path.name}: {node.name}" for path, node in classes() if RIDDLES.fullmatch(node.name)) == []


def test_identifiers_have_no_vague_parts() -> None:
    vague = {
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in MODULES
        for line, name in identifiers(path)
        if VAGUE & set(name.strip("_").lower().split("_"))
    }
    assert sorted(vague) == []


@pytest.mark.parametrize("suffix", [".py", ".js", ".css"])
def test_no_file_is_longer_than_400_lines(suffix: str) -> None:
    files = [path for path in (ROOT / "pytest_gpuperf").rglob(f"*{suffix}") if ".min." not in path.name]
    lines = {path.name: path.read_text(encoding="utf-8").count("\n") for path in files}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_no_folder_has_more_than_20_modules() -> None:
    count = Counter(path.parent.name for path in MODULES if path.name != "__init__.py")
    assert {name: modules for name, modules in count.items() if modules > 20} == {}


def test_the_glossary_names_code_that_exists() -> None:
    source = "\n".join(map(ast.unparse, TREES.values()))
    rows = re.findall(r"^\|[^|]+\|[^|]+\|([^|]*)\|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    names = [name.split(".") for row in rows for name in re.findall(r"`([\w.]+)`", row)]
    assert len(names) > 30
    members = {node.name: ast.unparse(node) for _, node in classes()}
    for owner, *member in names:
        assert owner in members or re.search(rf"^{owner} = ", source, re.MULTILINE), owner
        assert not member or re.search(rf"^    (def )?{member[0]}\b", members[owner], re.MULTILINE), (owner, member)
