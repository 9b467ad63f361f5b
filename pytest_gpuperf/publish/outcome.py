"""Outcomes of tests, for the reports at the end of the invocation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_gpuperf.model import Comparison, Record


@dataclass(frozen=True)
class TestOutcome:
    """Record of a test, and the decision about it.

    Attributes:
        baseline: Records that it was compared with and that were read for it; reports read none of them again.
        path, store_option, error, file, line, expected_failure: See ``ReportedTest``.
    """

    #: No test class, whatever its name.
    __test__: ClassVar[bool] = False

    record: Record
    comparison: Comparison
    baseline: tuple[Record, ...] = ()
    path: str = ""
    store_option: str = ""
    error: str = ""
    file: str = ""
    line: int = 0
    expected_failure: str = ""

    def shown_baseline(self, *, charts: bool) -> tuple[Record, ...]:
        """Return the records of the baseline that a report shows: all of them in charts, else the newest."""
        records = {record.id: record for record in self.baseline}
        ids = self.comparison.baseline if charts else self.comparison.baseline[:1]
        return tuple(records[record_id] for record_id in ids if record_id in records)
