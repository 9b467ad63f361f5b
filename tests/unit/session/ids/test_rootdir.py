from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_gpuperf.session.ids.rootdir import root_directory


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a configuration file, beside a store that exists."""
    (tmp_path / "project" / "tests").mkdir(parents=True)
    (tmp_path / "project" / "tests" / "test_a.py").write_text("def test_a(gpuperf): pass\n")
    (tmp_path / "store").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def config_of(pytester: pytest.Pytester, project: Path, *arguments: str) -> pytest.Config:
    os.chdir(project)  # pytester has gone to its directory
    return pytester.parseconfig(*arguments)


def test_a_store_that_exists_does_not_move_the_ids_of_tests(pytester: pytest.Pytester, project: Path) -> None:
    store = str(project.parent / "store")
    plain = root_directory(config_of(pytester, project, f"--gpuperf-store={store}", "tests"))
    assert (plain.path, plain.warning) == (project, "")
    config = config_of(pytester, project, "--gpuperf-store", store, "tests")
    root = root_directory(config)
    assert root.path == project
    if config.rootpath == project:
        assert root.warning == ""
    else:
        assert f"pytest took {store} for a path of tests, so its rootdir is {project.parent}" in root.warning
        assert root.warning.endswith(f"Write --gpuperf-store={store}")


def test_another_configuration_file_than_without_the_option_ends_pytest(
    pytester: pytest.Pytester, project: Path
) -> None:
    (project / "pytest.ini").write_text("[pytest]\ngpuperf_runs = 4\n")
    config = config_of(pytester, project, "--gpuperf-store", str(project.parent / "store"))
    assert config.inipath is None
    with pytest.raises(pytest.UsageError, match=r"read none instead of .*pytest.ini.\nWrite --gpuperf-store="):
        root_directory(config)
    config = config_of(pytester, project, "--gpuperf-store", str(project.parent / "store"), "tests")
    assert root_directory(config).warning == ""


def test_values_that_move_nothing_are_no_problem(pytester: pytest.Pytester, project: Path) -> None:
    (project / "setup.py").touch()
    (project / "inside").mkdir()
    for arguments in (
        ["--gpuperf-store", "inside", "tests"],
        ["--gpuperf-store", "inside"],
        ["--gpuperf-report", "new.md", "tests/test_a.py::test_a"],
        ["--gpuperf-anchor", "tests"],
        ["--rootdir", str(project.parent), "--gpuperf-store", str(project.parent / "store")],
    ):
        config = config_of(pytester, project, *arguments)
        assert root_directory(config) == type(root_directory(config))(config.rootpath)
