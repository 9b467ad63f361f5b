from __future__ import annotations

from pathlib import Path

import pytest

from pytest_gpuperf.device.machine import machine_id

MACHINE = {"etc/machine-id": "0" * 31 + "1\n", "proc/sys/kernel/random/boot_id": "11111111-2222-3333-4444-555555555555"}


def identity(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return machine_id(root)


def test_a_machine_keeps_its_identity_when_it_restarts(tmp_path: Path) -> None:
    before = identity(tmp_path, MACHINE)
    assert identity(tmp_path, {"proc/sys/kernel/random/boot_id": "9" * 32}) == before
    assert identity(tmp_path, {"etc/machine-id": "0" * 31 + "2"}) != before


def test_the_confidential_id_is_not_shown(tmp_path: Path) -> None:
    assert MACHINE["etc/machine-id"].strip() not in identity(tmp_path, MACHINE)


@pytest.mark.parametrize("sign", [{".dockerenv": ""}, {"proc/1/cgroup": "0::/kubepods/pod1/2"}])
def test_containers_of_a_machine_share_its_identity_until_it_restarts(tmp_path: Path, sign: dict[str, str]) -> None:
    ids = ["e" * 32, "f" * 32]
    containers = [
        identity(tmp_path / str(index), {**MACHINE, **sign, "etc/machine-id": ids[index]}) for index in (0, 1)
    ]
    assert len(set(containers)) == 1
    assert identity(tmp_path / "1", {"proc/sys/kernel/random/boot_id": "9" * 32}) != containers[0]


@pytest.mark.parametrize("text", ["", "uninitialized", "\x00"])
def test_a_machine_without_an_id_is_known_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("platform.node", lambda: "runner-1")
    first = identity(tmp_path, {"etc/machine-id": text})
    monkeypatch.setattr("platform.node", lambda: "runner-2")
    assert machine_id(tmp_path) != first
