from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_gpuperf.session.context import Context
from pytest_gpuperf.session.unmeasured.dropped import collects_everything, dropped_tests
from tests.unit.factories import record
from tests.unit.session.contexts import context_of

A, B, ELSEWHERE = "perf/test_a.py::test_a", "perf/test_a.py::test_b", "other/test_c.py::test_c"


@pytest.fixture
def context(pytester: pytest.Pytester) -> Context:
    return context_of(pytester)


def store(context: Context, invocation: str, *tests: str, gate: str = "passed") -> None:
    for number, test in enumerate(tests):
        stored = record(name=f"{invocation}{number}", minute=ord(invocation), key=context.key(test, 1), gate=gate)
        context.store.write(replace(stored, invocation=invocation, test=test))


def same(tests: list[str]) -> dict[str, str]:
    """Return tests whose ids in records are those of pytest."""
    return {test: test for test in tests}


def test_a_test_that_was_measured_with_the_newest_baseline_is_missed(context: Context) -> None:
    store(context, "a", A, B, ELSEWHERE)
    assert dropped_tests(context, same([A]), ["perf"]) == [B]
    assert dropped_tests(context, same([A]), ["perf/test_a.py"]) == [B]
    assert dropped_tests(context, same([A, B]), ["perf"]) == []


def test_what_the_newest_baseline_does_not_have_is_missed_no_longer(context: Context) -> None:
    store(context, "a", A, B)
    store(context, "b", A)
    assert dropped_tests(context, same([A]), ["perf"]) == []


def test_neither_rejected_records_nor_those_of_this_invocation_are_a_baseline(context: Context) -> None:
    store(context, "a", A)
    store(context, "b", A, B, gate="failed")
    store(context, context.invocation[0], A)
    assert dropped_tests(context, same([A]), ["perf"]) == []


def test_the_tests_of_a_renamed_file_are_missed(context: Context) -> None:
    store(context, "a", A, B, ELSEWHERE)
    renamed = "perf/test_z.py::test_a"
    assert dropped_tests(context, same([renamed]), ["perf"]) == [A, B]
    assert dropped_tests(context, same([renamed]), ["perf/test_z.py"]) == []


@pytest.mark.parametrize(
    ("arguments", "everything"),
    [
        ([], True),
        (["perf"], True),
        (["perf/test_a.py::test_a"], False),
        (["-k", "a"], False),
        (["-m", "slow"], False),
        (["--lf"], False),
        (["--ignore=perf"], False),
    ],
)
def test_a_part_of_the_tests_misses_none(pytester: pytest.Pytester, arguments: list[str], everything: bool) -> None:
    pytester.mkdir("perf").joinpath("test_a.py").write_text("")
    assert collects_everything(pytester.parseconfig(*arguments)) is everything
