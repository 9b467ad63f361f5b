"""pytest's JUnit file at the end of the invocation: the errors of tests that fail only now, and of all tests together.

pytest has closed the element of a test when its last phase was reported. A further report of the test begins a second
element, which readers of the file take for a second test; so the two are joined when the file is written.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, ParseError

import pytest

from pytest_gpuperf.atomic_write import atomic_write
from pytest_gpuperf.report.common_mode import common_failure
from pytest_gpuperf.safe_text import safe
from pytest_gpuperf.session.results import Results

#: Property of a further report; its value is the verdict.
REFINED = "gpuperf_verdict_at_end"
_COMMON = {"classname": "gpuperf", "name": "all tests together", "time": "0.000"}


class JUnitFile:
    """Completes the JUnit file that pytest has written; a plugin of pytest."""

    def __init__(self, results: Results, path: str) -> None:
        self._results, self._path = results, Path(path)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        result = yield
        failure = common_failure(self._results.common)
        if failure or self._results.refined:
            try:
                complete(self._path, safe(failure))
            except (OSError, ParseError) as error:
                self._results.problems.append(f"the JUnit file {self._path} can't be completed: {error}")
        return result


def complete(path: Path, common: str) -> None:
    """Join the further reports of a JUnit file with the elements of their tests.

    Args:
        common: Why all tests together fail the invocation; empty if they don't.

    Raises:
        OSError, ParseError: The file can't be read or written.
    """
    tree = ElementTree.parse(path)
    for suite in tree.getroot().iter("testsuite"):
        _join(suite)
        if common:
            ElementTree.SubElement(ElementTree.SubElement(suite, "testcase", _COMMON), "error", message=common)
            _count(suite, "tests", 1)
            _count(suite, "errors", 1)
            common = ""
    with atomic_write(path) as beside:
        tree.write(beside, encoding="utf-8", xml_declaration=True)


def _join(suite: Element) -> None:
    cases: dict[tuple[str | None, str | None], Element] = {}
    for case in suite.findall("testcase"):
        name = case.get("classname"), case.get("name")
        is_further = case.find(f"properties/property[@name='{REFINED}']") is not None
        if not is_further or name not in cases:
            cases[name] = case
            continue
        suite.remove(case)
        _count(suite, "tests", -1)
        for child in case:
            properties = cases[name].find("properties")
            if child.tag == "properties" and properties is not None:
                properties.extend(child)
            else:
                cases[name].append(child)


def _count(suite: Element, name: str, more: int) -> None:
    suite.set(name, str(int(suite.get(name, "0")) + more))
