"""The frozen data model that every layer shares. Builtins only: importing it costs nothing."""

from pytest_gpuperf.model.curve import BudgetMissed, Curve, CurvePoint, curve_of, unmeasured
from pytest_gpuperf.model.histogram import Histogram, bucket_of, merged
from pytest_gpuperf.model.records import (
    RULER,
    SCHEMA,
    LoadPoint,
    Plain,
    PlainMapping,
    PointRun,
    Run,
    ServerTimes,
    Session,
    Window,
    gather,
    point_runs,
)
from pytest_gpuperf.model.verdict import Change, Comparison, Row, Verdict, worst
from pytest_gpuperf.model.workload import CallWorkload, HttpWorkload, Workload

__all__ = [
    "RULER",
    "SCHEMA",
    "BudgetMissed",
    "CallWorkload",
    "Change",
    "Comparison",
    "Curve",
    "CurvePoint",
    "Histogram",
    "HttpWorkload",
    "LoadPoint",
    "Plain",
    "PlainMapping",
    "PointRun",
    "Row",
    "Run",
    "ServerTimes",
    "Session",
    "Verdict",
    "Window",
    "Workload",
    "bucket_of",
    "curve_of",
    "gather",
    "merged",
    "point_runs",
    "unmeasured",
    "worst",
]
