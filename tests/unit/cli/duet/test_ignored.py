from __future__ import annotations

import sys
from pathlib import Path

from pytest_gpuperf.cli.duet.checkout import SideCheckout, overlay
from pytest_gpuperf.cli.duet.ignored import ignored_models
from tests.unit.store.remotes import git


def test_models_that_git_ignores_are_named_with_the_rule(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("*.log\nmodels/\nvenv/\n*.plan\n")
    for path in (
        "models/resnet/1/model.onnx",
        "venv/lib/site-packages/x/a.onnx",
        "out.log",
        "engine.plan",
        "kept.onnx",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    tree = tmp_path / "venv"  # as if it were a worktree
    assert ignored_models(tmp_path, tree) == [
        "git ignores engine.plan (.gitignore, line 4)",
        "git ignores models (.gitignore, line 2)",
    ]
    (tree / "models").mkdir()  # copied by --overlay, or by the command of --install
    assert ignored_models(tmp_path, tree) == ["git ignores engine.plan (.gitignore, line 4)"]
    assert ignored_models(tmp_path / "nowhere", tree) == []


def test_what_head_s_commit_lacks_is_copied_from_the_user_s_checkout(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "models").mkdir(parents=True)
    (home / "models" / "a.onnx").write_text("model")
    sides = []
    for name in ("head", "base"):
        (tmp_path / name).mkdir()
        sides.append(SideCheckout(name, home, tmp_path / name, name, sys.executable, False))
    overlay(home / "models", sides[0], sides[1])
    assert [(tmp_path / name / "models" / "a.onnx").read_text() for name in ("head", "base")] == ["model"] * 2
