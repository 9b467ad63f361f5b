from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_gpuperf.cli.duet.checkout import NothingInCommon, SideCheckout, pytest_arguments
from pytest_gpuperf.errors import OptionError


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[SideCheckout, SideCheckout]:
    """Head and base, both in worktrees; the working directory is in the user's checkout."""
    for name in ("home", "head", "base"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "home")
    head, base = (
        SideCheckout(name, tmp_path / "home", tmp_path / name, name, sys.executable, False) for name in ("head", "base")
    )
    return head, base


def test_reports_are_those_of_head_and_lie_in_the_user_s_checkout(
    sides: tuple[SideCheckout, SideCheckout], tmp_path: Path
) -> None:
    head, base = sides
    given = ["-k", "resnet", "--junitxml", "out/junit.xml", "--gpuperf-report=r.md", f"--html={tmp_path}/x.html"]
    by_side, notes = pytest_arguments(given, head, base)
    assert by_side["base"] == ["-k", "resnet"]
    home = tmp_path / "home"
    reports = [f"--junitxml={home}/out/junit.xml", f"--gpuperf-report={home}/r.md", f"--html={tmp_path}/x.html"]
    assert by_side["head"] == ["-k", "resnet", *reports]
    assert notes == []


def test_files_of_a_single_side_are_named(sides: tuple[SideCheckout, SideCheckout]) -> None:
    head, base = sides
    for side, name in ((head, "test_both.py"), (base, "test_both.py"), (head, "test_new.py"), (base, "test_old.py")):
        (side.tree / name).touch()
    by_side, notes = pytest_arguments(["test_both.py", "test_new.py", "test_old.py"], head, base)
    assert by_side == {"head": ["test_both.py", "test_new.py"], "base": ["test_both.py", "test_old.py"]}
    assert notes == ["only at base, so not compared: test_old.py", "only at head, so not compared: test_new.py"]
    with pytest.raises(NothingInCommon, match=r"base has none of test_new.py.*\n.*--overlay test_new.py"):
        pytest_arguments(["test_new.py"], head, base)
    with pytest.raises(OptionError, match=r"head has none of test_old.py"):
        pytest_arguments(["test_old.py"], head, base)
