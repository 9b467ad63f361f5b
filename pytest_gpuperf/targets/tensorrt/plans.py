"""The cache of plans on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_gpuperf.atomic_write import atomic_write
from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.targets.tensorrt.builder import Plan
from pytest_gpuperf.targets.triton.bundle import CACHE_VARIABLE, cache_directory

#: Version of the folders' layout; folders of another version are ignored.
_FORM = 1
_PLAN, _ABOUT = "model.plan", "about.json"


@dataclass(frozen=True)
class PlanStore:
    """A directory with a folder for each plan, and the builder's timing caches.

    A folder appears complete, by a rename. Plans are checked when they are read, and rebuilt if they are damaged.
    """

    root: Path

    @classmethod
    def default(cls) -> PlanStore:
        return cls(cache_directory() / "tensorrt")

    def find(self, key: Mapping[str, Any]) -> Plan | None:
        """Return the plan; None if it is missing or damaged."""
        folder = self._folder(key)
        try:
            about = json.loads((folder / _ABOUT).read_text())
            data = (folder / _PLAN).read_bytes()
            intact = about["sha256"] == hashlib.sha256(data).hexdigest() and about["key"] == dict(key)
            return Plan(data, bool(about["batched"])) if intact else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def add(self, key: Mapping[str, Any], plan: Plan) -> None:
        """Store a plan."""
        folder = self._folder(key)
        about = {"sha256": hashlib.sha256(plan.data).hexdigest(), "batched": plan.batched, "key": dict(key)}
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".building-", dir=folder.parent) as scratch:
                made = Path(scratch) / "plan"
                made.mkdir()
                (made / _PLAN).write_bytes(plan.data)
                (made / _ABOUT).write_text(json.dumps(about, indent=1))
                if folder.exists():  # an existing folder is damaged
                    shutil.rmtree(folder, ignore_errors=True)
                try:
                    made.rename(folder)
                except OSError:
                    if not folder.exists():  # otherwise another process has stored the same plan
                        raise
        except OSError as error:
            raise TargetError(
                f"The plan can't be stored in {self.root}: {error}.\nSet {CACHE_VARIABLE} to another directory."
            ) from error

    def timing_cache(self, name: str) -> Path:
        """Return the path of the timing cache for a version of TensorRT and a GPU model."""
        return self.root / f"timing-{hashlib.sha256(name.encode()).hexdigest()[:16]}.cache"

    def _folder(self, key: Mapping[str, Any]) -> Path:
        text = json.dumps({"form": _FORM, **key}, sort_keys=True)
        return self.root / hashlib.sha256(text.encode()).hexdigest()[:32]


def read_timing_cache(path: Path) -> bytes:
    """Return the kernel timings of earlier builds; empty if there are none."""
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def write_timing_cache(path: Path, data: bytes) -> None:
    """Replace a timing cache atomically."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as beside:
            beside.write_bytes(data)
    except OSError as error:
        raise TargetError(
            f"The timing cache {path} can't be written: {error}. Set timing_cache= to another file."
        ) from error
