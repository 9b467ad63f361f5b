from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from pytest_gpuperf.model import (
    Budget,
    EndpointFigures,
    Energy,
    Finding,
    GpuReadings,
    Histogram,
    LoadPoint,
    LookShares,
    Memory,
    NamedPoint,
    Record,
    Row,
    RuleSettings,
    Run,
    ServerTimes,
    StartTimes,
    Verdict,
    Window,
)
from pytest_gpuperf.model.codec import Mismatch, from_builtins, to_builtins
from tests.unit.factories import KEY, records, row, server_times, utc

Step = str | int


def full_record() -> Record:
    """Every field of every record filled."""
    window = Window(
        sweep="serving",
        point=LoadPoint(2, 4),
        visit=1,
        window_s=0.5,
        requests=3,
        throughput=6.5,
        latency_mean_ns=1.5e6,
        latency=Histogram((2770, 2800), (2, 1)),
        errors={"timeout": 1},
        client_cpu_s=0.25,
        stall_s=0.01,
        client_wait_s=0.02,
        client_halted_s=0.03,
        client_stops=4,
        service=Histogram((2700, 2790), (2, 1)),
        late=1,
        lag_p99_ns=1.2e6,
        first=Histogram((2600,), (3,)),
        answers=9,
        endpoints=(EndpointFigures("127.0.0.1:8000", 3, 1, 6.5, Histogram((2760, 2790), (2, 1))),),
        server=replace(server_times(3), stages={"resize": server_times(3)}),
        others_cpu_share=0.02,
        findings=(Finding("requests_failed", "errors", 1.0, 4.0, ("a",), "b"),),
        energy=(Energy("gpu", "nvml-counter", 12.5, 0.1, 20.5),),
        memory=Memory(1, 2, 3),
        gpus=(
            GpuReadings("GPU-1", 5, 50.5, 1500.5, 1400.5, 1600.5, 800.5, 40.5, 41.5, 0.5, ("hw_thermal",), ("12 x",)),
        ),
    )
    return Record(
        id="0a1b2c3d4e5f",
        invocation="f0f0",
        test=str(KEY["test"]),
        created_utc=utc(0),
        key=KEY,
        status="complete",
        gate="open",
        runs=(Run("serving", 0, StartTimes(2.5, True, 1.5, 9.5, 0.05), 0.75, True, (window,), True),),
        commit="12345678",
        under_test={"serving": {"digest": "abc", "instances": 2, "dynamic_batching": True, "delay_s": 0.5}},
        environment={"driver": "570.1", "mig": None},
        settings={"runs": 1},
        rule=RuleSettings(0.01, 2, 0.02, frozenset({"p90", "p50"}), {"serving": LookShares(0.5, 0.25)}),
        reference_under_test={"serving": {"digest": "def"}},
        device_kind="cpu",
        budgets=(Budget.of_ms(p90_ms=50),),
        kept_points={"serving": (LoadPoint(2, 4),)},
    )


FULL = to_builtins(full_record())
#: What is plain data by design may hold any scalar.
FREE = ("key", "under_test", "environment", "settings", "reference_under_test")


def walk(data: Any, *steps: Step) -> Iterator[tuple[Step, ...]]:
    """The path of everything inside."""
    items: list[tuple[Step, Any]] = []
    if isinstance(data, dict):
        items = list(data.items())
    elif isinstance(data, list):
        items = list(enumerate(data))
    for step, item in items:
        yield (*steps, step)
        yield from walk(item, *steps, step)


def at(data: Any, path: tuple[Step, ...]) -> Any:
    for step in path:
        data = data[step]
    return data


def written(path: tuple[Step, ...]) -> str:
    return "record" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def replaced(path: tuple[Step, ...], value: Any) -> Any:
    data = copy.deepcopy(FULL)
    at(data, path[:-1])[path[-1]] = value
    return data


def without(path: tuple[Step, ...]) -> Any:
    data = copy.deepcopy(FULL)
    del at(data, path[:-1])[path[-1]]
    return data


