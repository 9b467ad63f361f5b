from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_gpuperf.device.processes import descendants, describe, numbers_are_ours, resident_bytes, stats


def test_a_tree_is_all_that_descends_from_its_roots() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        own = descendants([child.pid])
        assert child.pid in own
        assert len(own) == 2
        assert own < descendants([os.getpid()])
        child.communicate(b"\n")
    assert not descendants([child.pid])


def test_resident_memory_grows_with_what_is_touched() -> None:
    before = resident_bytes([os.getpid()])
    held = bytearray(b"x") * (64 << 20)
    after = resident_bytes([os.getpid()])
    assert before is not None
    assert after is not None
    assert after - before > 50 << 20
    assert len(held) == 64 << 20


def test_nothing_alive_has_no_memory_rather_than_none_of_it(tmp_path: Path) -> None:
    assert resident_bytes([], tmp_path) is None
    assert resident_bytes([4_000_000]) is None
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "statm").write_text("garbage")
    assert resident_bytes([7], tmp_path) is None


def test_processes_are_described_by_number_and_command() -> None:
    assert describe([os.getpid(), 4_000_000]).startswith(f"{os.getpid()} py")
    assert describe([os.getpid(), 4_000_000]).endswith(", 4000000")


def test_a_name_that_the_kernel_cut_within_a_character_is_no_obstacle(tmp_path: Path) -> None:
    name = "train-a训练脚本".encode()[:15]
    with pytest.raises(UnicodeDecodeError):
        name.decode()
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_bytes(b"7 (%b) S 1 0 0" % name)
    (tmp_path / "7" / "comm").write_bytes(name + b"\n")
    assert stats(tmp_path) == {7: ["S", "1", "0", "0"]}
    assert describe([7], tmp_path).startswith("7 train-a训练")


@pytest.mark.parametrize(
    ("namespace", "listed", "ours", "expected"),
    [
        ("pid:[4026531836]", {1}, set(), True),
        ("pid:[4026532000]", {1}, {2}, False),
        ("pid:[4026532000]", {1, 2}, {2}, True),
        (None, {1}, set(), False),
    ],
)
def test_numbers_of_a_container_are_believed_only_with_proof(
    tmp_path: Path, namespace: str | None, listed: set[int], ours: set[int], expected: bool
) -> None:
    folder = tmp_path / "self" / "ns"
    folder.mkdir(parents=True)
    if namespace is not None:
        (folder / "pid").symlink_to(namespace)
    assert numbers_are_ours(listed, ours, tmp_path) is expected
