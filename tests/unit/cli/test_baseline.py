from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.store import Store, key_digest, select_baseline
from tests.unit.cli.stores import gpuperf, measured
from tests.unit.factories import KEY, record

OTHER = {**KEY, "test": "tests/test_other.py::test_other"}


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Six records of one test, the fourth of which failed, and one of another."""
    url = str(tmp_path / "store") if request.param == "directory" else f"memory://cli-{uuid.uuid4().hex}"
    store = Store(url)
    for index in range(6):
        measured(store, f"aaaa{index}", day=index, gate="failed" if index == 3 else "passed")
    measured(store, "bbbb0", day=9, key=OTHER)
    return store


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_the_list_is_newest_first(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    gpuperf(store, "baseline", "pin", "aaaa1", "--reason", "release")
    gpuperf(store, "baseline", "accept", "aaaa3", "--reason", "meant")
    capsys.readouterr()
    assert gpuperf(store, "baseline", "list") == 0
    title, *rows = lines(capsys)
    assert title.split() == ["record", "UTC", "commit", "gate", "key", "device", "test"]
    assert [row.split()[0] for row in rows] == ["bbbb0", "aaaa5", "aaaa4", "aaaa3", "aaaa2", "aaaa1", "aaaa0"]
    assert "accepted" in rows[3]
    assert "passed, pinned" in rows[5]
    assert key_digest(KEY) in rows[1]
    assert "2026-01-02 00:00" in rows[5]


def test_the_list_may_be_shorter(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, ids in (
        (["--test", "other"], ["bbbb0"]),
        (["--key", key_digest(OTHER)[:5]], ["bbbb0"]),
        (["--last", "2"], ["bbbb0", "aaaa5", "aaaa4"]),
        (["--test", "resnet", "--last", "1"], ["aaaa5"]),
    ):
        assert gpuperf(store, "baseline", "list", *arguments) == 0
        assert [row.split()[0] for row in lines(capsys)[1:]] == ids
    assert gpuperf(store, "baseline", "list", "--test", "nothing") == 0
    assert lines(capsys) == [f"No records in {store.url}."]


def test_show_prints_acceptance_pin_and_figures(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    gpuperf(store, "baseline", "accept", "aaaa3", "--reason", "a larger model", "--author", "Ada")
    gpuperf(store, "baseline", "pin", "aaaa3", "--reason", "release 2", "--author", "Bob")
    capsys.readouterr()
    assert gpuperf(store, "baseline", "show", "aaaa3") == 0
    text = capsys.readouterr().out
    assert "record aaaa3 of 2026-01-04" in text
    assert "accepted by Ada on 20" in text
    assert ": a larger model" in text
    assert "pinned by Bob on 20" in text
    assert f"key {key_digest(KEY)}: device=NVIDIA L4, method_version=1, power_limit_w=72" in text
    assert "conc" in text


def test_accepting_reminds_of_what_is_pinned(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    gpuperf(store, "baseline", "pin", "aaaa0", "--reason", "release")
    capsys.readouterr()
    assert gpuperf(store, "baseline", "accept", "aaaa3", "--reason", "meant") == 0
    accepted, reminder = lines(capsys)
    assert accepted.startswith("aaaa3 is the new baseline of its test, accepted by ")
    assert f"gpuperf baseline unpin aaaa0 --store {store.url}" in reminder


def test_pin_and_unpin(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "baseline", "pin", "aaaa2", "--reason", "release") == 0
    assert [one.id for one in select_baseline(store, KEY).pinned] == ["aaaa2"]
    assert gpuperf(store, "baseline", "unpin", "aaaa2") == 0
    assert select_baseline(store, KEY).pinned == ()
    assert gpuperf(store, "baseline", "unpin", "aaaa2") == 1
    assert "isn't pinned" in capsys.readouterr().err


def test_what_is_pinned_in_two_stores_stays_in_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = [Store(str(tmp_path / name)) for name in ("one", "other")]
    for day in range(8):
        store = stores[day % 2]
        measured(store, f"aaaa{day}", day=day)
        if day < 6:
            assert gpuperf(store, "baseline", "pin", f"aaaa{day}", "--reason", "release") == 0
    one, other = stores
    assert gpuperf(one, "baseline", "import", other.url, "--notes", "pins") == 0
    assert gpuperf(one, "baseline", "prune", "--keep", "1", "--yes") == 0
    assert ids(one) == [f"aaaa{day}" for day in (0, 1, 2, 3, 4, 5, 7)]
    assert gpuperf(one, "baseline", "unpin", "aaaa0") == 0
    assert capsys.readouterr().out.endswith("aaaa0 is no longer pinned\n")


def test_a_pinned_record_whose_file_is_gone_is_named_until_it_is_unpinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(str(tmp_path / "store"))
    for day in range(3):
        measured(store, f"aaaa{day}", day=day)
    assert gpuperf(store, "baseline", "pin", "aaaa0", "--reason", "release") == 0
    Path(store.find("aaaa0").path).unlink()
    for baseline in ("both", "pinned"):
        assert gpuperf(store, "compare", "--baseline", baseline) == 0
    assert "unreadable, left out of the baseline: " in capsys.readouterr().out
    assert gpuperf(store, "baseline", "unpin", "aaaa0") == 0
    assert "aaaa0 is no longer pinned" in capsys.readouterr().out
    assert gpuperf(store, "compare") == 0
    assert "unreadable" not in capsys.readouterr().out


@pytest.mark.parametrize("what", ["pin", "accept"])
def test_accept_and_pin_need_a_reason(store: Store, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        gpuperf(store, "baseline", what, "aaaa2")
    assert caught.value.code == 2
    assert "--reason" in capsys.readouterr().err


def ids(store: Store) -> list[str]:
    return sorted(entry.id for folder in store.folders() for entry in store.newest(folder))


def test_pruning_says_what_it_would_do(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    before = ids(store)
    assert gpuperf(store, "baseline", "prune", "--keep", "2") == 0
    told, last = lines(capsys)
    assert "would delete 4 of 6, 2026-01-01 to 2026-01-04" in told
    assert last == "Nothing was deleted. Write --yes to delete 4 records of 1 key."
    assert ids(store) == before


def test_pruning_deletes_and_is_listed_later(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    gpuperf(store, "baseline", "pin", "aaaa0", "--reason", "release")
    gpuperf(store, "baseline", "accept", "aaaa3", "--reason", "meant")
    capsys.readouterr()
    assert gpuperf(store, "baseline", "prune", "--keep", "2", "--yes", "--reason", "disk") == 0
    assert lines(capsys)[-1] == "Deleted 2 records of 1 key."
    assert ids(store) == ["aaaa0", "aaaa3", "aaaa4", "aaaa5", "bbbb0"]
    gpuperf(store, "baseline", "list")
    (pruned,) = [line for line in lines(capsys) if "deleted on" in line]
    assert pruned.startswith(f"{key_digest(KEY)}: 2 records deleted on 20")
    assert pruned.endswith(": disk")


def test_pruning_by_age(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    today = datetime.now(timezone.utc)
    young = (today - timedelta(days=10)).isoformat(timespec="milliseconds")
    store.write(replace(record(name="cccc0"), created_utc=young))
    assert gpuperf(store, "baseline", "prune", "--older-than", "2w", "--yes") == 0
    assert ids(store) == ["bbbb0", "cccc0"]
    assert gpuperf(store, "baseline", "prune", "--older-than", "2w", "--yes") == 0
    assert lines(capsys)[-1].startswith("Nothing to delete in")


def test_pruning_one_test(store: Store) -> None:
    for index in range(3):
        measured(store, f"bbbb{index + 1}", day=10 + index, key=OTHER)
    assert gpuperf(store, "baseline", "prune", "--test", "other", "--keep", "1", "--yes") == 0
    assert ids(store) == [*(f"aaaa{index}" for index in range(6)), "bbbb3"]


def test_pruning_needs_a_rule(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "baseline", "prune", "--yes") == 1
    assert "--keep N" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--older-than", "soon"], "90d, 12w, 6m or 1y"),
        (["--older-than", "9999999999y"], "nothing is that old"),
        (["--keep", "0"], "whole number of 1 or more"),
        (["--keep", "x"], "whole number of 1 or more"),
    ],
)
def test_pruning_says_what_to_write(
    store: Store, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        gpuperf(store, "baseline", "prune", *arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["export", "export.tar.gz"])
def test_export_and_import(store: Store, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    gpuperf(store, "baseline", "pin", "aaaa0", "--reason", "release")
    capsys.readouterr()
    place, target = str(tmp_path / name), Store(str(tmp_path / "target"))
    assert gpuperf(store, "baseline", "export", place, "--test", "resnet") == 0
    assert lines(capsys) == [f"Exported 6 records to {place}."]
    assert gpuperf(target, "baseline", "import", place, "--notes", "all") == 0
    first, note, joining = lines(capsys)
    assert first == f"Imported 6 records and 1 note into {target.url}."
    assert note.startswith("  pin of aaaa0 by ")
    assert note.endswith(": release")
    assert joining.startswith("Of these, 5 records passed the gate elsewhere")
    assert gpuperf(target, "baseline", "import", place) == 0
    assert lines(capsys) == [f"Imported 0 records into {target.url}; 6 were already there."]
    assert ids(target) == [f"aaaa{index}" for index in range(6)]


def test_damaged_records_are_named_by_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path / "store"))
    for index in range(2):
        measured(store, f"aaaa{index}", day=index)
    Path(store.find("aaaa1").path).write_text("{")
    for arguments in (["list"], ["export", str(tmp_path / "e.tar")]):
        assert gpuperf(store, "baseline", *arguments) == 1
        captured = capsys.readouterr()
        assert "gpuperf: unreadable: " in captured.err
        assert "-aaaa1.json" in captured.err


def test_without_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["baseline", "list"]) == 1
    assert "There is no .gpuperf in" in capsys.readouterr().err
    assert main(["baseline", "import", "nothing.tar"]) == 1
    assert "nothing.tar can't be read as a tar" in capsys.readouterr().err


def test_the_store_above_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(Store(str(tmp_path / ".gpuperf")), "aaaa0")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert main(["baseline", "list"]) == 0
    assert "aaaa0" in capsys.readouterr().out
