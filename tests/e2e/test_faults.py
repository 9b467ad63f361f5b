"""Faults in a run: a few of the table that ``python -m tests.faults`` injects."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.injection import BOTH, PYTEST, SERVER, SUPERVISOR, TWICE, WORKER, Fault, inject, table

CORE = (
    Fault(SERVER, "KILL", "window"),
    Fault(WORKER, "KILL", "warm-up"),
    Fault(SUPERVISOR, "KILL", "window"),
    Fault(PYTEST, "TERM", "start"),
    Fault(PYTEST, TWICE, "window"),
    Fault(BOTH, "KILL", "window"),
)


@pytest.mark.parametrize("fault", CORE, ids=str)
def test_a_fault_ends_in_time_is_named_and_leaves_nothing(fault: Fault, tmp_path: Path) -> None:
    result = inject(fault, tmp_path)
    assert result.problems == []
    assert result.hit


def test_the_table_has_every_fault_once() -> None:
    assert set(CORE) <= set(table())
    assert len(set(table())) == len(table()) == 88
