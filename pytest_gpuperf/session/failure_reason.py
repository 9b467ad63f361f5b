"""Why a test failed or was skipped, from the report that pytest makes of it."""

from __future__ import annotations

import pytest


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return why a test failed or was skipped, or a file was not collected, in one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        text = str(crash.message)
    elif isinstance(report.longrepr, tuple):
        text = str(report.longrepr[-1])
    else:
        text = str(report.longrepr or "")
        errors = [line[1:] for line in text.splitlines() if line.startswith("E  ")]
        text = errors[-1] if errors else text
    return text.strip().partition("\n")[0]
