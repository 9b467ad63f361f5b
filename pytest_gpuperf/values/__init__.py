"""Plain numbers from any load tool, judged by the gate's rule.

::

    from pytest_gpuperf import compare, record_from_values

    monday, tuesday = (
        record_from_values("resnet50", [{"concurrency 4": {"p50_ns": 1.9e6, "throughput": 2050.0}}, ...]) for ...
    )
    print(compare([monday], tuesday).verdict)

A value is one figure of one load point in one run. A run is one fresh start of what is measured: requests or windows of
the same start are not runs.
"""

from pytest_gpuperf.values.comparison import ValueComparison, ValueRow, compare, compare_suite
from pytest_gpuperf.values.records import ValueRecord, record_from_values

__all__ = [
    "ValueComparison",
    "ValueRecord",
    "ValueRow",
    "compare",
    "compare_suite",
    "record_from_values",
    "session_from_values",
]

#: The name of ``record_from_values`` before records were called records.
session_from_values = record_from_values
