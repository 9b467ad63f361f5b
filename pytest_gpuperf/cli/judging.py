"""A stored record against the baseline of its key, by the rule that the gate has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gpuperf.analysis.compare import compare, compare_duet
from pytest_gpuperf.analysis.priors import PRIORS, RECORD_PRIOR, calibrated
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.values import GATED, METRICS
from pytest_gpuperf.cli.stored_records import UNKNOWN
from pytest_gpuperf.model import Comparison, Verdict
from pytest_gpuperf.store import Baseline, BaselineSpec, duet_history, newest_calibration, select_baseline

if TYPE_CHECKING:
    from pytest_gpuperf.model import Record
    from pytest_gpuperf.store import RecordFile, Store

#: What says that nothing was compared.
ABSENT = (Verdict.NO_BASELINE, Verdict.NOT_COMPARABLE)


@dataclass(frozen=True)
class JudgedRecord:
    """A record, and what became of its comparison."""

    record: Record
    comparison: Comparison
    baseline: Baseline


def rule_for(
    record: Record,
    *,
    tests: int = 1,
    equivalence: float | None = None,
    alpha: float | None = None,
    min_effect: float | None = None,
    metrics: frozenset[str] | None = None,
    store: Store | None = None,
) -> Rule:
    """The rule of a record's test, as the record has it.

    Args:
        tests: of the invocation, where the record doesn't say.
        equivalence: see ``Rule``.
        alpha, min_effect, metrics: instead of the record's own.
        store: where the device may have been calibrated; only assumed priors when None.

    Raises:
        StoreError: what was calibrated can't be read.
    """
    own = record.settings
    device = str(record.key.get("device", UNKNOWN))
    assumed = RECORD_PRIOR if device == UNKNOWN else PRIORS["cpu" if device.startswith("CPU ") else "gpu"]
    found = newest_calibration(store, device) if store else None
    named = frozenset(str(own.get("metrics", "")).split()) & frozenset(METRICS)
    return Rule(
        prior=calibrated(assumed, found.record_sd, found.freedom) if found else assumed,
        alpha=_share(own.get("alpha"), 0.05) if alpha is None else alpha,
        tests=_tests(own.get("tests"), tests),
        look_share=_share(own.get("look_share"), 1.0),
        min_effect=_share(own.get("min_effect"), 0.01) if min_effect is None else min_effect,
        equivalence=equivalence,
        metrics=metrics or named or GATED,
    )


def _share(recorded: object, default: float) -> float:
    return float(recorded) if isinstance(recorded, int | float) and 0 <= recorded < 1 else default


def _tests(recorded: object, default: int) -> int:
    return recorded if isinstance(recorded, int) and recorded > 0 else default


def judge(
    store: Store, record: Record, rule: Rule, *, choice: BaselineSpec | None = None, before: RecordFile | None = None
) -> JudgedRecord:
    """Compare a record with what was stored before it.

    Args:
        before: its own entry, where it is stored already.

    Raises:
        StoreError, UnreadableRecord: there is a baseline that can't be read, or not the one that was asked for.
    """
    if record.reference:
        found = duet_history(store, record.key, before=before)
        return JudgedRecord(record, compare_duet(record, found.records, rule), found)
    found = select_baseline(store, record.key, choice, before=before)
    comparison = compare(record, found.records, rule, pinned=found.pinned, differing=found.differing)
    return JudgedRecord(record, comparison, found)
