"""Records: the stored unit, which a baseline is made of.

Schema history (``SCHEMA``, stored in every file):

1. First release.

A reader refuses a newer schema and names it in the message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pytest_gpuperf.model.budget import Budget, LatencyLimit
from pytest_gpuperf.model.load_point import LoadPoint
from pytest_gpuperf.model.run import Run

SCHEMA = 1

#: Version of how latency and throughput are measured. It is part of every key, so that a change of the method never
#: looks like a change of the target.
METHOD_VERSION = 2

#: What the gate may say of a record.
GATES = ("passed", "failed", "open", "suspect", "inherited")

#: The earliest and latest times are far from those that Python can't convert.
_UTC = re.compile(r"(19[7-9]\d|[2-8]\d{3})-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}(\d{3})?)?\+00:00", re.ASCII)

Plain = str | int | float | bool | None
PlainMapping = Mapping[str, Plain]

#: Metrics that gate by default. p95 and p99 need longer windows than most tests have, and memory rarely creeps.
GATED = frozenset({"p50", "p90", "throughput", "energy"})


def check_utc(text: str) -> None:
    """Check a time in the format of records.

    Raises:
        ValueError: The text is not a time in UTC, for example ``2026-01-31T12:00:00.000+00:00``.
    """
    if not _UTC.fullmatch(text):
        raise ValueError(f"expected a time such as 2026-01-31T12:00:00.000+00:00, not {text[:80]!r}")
    datetime.fromisoformat(text)


@dataclass(frozen=True)
class LookShares:
    """What an interim look may spend, as shares of the levels of a comparison without interim looks.

    Attributes:
        changed: Share of the level of "regressed" and "improved".
        unchanged: Share of the level of "unchanged".
    """

    changed: float = 1.0
    unchanged: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.changed <= 1 and 0 <= self.unchanged <= 1):
            raise ValueError(f"a look spends shares between 0 and 1: {self}")


def _listed(uuids: Plain) -> str:
    """Return the UUIDs of a fact in a fixed order."""
    return "+".join(sorted(str(uuids).split(", "))) if uuids else ""


@dataclass(frozen=True)
class RuleSettings:
    """The settings that judge a record: unlike those that measure it, they can't have made it slower.

    Attributes:
        alpha: Probability of any false alarm in the entire invocation.
        tests: Number of gated tests that share alpha.
        min_effect: Largest worsening, as a share, that is not worth an alarm.
        metrics: Metrics that gate; others are not compared.
        looks: What the interim look at which a sweep ended may spend, by sweep; everything, for other sweeps.
    """

    alpha: float = 0.05
    tests: int = 1
    min_effect: float = 0.01
    metrics: frozenset[str] = GATED
    looks: Mapping[str, LookShares] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tests < 1 or not (0 <= self.alpha <= 1 and self.min_effect >= 0):
            raise ValueError(f"a rule needs shares between 0 and 1, and one test or more: {self}")


@dataclass(frozen=True)
class Record:
    """Measurement of one test in one invocation: its runs and how they came about; one file in the store.

    Attributes:
        id: Unique identifier; also the end of the file's name.
        invocation: Identifier shared by all tests of the invocation.
        test: Id of the test: its path from the top of the checkout and its name, or the name that its marker states.
        key: Comparison key: what must match for two records to be compared.
        status: ``complete``, or ``incomplete`` if the measurement was cut short.
        gate: ``passed``, ``failed``, ``open`` (no baseline, or nothing could be compared), ``suspect`` (waits to be
            accepted, or for a later record that is unchanged) or ``inherited`` (regressed, but the merge base is, too).
        verdict: Verdict of the comparison; empty where nothing was compared.
        under_test: What was measured, by sweep: digests, versions, configuration. Never part of the key.
        environment: Anything else that helps to explain a difference.
        settings: How it was measured.
        rule: How it was judged; None for an imported record.
        reference: Runs of a duet's reference. Runs of equal sweep and index were measured in alternation, and their
            windows pair by point and visit.
        reference_under_test: What was measured on the reference's side, by sweep.
        device_kind: ``gpu``, ``cpu``, or ``unknown`` (imported from another tool).
        budgets: Latency budgets that the test required or searched for.
        merge_base: Commit of the main branch that the measured change is based on; empty on the main branch, or if
            unknown.
        node_id: pytest's id of the test, from the top of the checkout; empty for a record that pytest did not measure.
        moved_from: Id that the test had when it was measured; empty if ``gpuperf baseline move`` has not changed it.
        kept_points: Load points that the next record measures again, by sweep, where the test looked for its points.
            A sweep that is not listed keeps all of its points.
    """

    id: str
    invocation: str
    test: str
    created_utc: str
    key: PlainMapping
    status: str
    gate: str
    runs: tuple[Run, ...]
    commit: str = ""
    under_test: Mapping[str, PlainMapping] = field(default_factory=dict)
    environment: PlainMapping = field(default_factory=dict)
    settings: PlainMapping = field(default_factory=dict)
    rule: RuleSettings | None = None
    reference: tuple[Run, ...] = ()
    reference_under_test: Mapping[str, PlainMapping] = field(default_factory=dict)
    device_kind: str = "gpu"
    budgets: tuple[Budget, ...] = ()
    node_id: str = ""
    moved_from: str = ""
    kept_points: Mapping[str, tuple[LoadPoint, ...]] = field(default_factory=dict)
    verdict: str = ""
    merge_base: str = ""

    def __post_init__(self) -> None:
        if self.status not in ("complete", "incomplete"):
            raise ValueError(f"status must be complete or incomplete, not {self.status!r}")
        if self.gate not in GATES:
            raise ValueError(f"gate must be one of {', '.join(GATES)}, not {self.gate!r}")
        if self.device_kind not in ("gpu", "cpu", "unknown"):
            raise ValueError(f"device_kind must be gpu, cpu or unknown, not {self.device_kind!r}")

    @property
    def sequential(self) -> bool:
        """Whether the sides of a duet were measured one after the other."""
        return any(run.sequential for run in self.runs)

    @property
    def may_be_baseline(self) -> bool:
        """Whether the record enters the baseline without being accepted by hand."""
        return self.status == "complete" and self.gate in ("passed", "open")

    @property
    def device_id(self) -> str:
        """The very device that was measured; empty if unknown.

        The UUID of a GPU, or of the GPU and its slice: ``GPU-.../MIG-...``. Without a GPU it is the machine, or else
        its name. Several devices stand in an order that does not depend on the test.
        """
        uuids, boards = (_listed(self.environment.get(name)) for name in ("gpu_uuid", "gpu_board_uuid"))
        if boards:
            return f"{boards}/{uuids}"
        return uuids or str(self.environment.get("machine_id") or self.environment.get("host") or "")

    @property
    def load_points(self) -> set[tuple[str, LoadPoint]]:
        """The measured load points, each with the name of its sweep."""
        return {(run.sweep, window.point) for run in self.runs for window in run.windows}

    @property
    def load_points_to_keep(self) -> list[tuple[str, LoadPoint]]:
        """The load points that the next record is expected to measure, in the order of their labels."""
        kept = [(sweep, point) for sweep, point in self.load_points if point in self.kept_points.get(sweep, (point,))]
        return sorted(kept, key=lambda place: (place[0], place[1].concurrency, place[1].rate, place[1].batch_size))

    @property
    def limits(self) -> tuple[LatencyLimit, ...]:
        """Limits of all budgets, each once."""
        return tuple(dict.fromkeys(limit for budget in self.budgets for limit in budget.limits))

    @property
    def under_test_by_side(self) -> Mapping[str, PlainMapping]:
        """What was measured on both sides, by title, which contains the sweep's name."""
        reference = {f"{sweep} (reference)": facts for sweep, facts in self.reference_under_test.items()}
        return {**self.under_test, **reference}
