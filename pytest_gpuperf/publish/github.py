"""What GitHub Actions shows of a step beside its output."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_gpuperf.report.annotations import MAX_SUMMARY_BYTES


def on_github() -> bool:
    """Return whether this process runs in a job of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def add_step_summary(text: str) -> str:
    """Append Markdown to the step's summary, if there is one; return why that is impossible, or nothing."""
    file_name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not file_name:
        return ""
    path = Path(file_name)
    try:
        size = path.stat().st_size if path.exists() else 0
        if size + len(text.encode()) > MAX_SUMMARY_BYTES:
            return "no step summary: it would exceed the 1 MiB that GitHub shows of a step"
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        return f"the step summary {path} can't be written: {error}"
    return ""
