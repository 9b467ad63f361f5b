"""A main branch that regressed, and pull requests that are based on it, in a real repository."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.invocations import GPUPERF, Run
from tests.unit.store.remotes import git

SUITE = """
import time
from pathlib import Path

DELAY_S = float(Path(__file__).with_name("delay_s.txt").read_text())

def test_sleep(gpuperf):
    gpuperf.sweep(lambda: time.sleep(DELAY_S), name="sleep", window_s=0.1)
"""


@pytest.fixture
def repository(pytester: pytest.Pytester) -> pytest.Pytester:
    git(pytester.path, "init", "--quiet", "-b", "main")
    (pytester.path / "test_suite.py").write_text(SUITE)
    return pytester


def commit(pytester: pytest.Pytester, delay_s: float, message: str) -> str:
    (pytester.path / "delay_s.txt").write_text(str(delay_s))
    git(pytester.path, "add", "test_suite.py", "delay_s.txt")
    author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    git(pytester.path, *author, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(pytester.path, "rev-parse", "HEAD")


def test_a_change_answers_for_its_part_alone(repository: pytest.Pytester, run: Run) -> None:
    commit(repository, 0.002, "main")
    run().assert_outcomes(passed=1)
    git(repository.path, "checkout", "--quiet", "-b", "guilty")
    commit(repository, 0.03, "slower")
    git(repository.path, "checkout", "--quiet", "main")
    culprit = commit(repository, 0.03, "main regresses")
    run().assert_outcomes(failed=1)

    # A change that alone is slower inherits nothing from a later main branch.
    git(repository.path, "checkout", "--quiet", "guilty")
    run().assert_outcomes(failed=1)

    git(repository.path, "checkout", "--quiet", "-b", "innocent", "main")
    commit(repository, 0.03, "unrelated")
    result = run("--gpuperf-report=report.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [f"*INHERITED since commit {culprit[:8]}*", "*gpuperf baseline accept*", "*1 inherited*"]
    )
    document = json.loads((repository.path / "report.json").read_text())
    assert document["verdict"] == document["tests"][0]["gate"] == "inherited"
    assert document["tests"][0]["inherited_since"] == culprit
    compared = repository.run(*GPUPERF, "compare")
    assert compared.ret == 0
    compared.stdout.fnmatch_lines([f"*INHERITED since commit {culprit[:8]}*"])
    run("--gpuperf-merge-base=none").assert_outcomes(failed=1)
    assert "has no commit nowhere" in run("--gpuperf-merge-base=nowhere").stderr.str()

    git(repository.path, "checkout", "--quiet", "-b", "worse")
    commit(repository, 0.4, "worse")
    worse = run()
    worse.assert_outcomes(failed=1)
    worse.stdout.fnmatch_lines(["*against the merge base*the part of this change alone*"])

    # The command in the report ends it.
    command = re.search(r"gpuperf baseline accept (\w+)", result.stdout.str())
    assert command
    assert repository.run(*GPUPERF, "baseline", "accept", command[1], "--reason", "a larger model").ret == 0
    git(repository.path, "checkout", "--quiet", "innocent")
    accepted = run()
    accepted.assert_outcomes(passed=1)
    assert "INHERITED" not in accepted.stdout.str()
