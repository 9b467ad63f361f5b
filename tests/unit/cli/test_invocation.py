"""Commands judge a stored invocation as its gate did: all tests together."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.cli.judging import judge, rule_for
from pytest_gpuperf.model import Comparison, Record, RuleSettings, Verdict
from pytest_gpuperf.publish.comparison import RecordToJudge, compare_invocation, to_judge, with_verdict
from pytest_gpuperf.store import Baseline, Store, select_baseline
from tests.unit.cli.stores import DAY, gpuperf
from tests.unit.factories import KEY, record

TESTS = 8
SLOWER = 1.3


def measured(day: int, number: int, factor: float = 1.0, device: str = "NVIDIA L4") -> Record:
    chance = random.Random(f"{day} {number}")
    level = (1 + number) * factor * math.exp(chance.gauss(0, 0.004))
    runs = [[level * point * math.exp(chance.gauss(0, 0.003)) for point in (1.0, 1.8)] for _ in range(3)]
    name = f"tests/test_serving.py::test_{number}"
    new = record(runs, name=f"{day:02x}{number:02x}aa", minute=DAY * day, key={**KEY, "test": name, "device": device})
    return replace(new, invocation=f"{day:032x}", rule=RuleSettings(tests=TESTS), environment={"gpu_uuid": "GPU-1"})


def judged_by_gate(store: Store, new: list[Record]) -> tuple[Comparison, ...]:
    """Judge records as the gate does at the end of the invocation, and store them."""
    each = [to_judge(one, select_baseline(store, one.key), rule_for(one)) for one in new]
    comparisons = compare_invocation(each, {}).comparisons
    for one, comparison in zip(new, comparisons, strict=True):
        store.write(with_verdict(one, comparison))
    return comparisons


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Eight days of eight tests, the last of which is slower in all tests, as after a change of the machine."""
    store = Store(str(tmp_path / "store"))
    for day in range(8):
        for number in range(TESTS):
            store.write(measured(day, number))
    return store


def output(store: Store, capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> tuple[Any, str]:
    assert gpuperf(store, *arguments, "--format", "json") == status
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def test_reports_show_the_verdicts_of_the_gate(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    new = [measured(8, number, SLOWER) for number in range(TESTS)]
    gate = [str(comparison.verdict) for comparison in judged_by_gate(store, new)]
    alone = [judge(store, one, rule_for(one)).comparison.verdict for one in new]
    assert set(alone) == {Verdict.REGRESSED}
    assert "regressed" not in gate

    document, errors = output(store, capsys, 0, "report")
    assert [test["verdict"] for test in document["tests"]] == gate
    assert [mode["verdict"] for mode in document["common"]] == ["regressed"] * len(document["common"]) != []
    assert errors == ""
    document, errors = output(store, capsys, 1, "compare")  # as the gate, which fails for all tests together
    assert [test["verdict"] for test in document["comparisons"]] == gate
    assert errors == ""
    # Some of the tests: the others are read for what they show.
    for status, arguments in (
        (0, ("report", new[3].id)),
        (0, ("report", "--test", "test_3")),
        (1, ("compare", new[3].id)),
    ):
        document, errors = output(store, capsys, status, *arguments)
        (test,) = document.get("tests") or document["comparisons"]
        assert (test["verdict"], errors) == (gate[3], "")


def test_other_verdicts_than_those_of_the_gate_are_named_once(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(TESTS):
        store.write(replace(measured(8, number), gate="passed", verdict="inconclusive"))
    _, errors = output(store, capsys, 0, "report")
    assert errors.count("\n") == 1
    assert "test_0 was inconclusive, now unchanged; " in errors
    assert errors.endswith("; and 5 more\n")
    assert gpuperf(store, "compare") == 0
    assert capsys.readouterr().err == errors


def test_tests_of_different_hardware_are_judged_apart() -> None:
    """A machine that is slower does not explain why another one is."""

    def suite(device: str, factor: float) -> list[RecordToJudge]:
        return [
            to_judge(
                measured(9, number, factor, device),
                Baseline(tuple(measured(day, number, 1.0, device) for day in range(8, 0, -1))),
                rule_for(measured(9, number, 1.0, device)),
            )
            for number in range(TESTS)
        ]

    slower, steady = suite("NVIDIA L4", SLOWER), suite("NVIDIA T4", 1.0)
    mixed = [each for pair in zip(slower, steady, strict=True) for each in pair]
    judged = compare_invocation(mixed, {})
    assert judged.comparisons[::2] == compare_invocation(slower, {}).comparisons
    assert judged.comparisons[1::2] == compare_invocation(steady, {}).comparisons
    verdicts = [{mode.verdict for mode in comparison.common} for comparison in judged.comparisons]
    assert verdicts == [{Verdict.REGRESSED}, {Verdict.UNCHANGED}] * TESTS
