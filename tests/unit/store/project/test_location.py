from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pytest_gpuperf.errors import OptionError, StoreError
from pytest_gpuperf.store import Store
from pytest_gpuperf.store.project import location
from pytest_gpuperf.store.project.location import checkout_top, chosen_store, default_store, expanded, option_for


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git repository whose package ``svc`` has a pytest configuration of its own."""
    subprocess.run(["git", "init", "-q", str(tmp_path / "repo")], check=True)
    (tmp_path / "repo" / "svc" / "tests").mkdir(parents=True)
    (tmp_path / "repo" / "svc" / "pytest.ini").write_text("[pytest]\n")
    return tmp_path / "repo"


def test_pytest_and_the_commands_use_one_store_of_a_checkout(checkout: Path) -> None:
    svc, expected = checkout / "svc", checkout / ".gpuperf"
    for start in (checkout, svc, svc / "tests"):
        assert chosen_store(start) == str(expected)
        for root in (checkout, svc):
            assert default_store(start, root) == expected
    # pytest /repo/svc, started elsewhere
    assert default_store(Path("/"), svc) == expected
    assert option_for(str(expected), checkout) == ""
    assert option_for(str(expected), svc) == ""


def test_the_nearest_store_of_a_checkout_counts_and_none_outside_of_it(checkout: Path) -> None:
    (checkout.parent / ".gpuperf").mkdir()
    assert chosen_store(checkout) == str(checkout / ".gpuperf")
    (checkout / "svc" / ".gpuperf").mkdir()
    assert chosen_store(checkout / "svc" / "tests") == str(checkout / "svc" / ".gpuperf")
    assert chosen_store(checkout) == str(checkout / ".gpuperf")


def test_outside_of_git_the_store_is_beside_pytest_s_configuration(tmp_path: Path) -> None:
    svc = tmp_path / "svc"
    (svc / "tests").mkdir(parents=True)
    assert chosen_store(svc / "tests") == str(svc / "tests" / ".gpuperf")
    (svc / "pytest.ini").touch()
    assert chosen_store(svc / "tests") == default_store(svc / "tests", svc).as_posix() == str(svc / ".gpuperf")
    # Started above: pytest knows its root directory, the commands don't, so they are told.
    store = default_store(tmp_path, svc)
    assert store == svc / ".gpuperf"
    assert option_for(str(store), tmp_path) == " --store svc/.gpuperf"
    assert chosen_store(tmp_path) == str(tmp_path / ".gpuperf")
    store.mkdir()
    assert location.stores_below(tmp_path) == ["svc/.gpuperf"]
    # What a command has begun in the directory above is where pytest looks, too.
    (tmp_path / ".gpuperf").mkdir()
    assert default_store(tmp_path, svc) == tmp_path / ".gpuperf"


def test_no_store_is_taken_from_the_home_directory_or_from_where_everybody_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "home" / "project"
    project.mkdir(parents=True)
    (tmp_path / "home" / ".gpuperf").mkdir()
    assert chosen_store(project) == str(tmp_path / "home" / ".gpuperf")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert chosen_store(project) == str(project / ".gpuperf")
    monkeypatch.delenv("HOME")
    (tmp_path / "home").chmod(0o777)
    assert chosen_store(project) == str(project / ".gpuperf")


def test_the_commands_read_the_store_that_pytest_s_configuration_names(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text('[tool.pytest.ini_options]\ngpuperf_store = "perf/store" # ours\n')
    assert chosen_store(checkout) == str(checkout / "perf" / "store")
    assert option_for(str(checkout / "perf" / "store"), checkout) == ""
    assert option_for(str(checkout / ".gpuperf"), checkout) == " --store .gpuperf"
    (checkout / "svc" / "pytest.ini").write_text("[pytest]\ngpuperf_store = s3://bucket/50% off\n")
    assert chosen_store(checkout / "svc") == "s3://bucket/50% off"
    assert option_for("s3://bucket/50% off", checkout) == " --store 's3://bucket/50% off'"
    (checkout / "pyproject.toml").write_text("[tool.pytest.ini_options]\n[broken")
    with pytest.raises(OptionError, match=r"pyproject.toml, in which gpuperf_store may stand, can't be read"):
        chosen_store(checkout)


def test_a_checkout_needs_no_git_program(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert checkout_top(checkout / "svc" / "tests") == checkout
    assert checkout_top(checkout.parent) is None
    (checkout / "svc" / ".git").write_text("gitdir: elsewhere\n")  # a submodule, or a worktree
    assert checkout_top(checkout / "svc" / "tests") == checkout / "svc"


def test_a_deleted_working_directory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(StoreError, match="working directory was deleted"):
        location.start_directory()
    assert Store(str(tmp_path)).describe(str(tmp_path / "a")) == str(tmp_path / "a")


def test_a_path_below_home_needs_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    assert expanded("~/s", tmp_path) == "/h/s"
    monkeypatch.setattr(Path, "expanduser", _no_home)
    with pytest.raises(OptionError, match="~/s: this user has no home directory"):
        expanded("~/s", tmp_path)


def _no_home(_path: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    assert checkout_top(folder) == folder
    assert chosen_store(folder) == str(folder / ".gpuperf")
    Store(chosen_store(folder)).check_writable()


def test_a_new_default_store_keeps_itself_out_of_git(checkout: Path) -> None:
    store = Store(str(checkout / ".gpuperf"))
    store.check_writable()
    status = ["git", "status", "--porcelain", "--untracked-files=all"]
    shown = subprocess.run(status, cwd=checkout, capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["??", "svc/pytest.ini"]
    assert list(store.paths()) == []
    # A store that somebody keeps in git, and one of another name, stay as they are.
    store.files.put(f"{store.files.root}/a/b.json", b"")
    (checkout / ".gpuperf" / ".gitignore").unlink()
    store.check_writable()
    Store(str(checkout / "perf")).check_writable()
    assert not list(checkout.rglob(".gitignore"))
