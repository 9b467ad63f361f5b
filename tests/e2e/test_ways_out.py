"""What pytest shows of untrusted text: its terminal, JUnit's XML, reports and GitHub's step summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.invocations import Run
from tests.unit.test_safe_text import COMMANDS, ESCAPES, SECRET, dangers

#: A hostile name of a sweep, and a server's answer with hostile text and a URL with a password.
SUITE = f"""
    import time
    from pytest_gpuperf.errors import TargetError

    HOSTILE = {ESCAPES + COMMANDS!r}

    def test_measured(gpuperf):
        gpuperf.sweep(lambda: time.sleep(0.002), name="s", window_s=0.1)

    def test_name(gpuperf):
        gpuperf.sweep(lambda: None, name=HOSTILE)

    SECRET = {SECRET[:4]!r} + {SECRET[4:]!r}  # a failure shows the line that raised, as it is written

    def test_failing(gpuperf):
        def answer():
            raise TargetError(f"{{HOSTILE}}no answer from http://ci:{{SECRET}}@host/v2?private_token={{SECRET}}")
        gpuperf.sweep(answer, name="failing", window_s=0.1)
"""


def test_untrusted_text_is_made_safe(run: Run, pytester: pytest.Pytester, tmp_path: Path) -> None:
    pytester.makepyfile(test_suite=SUITE)
    summary = tmp_path / "summary.md"
    reports = [f"report.{ending}" for ending in ("md", "html", "json", "csv")]
    options = [f"--gpuperf-report={name}" for name in reports]
    result = run("-v", *options, "--junitxml=junit.xml", GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["name=*write a name without line breaks and control characters."])
    texts = {name: (pytester.path / name).read_text() for name in (*reports, "junit.xml")}
    texts |= {"terminal": result.stdout.str() + result.stderr.str(), "step summary": summary.read_text()}
    assert "***" in texts["terminal"]
    for name, text in texts.items():
        assert SECRET not in text, name
        # A page is no log: its lines are not read for commands.
        seen = [danger for danger in dangers(text.replace("\r\n", "\n")) if name != "report.html" or len(danger) == 1]
        assert not seen, name
