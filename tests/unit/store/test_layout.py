from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_gpuperf.store import layout
from pytest_gpuperf.store.layout import parse_path, pin_name, pinned_files
from tests.unit.factories import KEY, record, run

FILE = "20260101T000000000Z-12345678-0a1b2c3d4e5f.json"


def test_a_name_tells_time_commit_and_record() -> None:
    assert layout.file_name(record()) == FILE
    file = parse_path(f"store/{FILE}")
    assert (file.id, file.commit, file.day, file.name) == ("0a1b2c3d4e5f", "12345678", "2026-01-01", FILE)
    assert (file.may_be_baseline, file.rejected, file.duet) == (True, False, False)


@pytest.mark.parametrize(
    ("gate", "duet", "ending"),
    [
        ("passed", False, "5f.json"),
        ("failed", False, "5f.rejected.json"),
        ("passed", True, "5f.duet.json"),
        ("failed", True, "5f.duet.rejected.json"),
    ],
)
def test_a_name_tells_what_may_be_a_baseline(gate: str, duet: bool, ending: str) -> None:
    name = layout.file_name(replace(record(gate=gate), reference=(run(),) if duet else ()))
    assert name.endswith(ending)
    file = parse_path(name)
    assert (file.id, file.rejected, file.duet) == ("0a1b2c3d4e5f", gate == "failed", duet)
    assert file.may_be_baseline is (ending == "5f.json")


def test_acceptance_overrules_a_rejection_but_makes_no_baseline_of_a_duet() -> None:
    assert parse_path(FILE.replace(".json", ".rejected.json"), accepted=True).may_be_baseline
    assert not parse_path(FILE.replace(".json", ".duet.json"), accepted=True).may_be_baseline


def test_a_name_begins_with_the_time() -> None:
    late = replace(record(), created_utc="2026-01-31T23:30:00.250+00:00")
    assert layout.file_name(late).startswith("20260131T233000250Z-")
    assert layout.day_of(layout.file_name(late)) == "2026-01-31"


@pytest.mark.parametrize(
    ("commit", "in_name"),
    [
        ("feature/x", "featurex"),
        ("v1.2 rc", "v1.2rc"),
        ("fix-it", "fix-it"),
        ("../../..", "......"),
        ("//", "nocommit"),
        ("", "nocommit"),
    ],
)
def test_a_commit_that_is_none_leads_to_no_other_place(commit: str, in_name: str) -> None:
    name = layout.file_name(replace(record(), commit=commit))
    assert name == FILE.replace("12345678", in_name)
    assert (parse_path(name).commit, parse_path(name).id) == (in_name, "0a1b2c3d4e5f")


def test_a_test_s_folder_is_recognised_and_its_own() -> None:
    one, other = ({**KEY, "test": f"tests/test_{name}.py::test_all[fp16]"} for name in ("a", "b"))
    assert layout.test_folder(one).startswith("test-all-fp16-")
    assert layout.test_folder(one) != layout.test_folder(other)
    assert not layout.is_key(layout.test_folder({**KEY, "test": "0123456789ab"}))


@pytest.mark.parametrize(
    ("name", "is_one"), [(FILE, True), (f"{FILE}.accepted.json", False), (f".{FILE}", False), ("readme.md", False)]
)
def test_what_is_a_record(name: str, is_one: bool) -> None:
    assert layout.is_record(name) is is_one


def test_an_unpin_revokes_its_pin_whatever_the_clocks_say() -> None:
    other = FILE.replace("0a1b", "ffff")
    said = [(FILE, True, 0), (other, True, 1), (FILE, False, 0), (other, False, 1), (other, True, 2)]
    names = [pin_name(name, f"20260101T0000{second:02}000001Z-0a0a0a", pinned=pinned) for name, pinned, second in said]
    assert pinned_files(names) == [other]
    assert pinned_files(names[:2]) == [other, FILE]
    assert pinned_files(list(reversed(names[:3]))) == [other]
    assert pinned_files([names[0], pin_name(FILE, "29990101T000000000001Z-0a0a0a", pinned=False)]) == [FILE]
    assert pinned_files(["", "readme.md", FILE]) == []
    assert layout.record_of_pin(names[0]) == FILE
    assert layout.record_of_pin("readme.md") == ""
