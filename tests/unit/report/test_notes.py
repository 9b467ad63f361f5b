"""What stands beside the tables is the same in the terminal, in Markdown and on the page."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pytest_gpuperf.model import Comparison, CurvePoint, EndpointFigures, ReportedTest, ServerTimes, Verdict
from pytest_gpuperf.model.comparison.verdict import AnchoredMetric, CommonMode, DeviceSpread
from pytest_gpuperf.report.exchange.report_json import json_text
from pytest_gpuperf.report.markdown.comment import comment
from pytest_gpuperf.report.notes import comparison_notes
from pytest_gpuperf.report.page import page
from pytest_gpuperf.report.terminal.section import full_lines
from tests.unit.factories import record, server_times
from tests.unit.report.markdown.github_page import rendered
from tests.unit.reports import reported


def everything() -> ReportedTest:
    """A test of which there is much to say."""
    test = reported(6.0)
    half = ServerTimes(60, 60, 3_000_000, 1_500_000, 18_000_000, 600_000)
    endpoints = (EndpointFigures("10.0.0.1:8000", 90, 0, 166.7),)

    def rich(point: CurvePoint) -> CurvePoint:
        return replace(
            point,
            guards=("throttled",) if point.concurrency == 2 else (),
            supported=frozenset({"p50", "p90", "p95"}),
            server=replace(server_times(), stages={"decode": half, "classify": half}),
            endpoints=endpoints,
            gpu_energy_j=0.25,
            energy_method="counter",
            device_memory_bytes=3 << 30,
        )

    curves = tuple(replace(curve, points=tuple(map(rich, curve))) for curve in test.curves)
    comparison = replace(
        test.comparison,
        anchored=(AnchoredMetric("serving", "p90", 0.05, 0.012),),
        left_out=("serving: concurrency 1, p99",),
        new_points=("serving: concurrency 8",),
        missing_points=("serving: concurrency 64",),
        devices=DeviceSpread(0, 4, 0.029, measured=True),
        common=tuple(
            CommonMode(
                metric, ratio, 0.97, 1.03, 0.2, Verdict.INCONCLUSIVE, tests=50, invocations=12, min_detectable=0.04
            )
            for metric, ratio in (("p50", 1.012), ("throughput", 0.98))
        ),
    )
    return replace(test, curves=curves, comparison=comparison)


ONE = everything()
TEXTS = {
    "terminal": "\n".join(full_lines([ONE])),
    "markdown": rendered(comment([ONE])).text,
    "page": page([ONE], generated_utc="2026-01-05T12:00:00"),
}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize(
    "told",
    [
        "concurrency 2 is less reliable: at least one run was disturbed throughout (throttled)",
        "first record on this GPU; other GPUs of this model differ by 2.9% (estimated from 4 GPUs)",
        "baseline figures include what all 50 tests changed by together: p50 +1.2%, throughput -2.0%",
        "compared relative to the anchor, which varies less between records: p90 (spread 1.2% instead of 5%)",
        "not compared (too few requests in a run, or no value): serving: concurrency 1, p99",
        "measured now but not in the baseline: serving: concurrency 8",
        "in the baseline but not measured now: serving: concurrency 64",
        "10.0.0.1:8000",
        "too few requests for this percentile",
    ],
)
def test_every_surface_has_every_note(kind: str, told: str) -> None:
    assert told in TEXTS[kind]


@pytest.mark.parametrize("kind", ["terminal", "markdown"])
def test_figures_without_a_column(kind: str) -> None:
    text = TEXTS[kind]
    assert "server time at 2: queue 100.0 us" in text
    assert "decode 50%: queue 50.00 us" in text
    assert "energy per inference: GPU 250.0 mJ at concurrency 1 (counter)" in text
    assert "peak memory: whole device 3.00 GiB" in text


def test_steps_stand_below_their_server_in_markdown() -> None:
    assert "\n- server time at 2: " in comment([ONE])
    assert "\n  - decode 50%: " in comment([ONE])


@pytest.mark.parametrize("kind", TEXTS)
def test_unknown_figures_behind_a_balancer_are_not_zero(kind: str) -> None:
    text = comment([ONE]) if kind == "markdown" else TEXTS[kind]
    (line,) = (line for line in text.replace("<tr>", "\n").splitlines() if "10.0.0.1:8000" in line)
    for mark in ("<td>", "|", "`"):
        line = line.replace(mark, " ")
    assert line.split()[:5] == ["10.0.0.1:8000", "90", "-", "-", "-"]


def test_the_document_has_what_was_anchored() -> None:
    (test,) = json.loads(json_text([ONE]))["tests"]
    assert test["anchored"] == [{"sweep": "serving", "metric": "p90", "plain_sd": 0.05, "anchored_sd": 0.012}]


def test_the_document_has_devices_and_the_common_change() -> None:
    (test,) = json.loads(json_text([ONE]))["tests"]
    assert test["devices"] == {"known": 0, "others": 4, "sd": 0.029, "measured": True}
    assert [common["metric"] for common in test["common"]] == ["p50", "throughput"]
    assert {row["confidence"] for row in test["rows"]} == {0.95}


@pytest.mark.parametrize(
    ("devices", "note"),
    [
        (
            DeviceSpread(0, 0, 0.02, measured=False),
            "first record on this GPU; other GPUs of this model differ by 2% (assumed)",
        ),
        (
            DeviceSpread(3, 2, 0.03, measured=True),
            "3 records of the baseline are of this GPU; other GPUs of this model differ by 3% (estimated from 3 GPUs)",
        ),
    ],
)
def test_the_device_is_placed_among_those_of_its_model(devices: DeviceSpread, note: str) -> None:
    assert comparison_notes(Comparison(Verdict.UNCHANGED, devices=devices), record()) == [note]


def test_a_duet_with_different_keys_names_the_fields() -> None:
    duet = Comparison(Verdict.NOT_COMPARABLE, mode="duet", differing={"power_limit_w": (60, 72)})
    assert comparison_notes(duet, record()) == ["the reference has a different key: power_limit_w is 60, not 72"]
