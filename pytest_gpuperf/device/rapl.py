"""Energy of the CPU's packages, as reported by the kernel's powercap interface (RAPL).

Only root may read it since CVE-2020-8694, unless the administrator allows it; most virtual machines lack it.

Source: Documentation/power/powercap/powercap.rst of Linux.
"""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class Rapl:
    """The sum over all packages, in joules since the first reading, corrected for wraps of the counters.

    Readings must be closer together than a counter takes to wrap: about a minute or more.
    """

    def __init__(self, packages: tuple[Path, ...]) -> None:
        self._packages = packages
        self._ranges_uj = [int((package / "max_energy_range_uj").read_text()) for package in packages]
        self._last_uj = [self._read(package) for package in packages]
        self._total_uj = 0

    @classmethod
    def find(cls, root: Path = POWERCAP) -> Rapl | None:
        """Return the packages of this machine; None if they are absent or one can't be read."""
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
        """Return the energy since the first reading; None if a package can no longer be read."""
        try:
            now_uj = [self._read(package) for package in self._packages]
        except (OSError, ValueError):
            return None
        for now, last, full in zip(now_uj, self._last_uj, self._ranges_uj, strict=True):
            self._total_uj += now - last if now >= last else now - last + full
        self._last_uj = now_uj
        return self._total_uj / 1e6

    @staticmethod
    def _read(package: Path) -> int:
        return int((package / "energy_uj").read_text())
