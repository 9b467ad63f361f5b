from __future__ import annotations

from pathlib import Path

import pytest

from pytest_gpuperf.device import host
from pytest_gpuperf.device.host import Host, read_host


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_SWAP_WATCH_S", 0.01)


def tree(root: Path, files: dict[str, str]) -> Host:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_host(root)


def test_this_machine_is_read() -> None:
    found = read_host()
    assert found.cores >= 1
    assert 0 < found.available_bytes <= found.memory_bytes
    assert found.open_files > 0


def test_nothing_shown_is_nothing_read(tmp_path: Path) -> None:
    found = read_host(tmp_path)
    assert (found.governors, found.turbo, found.memory_bytes, found.clock_source) == ({}, None, 0, "")
    assert (found.swapped_bytes_per_s, found.quota_cores, found.swap_used_bytes) == (None, None, 0)


def test_memory_and_swap_in_bytes(tmp_path: Path) -> None:
    text = "MemTotal: 1000 kB\nMemAvailable: 400 kB\nSwapTotal: 300 kB\nSwapFree: 100 kB\nHugePages_Total: 0\nodd\n"
    found = tree(tmp_path, {"proc/meminfo": text, "proc/vmstat": "pgfault 7\npswpin 5\npswpout 6\n"})
    assert (found.memory_bytes, found.available_bytes, found.swap_used_bytes) == (1024_000, 409_600, 204_800)
    assert found.swapped_bytes_per_s == 0


def test_governors_are_counted(tmp_path: Path) -> None:
    names = ["powersave", "performance", "performance"]
    place = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
    found = tree(tmp_path, {place.format(number): f"{name}\n" for number, name in enumerate(names)})
    assert found.governors == {"powersave": 1, "performance": 2}


@pytest.mark.parametrize(
    ("file", "text", "turbo"),
    [
        ("intel_pstate/no_turbo", "0", True),
        ("intel_pstate/no_turbo", "1", False),
        ("cpufreq/boost", "1", True),
        ("cpufreq/boost", "0", False),
    ],
)
def test_turbo_of_either_driver(tmp_path: Path, file: str, text: str, turbo: bool) -> None:
    assert tree(tmp_path, {f"sys/devices/system/cpu/{file}": text}).turbo is turbo


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "100000 0"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_quota_of_either_version(tmp_path: Path, files: dict[str, str], cores: float | None) -> None:
    assert tree(tmp_path, {f"sys/fs/cgroup/{name}": text for name, text in files.items()}).quota_cores == cores
