from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_gpuperf.device.rapl import Rapl


def make(root: Path, packages: dict[str, tuple[str, int, int]]) -> Path:
    """Zones with name, energy and range in microjoules."""
    for zone, (name, energy_uj, range_uj) in packages.items():
        folder = root / zone
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text(f"{energy_uj}\n")
        (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return root


def energy(root: Path, zone: str, energy_uj: int) -> None:
    (root / zone / "energy_uj").write_text(f"{energy_uj}\n")


TWO = {
    "intel-rapl:0": ("package-0", 5_000_000, 10_000_000),
    "intel-rapl:0:0": ("core", 1, 10_000_000),
    "intel-rapl:1": ("package-1", 9_000_000, 10_000_000),
    "intel-rapl:2": ("psys", 1, 10_000_000),
}


def test_packages_are_added_and_wraps_taken_out(tmp_path: Path) -> None:
    rapl = Rapl.find(make(tmp_path, TWO))
    assert rapl is not None
    assert rapl.energy_j() == 0
    energy(tmp_path, "intel-rapl:0", 6_000_000)
    energy(tmp_path, "intel-rapl:1", 500_000)
    assert rapl.energy_j() == pytest.approx(1 + 1.5)
    energy(tmp_path, "intel-rapl:0", 5_999_999)
    assert rapl.energy_j() == pytest.approx(2.5 + 9.999999)


def test_parts_and_platforms_do_not_count_twice(tmp_path: Path) -> None:
    rapl = Rapl.find(make(tmp_path, TWO))
    assert rapl is not None
    energy(tmp_path, "intel-rapl:0:0", 9_000_000)
    energy(tmp_path, "intel-rapl:2", 9_000_000)
    assert rapl.energy_j() == 0


def test_absent_or_unreadable_is_none(tmp_path: Path) -> None:
    assert Rapl.find(tmp_path / "none") is None
    assert Rapl.find(make(tmp_path / "psys", {"intel-rapl:0": ("psys", 1, 2)})) is None
    garbage = make(tmp_path / "garbage", {"intel-rapl:0": ("package-0", 1, 2)})
    (garbage / "intel-rapl:0" / "energy_uj").write_text("?")
    assert Rapl.find(garbage) is None


def test_forbidden_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, TWO)
    forbidden = tmp_path / "intel-rapl:1" / "energy_uj"
    forbidden.chmod(0)
    if os.geteuid() == 0:  # who may read it all the same
        real = Path.read_text

        def read_text(path: Path, encoding: str | None = None, errors: str | None = None) -> str:
            if path == forbidden:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, encoding, errors)

        monkeypatch.setattr(Path, "read_text", read_text)
    assert Rapl.find(tmp_path) is None


def test_a_package_that_vanishes_ends_it(tmp_path: Path) -> None:
    rapl = Rapl.find(make(tmp_path, TWO))
    assert rapl is not None
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    assert rapl.energy_j() is None
