from __future__ import annotations

from pathlib import Path

import pytest

from pytest_gpuperf.store.project.configuration import configuration_above, configured


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\ngpuperf_store = here\n"),
        (".pytest.ini", "[pytest]\ngpuperf_store: here\n"),
        ("pyproject.toml", "[tool.pytest.ini_options]\ngpuperf_store = 'here'\n"),
        ("pyproject.toml", "[tool.pytest]\ngpuperf_store = 'here'\n"),
        ("pytest.toml", "[pytest]\ngpuperf_store = 'here'\n"),
        ("tox.ini", "[tox]\n[pytest]\ngpuperf_store = here\n"),
        ("setup.cfg", "[metadata]\n[tool:pytest]\ngpuperf_store = here\n"),
    ],
)
def test_pytest_s_files_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "tox.ini").write_text("[tox]\n")
    (tmp_path / name).write_text(text)
    assert configuration_above(tmp_path / "deep") == tmp_path / name
    assert configured(tmp_path / name, "gpuperf_store") == "here"
    assert configured(tmp_path / name, "gpuperf_runs") == ""


def test_files_of_other_tools_are_not(tmp_path: Path) -> None:
    (tmp_path / "tox.ini").write_text("[tox]\n")
    (tmp_path / "setup.cfg").write_text("[metadata]\n")
    assert configuration_above(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    assert configuration_above(tmp_path) == tmp_path / "pyproject.toml"
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "pytest.ini").touch()
    assert configuration_above(tmp_path / "deep") == tmp_path / "pytest.ini"
