from __future__ import annotations

import pytest

from pytest_gpuperf.session.gate import gate
from pytest_gpuperf.session.hooks import MEASURED_TEST, Hooks, hooks_of
from pytest_gpuperf.session.results import Results
from tests.unit.session.contexts import context_of, measured

SUITE = "def test_a(gpuperf): pass\ndef test_b(gpuperf): pass\ndef test_c(): pass"


@pytest.fixture
def hooks(pytester: pytest.Pytester) -> Hooks:
    return Hooks(context_of(pytester, "--gpuperf-report=r.md"))


def test_a_process_has_hooks_once(pytester: pytest.Pytester) -> None:
    config = pytester.parseconfig()
    hooks = hooks_of(config)
    assert hooks_of(config) is hooks
    assert config.pluginmanager.get_plugin("gpuperf-hooks") is hooks


def test_only_a_measurement_has_a_header(hooks: Hooks, pytester: pytest.Pytester) -> None:
    assert len(hooks.pytest_report_header() or ()) == 2
    assert hooks_of(pytester.parseconfig()).pytest_report_header() is None


def test_alpha_is_shared_by_the_tests_that_use_the_fixture(hooks: Hooks, pytester: pytest.Pytester) -> None:
    items = pytester.getitems(SUITE)
    items[0].session.items = items
    hooks.pytest_collection_finish(items[0].session)
    hooks.gpuperf(items[0])
    test = measured(hooks.context)
    assert test.rule(test.record()).tests == 1
    gated = items[0].stash[MEASURED_TEST]
    assert gated.rule(gated.record()).tests == 2


def report_of(hooks: Hooks, item: pytest.Item, phase: str, error: Exception | None = None) -> pytest.TestReport:
    """Return pytest's report of a phase, as the hooks complete it."""

    def run() -> None:
        if error is not None:
            raise error

    call = pytest.CallInfo.from_call(run, phase)  # type: ignore[arg-type]
    wrapper = hooks.pytest_runtest_makereport(item, call)
    next(wrapper)
    try:
        wrapper.send(pytest.TestReport.from_item_and_call(item, call))
    except StopIteration as end:
        report: pytest.TestReport = end.value
        return report
    raise AssertionError("the hook yields twice")


def results_of(hooks: Hooks, item: pytest.Item, error: Exception | None = None) -> Results:
    """Return what the call of a test adds to the results."""
    hooks.results = Results()
    hooks.pytest_runtest_logreport(report_of(hooks, item, "call", error))
    return hooks.results


def test_a_gated_test_that_fails_early_is_in_the_reports(hooks: Hooks, pytester: pytest.Pytester) -> None:
    gated, _, other = pytester.getitems(SUITE)
    report = report_of(hooks, gated, "setup", RuntimeError("no such bucket"))
    hooks.pytest_runtest_logreport(report)
    (outcome,) = hooks.results.outcomes.values()
    assert (outcome.error, outcome.line) == ("RuntimeError: no such bucket", 1)
    assert outcome.record.runs == ()
    assert results_of(hooks, other, ValueError("wrong")) == Results()
    assert results_of(hooks, gated) == Results()


def test_a_further_try_of_a_test_forgets_what_the_gate_decided(hooks: Hooks, pytester: pytest.Pytester) -> None:
    item = pytester.getitems(SUITE)[0]
    hooks.gpuperf(item)
    item.stash[MEASURED_TEST] = measured(hooks.context)
    wrapper = hooks.pytest_runtest_call(item)
    next(wrapper)
    with pytest.raises(StopIteration):
        wrapper.send(None)
    assert results_of(hooks, item).entries
    hooks.gpuperf(item)
    assert results_of(hooks, item) == Results()


def test_a_regression_fails_the_test_and_an_interrupt_keeps_the_record(hooks: Hooks, pytester: pytest.Pytester) -> None:
    item = pytester.getitems(SUITE)[0]
    gate(hooks.context, measured(hooks.context), None)
    for error, expected in ((None, pytest.fail.Exception), (KeyboardInterrupt(), KeyboardInterrupt)):
        hooks.gpuperf(item)
        item.stash[MEASURED_TEST] = measured(hooks.context, ((8.0,),) * 3)
        wrapper = hooks.pytest_runtest_call(item)
        next(wrapper)
        with pytest.raises(expected):
            wrapper.send(None) if error is None else wrapper.throw(error)
    assert [entry.verdict for entry in hooks.results.entries] == ["regressed"]
    assert ("gpuperf_verdict", "regressed") in item.user_properties
