"""The frozen data model that every layer shares. Builtins only: importing it costs nothing.

Every name imported here is re-exported, as pyproject.toml tells mypy and ruff.
"""

from pytest_gpuperf.model.arrivals import Arrivals, Constant, Intervals, Poisson, Ramp, reseed
from pytest_gpuperf.model.budget import Budget, LatencyLimit
from pytest_gpuperf.model.comparison.device_comparison import DeviceComparison, DevicePoint, DeviceResult, Ratio
from pytest_gpuperf.model.comparison.pooled import PooledRecord, PooledSeries, PooledTest
from pytest_gpuperf.model.comparison.verdict import (
    MERGE_BASE,
    START,
    AnchoredMetric,
    Change,
    CommonMode,
    Comparison,
    DeviceSpread,
    NamedPoint,
    Row,
    Verdict,
    worst,
)
from pytest_gpuperf.model.cost import HOURS_PER_MONTH, Demand, Fleet, Offer, OperatingPoint, Price
from pytest_gpuperf.model.curve import BudgetMissed, Capacity, Curve, CurvePoint, Duet, curve_of, curves_of, smoke_curve
from pytest_gpuperf.model.figures import (
    PointFigures,
    figures_by_point,
    undisturbed_windows,
    windows_by_point,
    with_cached_points,
)
from pytest_gpuperf.model.finding import MARKS, Finding
from pytest_gpuperf.model.histogram import QUANTILES, Histogram, bucket_of, merge_histograms
from pytest_gpuperf.model.load_point import LoadPoint
from pytest_gpuperf.model.metric import (
    METRIC_NAMES,
    METRICS,
    TIME_UNITS,
    Metric,
    is_measured_once,
    is_of_start,
    is_share,
    metric_of,
    worse_sign,
)
from pytest_gpuperf.model.record import (
    GATED,
    GATES,
    METHOD_VERSION,
    SCHEMA,
    LookShares,
    Plain,
    PlainMapping,
    Record,
    RuleSettings,
    check_utc,
)
from pytest_gpuperf.model.reported import PointCost, ReportedTest
from pytest_gpuperf.model.resources import Energy, GpuReadings, Memory, Resources
from pytest_gpuperf.model.run import ROUNDS, Run, StartTimes
from pytest_gpuperf.model.scaling import RequiredReplicas, Scaling
from pytest_gpuperf.model.server_times import ServerTimes
from pytest_gpuperf.model.window import TIMEOUT, EndpointFigures, Window
from pytest_gpuperf.model.workload import (
    GRPC,
    GRPC_STREAM,
    HTTP,
    LEAST_OUTSTANDING,
    ROUND_ROBIN,
    UNSTARTED_RESULTS,
    Address,
    AnswerCheck,
    CallWorkload,
    Request,
    StreamAnswer,
    Tls,
    WireWorkload,
    Workload,
)
