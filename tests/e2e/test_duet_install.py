"""``gpuperf duet --install``: each commit in an environment of its own."""

from __future__ import annotations

import json
import os
import site
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e.invocations import record_files
from tests.e2e.test_duet import Repository

INSTALL = "pip install --quiet --no-index --find-links wheels -r requirements.txt"
SUITE = """
import dependency

def test_model(gpuperf):
    print(f"measured with {dependency.VERSION} of {dependency.__file__}")
    gpuperf.sweep(dependency.infer, concurrency=[1, 2], name="model")
"""
DEPENDENCY = """
import time

VERSION = "{version}"

def infer():
    time.sleep({delay_s})
"""
#: Packages of this interpreter, which the environments get besides what they install: there is no network.
PACKAGES = os.pathsep.join(dict.fromkeys([*filter(None, sys.path), *site.getsitepackages()]))


def write_wheel(folder: Path, version: str, delay_s: float) -> None:
    """Write a wheel of the package that the suite measures."""
    folder.mkdir(exist_ok=True)
    described = f"dependency-{version}.dist-info"
    with zipfile.ZipFile(folder / f"dependency-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("dependency.py", DEPENDENCY.format(version=version, delay_s=delay_s))
        wheel.writestr(f"{described}/METADATA", f"Metadata-Version: 2.1\nName: dependency\nVersion: {version}\n")
        wheel.writestr(f"{described}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{described}/RECORD", "")


@pytest.fixture
def repository(pytester: pytest.Pytester) -> Repository:
    """A repository whose second commit requires a slower version of a dependency."""
    path = pytester.path / "project"
    path.mkdir()
    repository = Repository(path)
    for version, delay_s in (("1.0", 0.004), ("2.0", 0.006)):
        write_wheel(path / "wheels", version, delay_s)
    for version in ("1.0", "2.0"):
        (path / "requirements.txt").write_text(f"dependency=={version}\n")
        repository.write(test_suite=SUITE)
        repository.commit(version)
    return repository


def test_each_commit_has_its_own_dependencies(repository: Repository) -> None:
    sides = ("--base", "HEAD~1", "--head", "HEAD", "--report", "out/report.md", "--report", "report.json")
    kept = repository.path.parent / "kept"
    options = (*sides, "--install", INSTALL, "--environments", str(kept), "--", "-s", "test_suite.py")
    done = repository.duet(*options, PYTHONPATH=PACKAGES)
    assert done.returncode == 1, done.stdout
    assert done.stdout.count("in a new environment") == 2
    head = next(line for line in done.stdout.splitlines() if "measured with 2.0 of " in line)
    assert str(kept) in head
    assert "test_model regressed compared with its reference" in done.stdout
    text = (repository.path / "out" / "report.md").read_text()
    assert "gpuperf: `HEAD against HEAD~1`: 1 test regressed" in text
    base = repository.git("rev-parse", "HEAD~1")[:8]
    assert f"**Reference:** commit `{base}`" in text
    assert json.loads((repository.path / "report.json").read_text())["verdict"] == "regressed"

    # The other way around, in the kept environments: improved. Nothing but them is left.
    back = repository.duet("--base", "HEAD", "--head", "HEAD~1", *options[4:], PYTHONPATH=PACKAGES)
    assert back.returncode == 0, back.stdout
    assert back.stdout.count("in its kept environment") == 2
    assert "improved: candidate against reference" in back.stdout
    assert {path.name for folder in kept.iterdir() for path in folder.iterdir()} == {"environment", "complete", "lock"}
    assert repository.git("worktree", "list").count("\n") == 1


def test_an_installation_that_fails_ends_without_a_verdict(repository: Repository) -> None:
    (repository.path / "report.md").write_text("of yesterday")
    done = repository.duet(
        "--report", "report.md", "--install", "echo no licence >&2; exit 7", "--", "test_suite.py", PYTHONPATH=PACKAGES
    )
    assert done.returncode == 3, done.stdout
    assert "can't be installed: --install 'echo no licence >&2; exit 7' ended with status 7" in done.stdout
    assert "Traceback" not in done.stdout
    text = (repository.path / "report.md").read_text()
    assert "❌ gpuperf: `the working tree against HEAD`: no comparison" in text
    assert "no licence" in text
    assert not record_files(repository.path)
