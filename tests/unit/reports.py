"""Tests of a report, made from plain numbers and compared like the gate does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_gpuperf.analysis.priors import Prior
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.model import (
    Comparison,
    Finding,
    GpuReadings,
    PlainMapping,
    Record,
    ReportedTest,
    RuleSettings,
    Verdict,
    curves_of,
)
from tests.unit.comparing import compare
from tests.unit.factories import KEY, equal_runs, record

TEST = "tests/test_serving.py::test_resnet50[fp16]"
#: Names that change a report where they are not escaped.
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "](javascript:1)",
    "[click](javascript:alert(1))",
    "a|b|c",
    "a\\|b`c``d",
    "``` \n# heading\n```",
    "--> <b>out</b> <!--",
    "@octocat #123 GH-12 octo/cat#1",
    "https://evil.example/x www.evil.example me@evil.example",
    "**bold** _it_ ~~gone~~ :100: $x$",
    "</code></summary></details><h1>out</h1>",
    "\x1b[31mred\u202etxt.exe",
)


def reported(
    now_ms: float = 4.0,
    *,
    before_ms: float | None = 4.0,
    test: str = TEST,
    device: str = "NVIDIA L4",
    runs: int = 3,
    load_points: int = 2,
    baseline: int = 3,
    name: str = "0a1b2c3d4e5f",
    environment: PlainMapping | None = None,
    under_test: Mapping[str, PlainMapping] | None = None,
    findings: tuple[Finding, ...] = (),
    gpus: tuple[GpuReadings, ...] = (),
    status: str = "complete",
    store_option: str = "",
    error: str = "",
    spread: Sequence[float] = (0.99, 1.0, 1.01),
) -> ReportedTest:
    """Return a test whose median is ``now_ms``.

    Args:
        before_ms: Median of the baseline; None for a test without a baseline.
        spread: Factors of the medians of the runs.
    """
    key = {**KEY, "test": test, "device": device}

    def measured(p50_ms: float, name: str, minute: int, commit: str, facts: PlainMapping) -> Record:
        levels = [
            tuple(level * spread[run % len(spread)] for level in equal_runs(p50_ms, load_points=load_points)[0])
            for run in range(runs)
        ]
        return record(levels, name=name, minute=minute, key=key, commit=commit, environment=facts)

    facts = {"driver": "570.86", "host": "runner-1", **(environment or {})}
    head = measured(now_ms, name, 3 * 1440, "1234567890abcdef", facts)
    head = replace(
        head,
        status=status,
        under_test=under_test or {},
        settings={"runs": runs},
        rule=RuleSettings(alpha=0.05, min_effect=0.01),
        runs=tuple(
            replace(run, windows=tuple(replace(window, findings=findings, gpus=gpus) for window in run.windows))
            for run in head.runs
        ),
    )
    there = {"driver": "550.54", "host": "runner-1"}
    earlier: tuple[Record, ...] = ()
    if before_ms is not None:
        earlier = tuple(
            measured(before_ms, f"ba5e{index:08x}", 1440 - index, "feedfacecafe", there) for index in range(baseline)
        )
    comparison = (
        compare(head, earlier, Rule(prior=Prior(0.02, 8))) if status == "complete" else Comparison(Verdict.NO_BASELINE)
    )
    return ReportedTest(
        record=head,
        curves=curves_of(head.runs),
        comparison=comparison,
        base_curves=curves_of(earlier[0].runs) if earlier else (),
        baseline=earlier[:1],
        path=f".gpuperf/nvidia-l4/test/{name}.json",
        store_option=store_option,
        error=error,
        file="tests/test_serving.py",
        line=12,
    )
