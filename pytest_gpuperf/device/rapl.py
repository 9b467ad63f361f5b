"""Energy of the CPU's packages, as the kernel's powercap interface tells it (RAPL).

Readable by root alone since CVE-2020-8694, unless the administrator says otherwise; absent in most virtual machines.

Source: Documentation/power/powercap/powercap.rst of Linux.
"""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class Rapl:
    """The sum over all packages, in joules since the first reading; wraps are taken out.

    Reads have to be closer together than a package takes for one wrap: about a minute at the least.
    """

    def __init__(self, packages: tuple[Path, ...]) -> None:
        self._packages = packages
        self._ranges_uj = [int((one / "max_energy_range_uj").read_text()) for one in packages]
        self._last_uj = [self._read(one) for one in packages]
        self._total_uj = 0

    @classmethod
    def find(cls, root: Path = POWERCAP) -> Rapl | None:
        """The packages of this machine; None where they are absent or can't be read, all of them."""
        # Zones intel-rapl:0, intel-rapl:1, ... also on AMD; their parts (cores, memory) have a second number.
        zones = sorted(root.glob("intel-rapl:*")) if root.is_dir() else []
        try:
            packages = [
                zone
                for zone in zones
                if zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package")
            ]
            return cls(tuple(packages)) if packages else None
        except (OSError, ValueError):
            return None

    def energy_j(self) -> float | None:
        """Since the first reading; None when a package can't be read any more."""
        try:
            now_uj = [self._read(one) for one in self._packages]
        except (OSError, ValueError):
            return None
        for now, last, full in zip(now_uj, self._last_uj, self._ranges_uj, strict=True):
            self._total_uj += now - last if now >= last else now - last + full
        self._last_uj = now_uj
        return self._total_uj / 1e6

    @staticmethod
    def _read(package: Path) -> int:
        return int((package / "energy_uj").read_text())