PATHS = list(walk(FULL))
HISTOGRAMS = ("latency", "service", "first")
WINDOW_OPTIONAL = (
    *(
        "errors",
        "client_cpu_s",
        "server",
        "others_cpu_share",
        "caller_wait_share",
        "findings",
        "stall_s",
        "service",
        "late",
        "lag_p99_ns",
    ),
    *("first", "answers", "endpoints", "energy", "memory", "gpus", "error_sentences"),
    *("client_wait_s", "client_halted_s", "client_stops"),
)
START_OPTIONAL = ("startup_s", "cold", "model_load_s", "engine_build_s", "others_cpu_share")
POINTS = (("runs", 0, "windows", 0, "point"), ("kept_points", "serving", 0))
RECORD_OPTIONAL = (
    *("commit", "under_test", "environment", "settings", "rule", "reference", "reference_under_test"),
    *("device_kind", "budgets", "kept_points", "node_id", "moved_from", "verdict", "merge_base"),
)
GPU_OPTIONAL = (
    *("power_w", "sm_clock_mhz", "sm_clock_min_mhz", "sm_clock_max_mhz", "memory_clock_mhz", "utilization"),
    *("temperature_begin_c", "temperature_end_c", "throttled", "co_tenants"),
)
OPTIONAL = {
    *((name,) for name in RECORD_OPTIONAL),
    *(("rule", name) for name in ("alpha", "tests", "min_effect", "metrics", "looks")),
    *(("rule", "looks", "serving", *name) for name in ((), ("changed",), ("unchanged",))),
    *(("runs", 0, name) for name in ("complete", "anchors", "sequential")),
    *(("runs", 0, "start", name) for name in START_OPTIONAL),
    *(("runs", 0, "windows", 0, name) for name in WINDOW_OPTIONAL),
    *(("runs", 0, "windows", 0, "endpoints", 0, "latency", *name) for name in ((), ("buckets",), ("counts",))),
    *(("runs", 0, "windows", 0, "findings", 0, name) for name in ("guard", "value", "reference", "names", "detail")),
    *(("runs", 0, "windows", 0, "server", name) for name in ("stages", "cache_hits", "cache_hit_ns")),
    ("runs", 0, "windows", 0, "server", "stages", "resize", "stages"),
    *(("runs", 0, "windows", 0, "energy", 0, name) for name in ("error_j", "idle_w")),
    *(("runs", 0, "windows", 0, "memory", name) for name in ("target_bytes", "device_bytes", "host_bytes")),
    *(("runs", 0, "windows", 0, "gpus", 0, name) for name in GPU_OPTIONAL),
    *((*point, name) for point in POINTS for name in ("concurrency", "batch_size", "rate", "arrivals", "cached")),
    *(("runs", 0, "windows", 0, kind, name) for kind in HISTOGRAMS for name in ("buckets", "counts")),
}
MAPPINGS = (*FREE, "errors", "stages", "kept_points")
FIELDS = [path for path in PATHS if isinstance(path[-1], str) and not set(path[:-1]) & set(MAPPINGS)]
REQUIRED = [path for path in FIELDS if path not in OPTIONAL]


def wrong_for(value: Any) -> list[Any]:
    """Values of types that don't belong where this one is."""
    if isinstance(value, dict):
        return [7, "x", []]
    if isinstance(value, list):
        return [7, "x", {}]
    if isinstance(value, str):
        return [7, True, {}]
    if isinstance(value, bool):
        return [1, "true", []]
    return ["1", True, {}] + ([1.0] if isinstance(value, int) else [])


@settings(max_examples=60, deadline=None)
@given(records())
def test_records_survive_json(before: Record) -> None:
    after = from_builtins(Record, json.loads(json.dumps(to_builtins(before), allow_nan=False)))
    assert after == before
    # 1 == 1.0 == True: only the text tells whether the types survived as well.
    assert repr(after) == repr(before)


def test_the_full_record_survives_json() -> None:
    assert from_builtins(Record, json.loads(json.dumps(FULL))) == full_record()


@pytest.mark.parametrize("path", REQUIRED, ids=written)
def test_a_missing_field_is_named(path: tuple[Step, ...]) -> None:
    with pytest.raises(Mismatch) as caught:
        from_builtins(Record, without(path))
    assert str(caught.value) == f"{written(path)} is missing"


