"""The name of the CPU, from what kernels of several architectures report."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from pytest_gpuperf.device import device, host
from pytest_gpuperf.device.cpu_model import cpu_model


def arm(implementer: str, part: str, further: str = "") -> str:
    return f"processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: {implementer}\nCPU part\t: {part}\n{further}\n"


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("processor\t: 0\nvendor_id\t: GenuineIntel\nmodel\t\t: 85\nmodel name\t: Intel(R)  Xeon(R) @ 2.70GHz\n", None),
        (arm("0x41", "0xd0c"), "Neoverse-N1"),
        (arm("0x41", "0xd4f"), "Neoverse-V2"),
        (arm("0xc0", "0xac3"), "Ampere-1"),
        (arm("0x41", "0xfff"), "ARM part 0xfff"),
        (arm("0x99", "0x001"), "implementer 0x99 part 0x001"),
        (arm("0x41", "0xd08", "model name\t: ARMv8 Processor rev 3 (v8l)\n"), "Cortex-A72"),
        (arm("0x41", "0xd08") + "\nModel\t\t: Raspberry Pi 4 Model B\n", "Cortex-A72 (Raspberry Pi 4 Model B)"),
        (arm("0x41", "0xd44") + "\n" + arm("0x41", "0xd05") * 3, "Cortex-X1, Cortex-A55"),
        (arm("0x70", "0x663", "model name\t: Phytium,FT-2000+/64\n"), "Phytium,FT-2000+/64"),
        (
            "processor\t: 0\ncpu\t\t: POWER9 (architected), altivec supported\n",
            "POWER9 (architected), altivec supported",
        ),
        ("processor\t: 0\nhart\t\t: 1\nisa\t: rv64imafdc\nuarch\t\t: sifive,u74-mc\n", "sifive,u74-mc"),
        (
            "processor\t: 0\nisa\t: rv64\nmvendorid\t: 0x5b7\nmarchid\t: 0x0\nmimpid\t: 0x7\n",
            "0x5b7 marchid 0x0 mimpid 0x7",
        ),
        ("processor\t: 0\nModel Name\t\t: Loongson-3A5000\n", "Loongson-3A5000"),
        (
            "vendor_id       : IBM/S390\nprocessor 0: version = FF,  identification = 0133E8,  machine = 8561\n",
            "IBM/S390 machine 8561",
        ),
        (
            "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: unknown\n",
            "AuthenticAMD cpu family 25 model 1",
        ),
    ],
)
def test_the_name_on_each_architecture(tmp_path: Path, text: str, model: str | None) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_model(tmp_path / "cpuinfo") == (model or "Intel(R) Xeon(R) @ 2.70GHz")


def test_without_a_report_the_architecture_remains(tmp_path: Path) -> None:
    assert cpu_model(tmp_path / "absent") in (platform.processor(), platform.machine())


class TestQuota:
    @pytest.fixture(autouse=True)
    def cores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})

    def test_a_quota_below_the_cores_is_part_of_the_key_and_of_the_label(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(device, "cpu_quota_cores", lambda: 0.5)
        limited = device.cpu()
        assert limited.key["quota_cores"] == 0.5
        assert "a quota of 0.5 of its 4 cores" in limited.label
        assert limited.environment["cpu_quota_cores"] == 0.5

    @pytest.mark.parametrize("quota", [None, 4.0, 8.0])
    def test_one_that_limits_nothing_is_not(self, monkeypatch: pytest.MonkeyPatch, quota: float | None) -> None:
        monkeypatch.setattr(device, "cpu_quota_cores", lambda: quota)
        assert "quota_cores" not in device.cpu().key

    @pytest.mark.parametrize(
        ("groups", "files", "cores"),
        [
            ("0::/job/step\n", {"cgroup.controllers": "cpu", "job/cpu.max": "150000 100000", "job/step/x": ""}, 1.5),
            ("0::/job/step\n", {"job/cpu.max": "300000 100000", "job/step/cpu.max": "200000 100000"}, 2.0),
            ("0::/job\n", {"unified/job/cpu.max": "50000 100000"}, 0.5),
            ("4:cpu,cpuacct:/docker/1\n", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
            ("4:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "250000", "cpu/a/cpu.cfs_period_us": "100000"}, 2.5),
            ("0::/../other\n", {"cpu.max": "100000 100000"}, 1.0),
            ("0::/job\n", {"cpu.max": "max 100000", "other/cpu.max": "100000 100000"}, None),
        ],
    )
    def test_the_smallest_of_the_group_and_its_parents(
        self, tmp_path: Path, groups: str, files: dict[str, str], cores: float | None
    ) -> None:
        paths = {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}
        for name, text in paths.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        assert host.cpu_quota_cores(tmp_path) == cores
