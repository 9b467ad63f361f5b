from __future__ import annotations

import ast
import time
from datetime import datetime, timezone
from pathlib import Path

import freezegun
import pytest

from pytest_gpuperf import clock
from pytest_gpuperf.load import inprocess
from pytest_gpuperf.measure import MeasurePlan
from pytest_gpuperf.measure.sweep import measure_sweep
from pytest_gpuperf.model import LoadPoint, Run
from pytest_gpuperf.store.provenance import utc_now
from pytest_gpuperf.targets import CallTarget

PACKAGE = Path(__file__).parents[2] / "pytest_gpuperf"
#: The clock itself, and a script that runs with the standard library alone.
SCRIPTS = {"clock.py", "supervisor.py"}


def advances() -> bool:
    before = (clock.time.monotonic_ns(), clock.wall_s(), inprocess.now_ns())
    clock.time.sleep(0.001)
    after = (clock.time.monotonic_ns(), clock.wall_s(), inprocess.now_ns())
    return all(late > early for early, late in zip(before, after, strict=True))


def test_a_frozen_time_does_not_stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(timezone.utc)
    with freezegun.freeze_time("2031-02-03"):
        assert datetime.now(timezone.utc).year == 2031
        assert advances()
        assert abs((datetime.fromisoformat(utc_now()) - now).total_seconds()) < 60
    for name in ("time", "monotonic", "monotonic_ns", "perf_counter", "sleep", "clock_gettime"):
        monkeypatch.setattr(time, name, lambda *_: 0)
    assert advances()


def test_a_sweep_under_a_frozen_time_has_its_requests() -> None:
    runs: list[Run] = []
    plan = MeasurePlan(runs=2, visits=1, window_s=0.05, min_requests=2, lead_in_s=0.01)
    with freezegun.freeze_time("2031-02-03"):
        measure_sweep(
            CallTarget(lambda: clock.time.sleep(0.002)),
            [LoadPoint(1)],
            plan,
            name="s",
            on_run=runs.append,
            on_under_test=lambda _: None,
            on_progress=lambda _: None,
            watch_cpu=False,
        )
    windows = [window for run in runs for window in run.windows]
    assert len(windows) == 2
    for window in windows:
        assert window.requests > 5
        assert 2e6 <= window.latency.quantile_ns(0.5) < 2e7


def test_every_module_takes_its_time_from_the_real_clock() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        if path.name in SCRIPTS or "python_backend" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if "time" in imported or (isinstance(node, ast.ImportFrom) and node.module == "time"):
                wrong.append(str(path.relative_to(PACKAGE)))
    assert wrong == []