@pytest.mark.parametrize("path", sorted(OPTIONAL, key=str), ids=written)
def test_a_field_with_a_default_may_be_absent(path: tuple[Step, ...]) -> None:
    data = without(path)
    if len(path) > 1 and path[-2] in HISTOGRAMS:  # one without the other is no histogram
        data = replaced(path[:-1], {})
    assert isinstance(from_builtins(Record, data), Record)


@pytest.mark.parametrize("path", [path for path in PATHS if path[0] not in FREE or len(path) == 1], ids=written)
def test_a_wrong_type_is_named(path: tuple[Step, ...]) -> None:
    for wrong in wrong_for(at(FULL, path)):
        with pytest.raises(Mismatch) as caught:
            from_builtins(Record, replaced(path, wrong))
        assert str(caught.value).startswith(f"{written(path)} should be "), wrong


@pytest.mark.parametrize("path", [("key", "device"), ("under_test", "serving", "digest"), ("environment", "driver")])
def test_plain_data_holds_scalars_only(path: tuple[Step, ...]) -> None:
    damage: list[Any] = [[], {}, [1]]
    for wrong in damage:
        with pytest.raises(Mismatch) as caught:
            from_builtins(Record, replaced(path, wrong))
        assert str(caught.value).startswith(written(path))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("status",), "half", "record: "),
        (("runs", 0, "windows", 0, "point", "concurrency"), 0, "record.runs[0].windows[0].point: "),
        (("runs", 0, "windows", 0, "latency", "counts", 1), 0, "record.runs[0].windows[0].latency: "),
        (("runs", 0, "windows", 0, "latency", "buckets", 1), 2, "record.runs[0].windows[0].latency: "),
    ],
)
def test_a_broken_rule_of_a_record_is_named(path: tuple[Step, ...], value: Any, named: str) -> None:
    with pytest.raises(Mismatch) as caught:
        from_builtins(Record, replaced(path, value))
    assert str(caught.value).startswith(named)


def test_a_load_point_of_both_loops_is_damage() -> None:
    with pytest.raises(Mismatch, match=r"point: a load point has a concurrency or a rate"):
        from_builtins(Record, replaced(("runs", 0, "windows", 0, "point", "rate"), 5.0))


def test_unknown_fields_are_ignored() -> None:
    data = copy.deepcopy(FULL)
    window = data["runs"][0]["windows"][0]
    for record in (data, data["runs"][0], window, window["point"], window["latency"], window["server"]):
        record["from_the_future"] = {"any": ["thing"]}
    assert from_builtins(Record, data) == full_record()


def test_a_whole_number_may_stand_for_a_float() -> None:
    read = from_builtins(Record, replaced(("runs", 0, "warmup_s"), 3))
    assert type(read.runs[0].warmup_s) is float


def test_a_whole_number_beyond_every_float_is_named() -> None:
    with pytest.raises(Mismatch, match=r"record\.runs\[0\]\.warmup_s"):
        from_builtins(Record, replaced(("runs", 0, "warmup_s"), 10**400))


@pytest.mark.parametrize("data", [None, [], "record", 1, True])
def test_data_of_another_kind_is_refused(data: Any) -> None:
    with pytest.raises(Mismatch, match="record should be dict"):
        from_builtins(Record, data)


def test_the_path_begins_where_the_reader_says() -> None:
    with pytest.raises(Mismatch, match=r"server\.requests is missing"):
        from_builtins(ServerTimes, {}, "server")


def test_a_union_of_data_classes_is_resolved_by_fields() -> None:
    for point in (LoadPoint(4, 8), NamedPoint("concurrency 4"), None):
        one = row(Verdict.IMPROVED, point=LoadPoint())
        back = from_builtins(Row, to_builtins(replace(one, point=point)), "row")
        assert back.point == point
        assert back.verdict is Verdict.IMPROVED


def test_data_that_fits_no_class_of_a_union_is_named() -> None:
    data = {**to_builtins(row()), "point": {"colour": "red"}}
    with pytest.raises(Mismatch, match=r"row.point should be LoadPoint or NamedPoint, not dict"):
        from_builtins(Row, data, "row")
