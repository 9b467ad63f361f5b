from __future__ import annotations

from pathlib import Path

import pytest

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.store import Store
from tests.unit.cli.stores import measured
from tests.unit.store.remotes import clone_of, origin_in


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = clone_of(origin_in(tmp_path), tmp_path / "clone")
    monkeypatch.chdir(place)
    return place


def test_push_and_pull(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        assert main(["baseline", *arguments]) == 0
        return capsys.readouterr().out.rstrip("\n")

    assert said("pull").startswith("Nothing to pull: there is no branch gpuperf-baselines yet.")
    assert not (clone / ".gpuperf").exists()
    store = Store(".gpuperf")
    for day in range(3):
        measured(store, f"aaaa{day}", day=day)
    store.accept(store.find("aaaa2"), "meant")
    assert said("push") == "Pushed 3 records and 1 note to gpuperf-baselines, a new branch."
    assert said("push") == "gpuperf-baselines already has all records of .gpuperf."
    assert said("pull", "--store", "other") == "Pulled 3 records and 1 note from gpuperf-baselines into other."
    assert main(["baseline", "prune", "--keep", "1", "--yes"]) == 0
    capsys.readouterr()
    rest = "; 1 were already there; deleted 2 records, pruned on the other side."
    assert said("push") == f"Pushed 0 records and 1 note to gpuperf-baselines{rest}"
    assert said("pull", "--store", "other") == f"Pulled 0 records and 1 note from gpuperf-baselines into other{rest}"


def test_damaged_records_are_named_by_a_push(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(clone / ".gpuperf"))
    measured(store, "aaaa0")
    Path(store.find("aaaa0").path).write_text("{")
    assert main(["baseline", "push", "--branch", "measured/baselines"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("Pushed 0 records to measured/baselines")
    assert captured.err.startswith("gpuperf: left out: .gpuperf/nvidia-l4/")


def test_a_push_without_a_store(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", "push"]) == 1
    assert f"There is no .gpuperf in {clone}" in capsys.readouterr().err
