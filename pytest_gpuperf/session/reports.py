"""The files that a pytest session leaves behind: reports that were asked for, and what GitHub Actions shows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.model import ReportedTest
from pytest_gpuperf.publish.formats import DEEP, MARKDOWN, format_of, render, write
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.publish.reported import reported_of
from pytest_gpuperf.report.annotations import SUMMARY_BYTES, error_lines
from pytest_gpuperf.store.store import utc_now

if TYPE_CHECKING:
    from pytest_gpuperf.session.state import State

_STEP_SUMMARY, _ACTIONS, _WORKSPACE = "GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS", "GITHUB_WORKSPACE"


@dataclass
class Published:
    """What came of it.

    Attributes:
        written: what to tell of, line by line.
        problems: what could not be written, and why.
        commands: lines that GitHub Actions reads from the job's output.
    """

    written: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


def wanted(state: State) -> bool:
    """Whether anybody reads what tests hand over at their end."""
    return state.settings.measure and bool(state.settings.reports or _on_github())


def _on_github() -> bool:
    return os.environ.get(_ACTIONS) == "true"


def publish(state: State, texts: Sequence[str], rootpath: Path) -> Published:
    """Write the reports of all tests.

    Args:
        texts: what the tests handed over.
    """
    published = Published()
    paths = state.settings.reports
    deep = any(format_of(path) in DEEP for path in paths)
    try:
        reported = [
            reported_of(state.store, TestOutcome.of_text(text), prices=state.settings.prices, deep=deep)
            for text in texts
        ]
    except GpuperfError as error:
        published.problems.append(f"no report was written: {error}")
        return published
    now = utc_now()
    for path in paths:
        try:
            write(Path(path), render(format_of(path), reported, title="", generated_utc=now))
            published.written.append(f"report: {_relative(path, state)}")
        except GpuperfError as error:
            published.problems.append(str(error))
    if _on_github():
        published.commands = error_lines(reported, _prefix(rootpath))
        _step_summary(reported, now, published)
    return published


def _relative(path: str, state: State) -> str:
    here = state.directory
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _prefix(rootpath: Path) -> str:
    """From the checkout, which GitHub's paths begin at, to pytest's root directory."""
    workspace = os.environ.get(_WORKSPACE)
    if not workspace or not rootpath.is_relative_to(Path(workspace).resolve()):
        return ""
    return rootpath.relative_to(Path(workspace).resolve()).as_posix()


def _step_summary(reported: Sequence[ReportedTest], now: str, published: Published) -> None:
    where = os.environ.get(_STEP_SUMMARY)
    if not where or not reported:
        return
    path, text = Path(where), render(MARKDOWN, reported, title="", generated_utc=now)
    try:
        there = path.stat().st_size if path.exists() else 0
        if there + len(text.encode()) > SUMMARY_BYTES:
            published.problems.append("no step summary: GitHub takes 1 MiB of one step, and other output fills it")
            return
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        published.problems.append(f"the step summary {where} can't be written: {error}")
