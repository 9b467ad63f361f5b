"""Nobody is silently absorbed: what the gate and the store do together to records that look worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pytest_gpuperf.analysis.priors import PRIORS
from pytest_gpuperf.analysis.rule import rule_of
from pytest_gpuperf.model import RuleSettings, Verdict
from pytest_gpuperf.publish.comparison import compare_invocation, to_judge, with_verdict
from pytest_gpuperf.store import Store, select_baseline
from tests.unit.factories import KEY, record

#: A rule of a test among fifty others, on a CPU.
_RULE = rule_of(RuleSettings(tests=50), PRIORS["cpu"])


def _gated(store: Store, name: str, minute: int, p50_ms: Sequence[float]) -> tuple[Verdict, str]:
    """Gate and store a record of these runs; return its verdict and what the gate says of it."""
    measured = replace(record([[run_ms] for run_ms in p50_ms], name=name, minute=minute), invocation=f"{minute:032x}")
    (comparison,) = compare_invocation([to_judge(measured, select_baseline(store, KEY), _RULE)], {}).comparisons
    judged = with_verdict(measured, comparison)
    store.write(judged)
    return comparison.verdict, judged.gate


def _baseline(store: Store) -> list[str]:
    return [each.id for each in select_baseline(store, KEY).records]


def test_a_noisy_doubling_that_nothing_decides_does_not_join(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    _gated(store, "a0", 0, (1.0, 1.1, 0.9))
    _gated(store, "a1", 1, (1.0, 0.95, 1.1))
    verdict, gate = _gated(store, "b2", 2, (1.3, 3.0, 1.9))
    assert (verdict, gate) == (Verdict.INCONCLUSIVE, "suspect")
    assert _baseline(store) == ["a1", "a0"]


def test_a_level_that_creeps_does_not_pull_the_baseline_along(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for minute in range(10):
        _gated(store, f"a{minute}", minute, [1 + 0.004 * ((minute + run) % 3) for run in range(3)])
    honest = _baseline(store)
    for minute in range(10, 13):  # in steps of 3%, from 8% on
        level_ms = 1.08 + 0.03 * (minute - 10)
        _, gate = _gated(store, f"b{minute}", minute, [level_ms + 0.004 * ((minute + run) % 3) for run in range(3)])
        assert gate in ("suspect", "failed")
    assert _baseline(store) == honest
