"""Common parts of the records of imported files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_gpuperf import __version__
from pytest_gpuperf.cli.new_record import new_key, new_record
from pytest_gpuperf.model import PlainMapping, Record, Run, StartTimes, Window

#: Device of records whose files don't name one.
UNKNOWN = "unknown"


def imported_run(tool: str, index: int, windows: Sequence[Window]) -> Run:
    """Return the run that a file shows. The name of its sweep is the tool's."""
    return Run(tool, index, start=StartTimes(), warmup_s=0.0, warmed_up=True, windows=tuple(windows))


def imported_record(tool: str, test: str, device: PlainMapping, runs: Sequence[Run], **fields: Any) -> Record:
    """Return a record of imported runs.

    The tool is a part of the key, because its windows or rounds are not a test's windows: an imported record must never
    be compared with a measured one.

    Args:
        device: Fields of the key that describe the device; ``device`` is its name.
        fields: Further fields of ``Record``.
    """
    settings = {"imported_by": f"pytest-gpuperf {__version__}", "files": len(runs)}
    name = str(device["device"])
    kind = "unknown" if name == UNKNOWN else "cpu" if name.startswith("CPU ") else "gpu"
    key = new_key(device, test, f"{tool} 1")
    return new_record(key, runs, settings=settings, device_kind=kind, **fields)
