from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.targets.tensorrt.builder import Plan
from pytest_gpuperf.targets.tensorrt.plans import PlanStore, read_timing_cache, write_timing_cache

KEY: dict[str, Any] = {"model": "abc", "gpu": "NVIDIA L4", "batch_sizes": [[1, 1, 1]], "workspace_bytes": None}
PLAN = Plan(b"a plan" * 100, batched=True)


@pytest.fixture
def store(tmp_path: Path) -> PlanStore:
    return PlanStore(tmp_path / "plans")


def test_is_found_again_by_another_one(store: PlanStore) -> None:
    assert store.find(KEY) is None
    store.add(KEY, PLAN)
    assert PlanStore(store.root).find(json.loads(json.dumps(KEY))) == PLAN
    assert len(list(store.root.iterdir())) == 1  # and nothing is left beside it


@pytest.mark.parametrize("change", [{"gpu": "NVIDIA A10G"}, {"workspace_bytes": 1}, {"batch_sizes": [[1, 1, 2]]}])
def test_belongs_to_its_key(store: PlanStore, change: dict[str, Any]) -> None:
    store.add(KEY, PLAN)
    assert store.find(KEY | change) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no plan", "no facts", "facts cut", "facts of another"])
def test_a_damaged_one_is_not_found_and_is_replaced(store: PlanStore, damage: str) -> None:
    store.add(KEY, PLAN)
    (folder,) = store.root.iterdir()
    plan, about = folder / "model.plan", folder / "about.json"
    damages: dict[str, Callable[[], object]] = {
        "cut": lambda: plan.write_bytes(PLAN.data[:-1]),
        "flipped": lambda: plan.write_bytes(b"A" + PLAN.data[1:]),
        "empty": lambda: plan.write_bytes(b""),
        "no plan": plan.unlink,
        "no facts": about.unlink,
        "facts cut": lambda: about.write_text(about.read_text()[:20]),
        "facts of another": lambda: about.write_text(about.read_text().replace("NVIDIA L4", "NVIDIA L40")),
    }
    damages[damage]()
    assert store.find(KEY) is None
    store.add(KEY, PLAN)
    assert store.find(KEY) == PLAN


def test_two_builders_of_the_same_plan(store: PlanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one's folder appears between our look and our rename."""
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", real)
        store.add(KEY, PLAN)
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    store.add(KEY, PLAN)
    assert store.find(KEY) == PLAN


def test_a_directory_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match=r"(?s)can't be stored in .*Set GPUPERF_CACHE"):
        PlanStore(tmp_path / "file" / "plans").add(KEY, PLAN)
    with pytest.raises(TargetError, match="timing_cache="):
        write_timing_cache(tmp_path / "file" / "timing.cache", b"x")


def test_lies_in_the_cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUPERF_CACHE", str(tmp_path))
    assert PlanStore.default().root == tmp_path / "tensorrt"


def test_timing_caches_of_versions_and_gpus_are_apart(store: PlanStore) -> None:
    one, two = store.timing_cache("tensorrt 10.16 NVIDIA L4"), store.timing_cache("tensorrt 11.4 NVIDIA L4")
    assert one != two
    assert read_timing_cache(one) == b""
    write_timing_cache(one, b"measured")
    write_timing_cache(one, b"measured more")
    assert read_timing_cache(one) == b"measured more"
    assert [path.name for path in store.root.iterdir()] == [one.name]
