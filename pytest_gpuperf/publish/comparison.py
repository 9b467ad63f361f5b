"""Comparison of a record with its baseline, for the gate, ``gpuperf compare`` and ``gpuperf report``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_gpuperf.analysis.compare import compare
from pytest_gpuperf.analysis.duet.compare import compare_duet
from pytest_gpuperf.analysis.priors import PRIORS, Prior, Priors, calibrated_priors
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.model import CommonMode, Comparison, PooledTest, Record
from pytest_gpuperf.store import Baseline, Store, newest_calibration


def prior_of(store: Store | None, device: str, kind: str) -> Prior | Priors:
    """Return the prior of the spread between a device's records: the calibrated one, else the assumed one.

    Args:
        store: Store that may have a calibration.
        device: Device model as keys name it.
        kind: Kind of the device (``Record.device_kind``).

    Raises:
        StoreError: The calibration can't be read.
    """
    assumed = PRIORS[kind]
    calibration = newest_calibration(store, device) if store is not None and kind != "unknown" else None
    return calibrated_priors(assumed, calibration.record_sd, calibration.freedom) if calibration else assumed


def compare_record(record: Record, baseline: Baseline, rule: Rule) -> Comparison:
    """Compare a record with its baseline; a duet's with its own reference, for which the baseline shows the spread."""
    if record.reference:
        return compare_duet(record, baseline.records, rule)
    return compare(record, baseline.records, rule, pinned=baseline.pinned, differing=baseline.differing)


@dataclass(frozen=True)
class RecordToJudge:
    """A record, with all that decides about it."""

    record: Record
    baseline: Baseline
    rule: Rule


@dataclass(frozen=True)
class InvocationComparison:
    """The comparison of all records of an invocation.

    Attributes:
        comparisons: Comparison of each record, in the order given.
        common: What all tests changed by together, by metric; it is gated once, here.
    """

    comparisons: tuple[Comparison, ...]
    common: tuple[CommonMode, ...] = ()


def compare_invocation(records: Sequence[RecordToJudge], pool: Mapping[str, PooledTest]) -> InvocationComparison:  # noqa: ARG001
    """Compare all records of an invocation, each with its baseline and with what the other tests show.

    Args:
        pool: What the store shows of tests of the same device model, by test; tests that are judged here may be in it.
    """
    return InvocationComparison(tuple(compare_record(each.record, each.baseline, each.rule) for each in records))
