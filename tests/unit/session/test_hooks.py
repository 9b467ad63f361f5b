from __future__ import annotations

import shutil

import pytest

from pytest_gpuperf.session.hooks import MEASURED_TEST, Hooks, hooks_of
from pytest_gpuperf.session.results import Results
from tests.unit.session.contexts import TEST, context_of, measured

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


def test_the_conftest_file_beside_a_test_adds_to_its_environment(pytester: pytest.Pytester) -> None:
    hook = "def pytest_gpuperf_environment(config):\n    return {}\n"
    pytester.makeconftest(hook.format("{'node': 'rack-7', 'image': 'base'}"))
    for folder in ("a", "b"):
        (pytester.path / folder).mkdir()
        (pytester.path / folder / f"test_{folder}.py").write_text(SUITE)
    (pytester.path / "b" / "conftest.py").write_text(hook.format("{'image': 'app:42'}"))
    items, _ = pytester.inline_genitems()
    in_a, in_b = items[0], items[-1]
    hooks = Hooks(context_of(pytester, "--gpuperf-key=+image", "--gpuperf-key=+node"))
    for item, image in ((in_a, "base"), (in_b, "app:42")):
        hooks.gpuperf(item)
        test = item.stash[MEASURED_TEST].test
        assert hooks.context.environment(test)["image"] == image
        assert hooks.context.key(test, 1)["node"] == "rack-7"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("{'path': Ellipsis}", r"returned 'path': Ellipsis: return a text or a number, such as str\(ellipsis"),
        ("['node']", r"returned \['node'\]: return a dict of facts, or None"),
    ],
)
def test_facts_that_can_t_be_recorded_end_pytest_before_anything_is_measured(
    pytester: pytest.Pytester, answer: str, message: str
) -> None:
    context, item = context_of(pytester), pytester.getitems(SUITE)[0]
    pytester.makeconftest(f"def pytest_gpuperf_environment(config):\n    return {answer}")
    item.session.items = pytester.inline_genitems()[0]
    with pytest.raises(pytest.UsageError, match=message):
        Hooks(context).pytest_collection_finish(item.session)


def test_a_field_of_the_key_that_no_conftest_file_adds_ends_pytest(pytester: pytest.Pytester) -> None:
    item = pytester.getitems(SUITE)[0]
    item.session.items = [item]
    with pytest.raises(pytest.UsageError, match="there is no field nothing"):
        Hooks(context_of(pytester, "--gpuperf-key=+nothing")).pytest_collection_finish(item.session)


def reports_of(hooks: Hooks, item: pytest.Item, **errors: Exception) -> list[pytest.TestReport]:
    """Return pytest's reports of a test as the hooks complete them, with the errors of phases."""
    return [report_of(hooks, item, phase, errors.get(phase)) for phase in ("setup", "call", "teardown")]


def report_of(hooks: Hooks, item: pytest.Item, phase: str, error: BaseException | None = None) -> pytest.TestReport:
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


def results_of(hooks: Hooks, item: pytest.Item, **errors: Exception) -> Results:
    """Return what a test adds to the results."""
    hooks.results = Results()
    for report in reports_of(hooks, item, **errors):
        hooks.pytest_runtest_logreport(report)
    return hooks.results


def measure(hooks: Hooks, item: pytest.Item, p50_ms: float = 4.0, error: BaseException | None = None) -> None:
    """Call a test that measures, and ends with an error."""
    hooks.gpuperf(item)
    item.stash[MEASURED_TEST] = measured(hooks.context, ((p50_ms,),) * 3)
    wrapper = hooks.pytest_runtest_call(item)
    next(wrapper)
    if error is not None:
        wrapper.throw(error)
    else:
        with pytest.raises(StopIteration):
            wrapper.send(None)


def gates(hooks: Hooks) -> list[str]:
    """Return what the records say of their gates, the newest first."""
    store = hooks.context.store
    return [store.read(file).gate for file in store.newest(store.folder(hooks.context.key(TEST, 1)))]


@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
def test_a_gated_test_that_fails_without_figures_is_in_the_reports(
    hooks: Hooks, pytester: pytest.Pytester, phase: str
) -> None:
    gated, _, other = pytester.getitems(SUITE)
    results = results_of(hooks, gated, **{phase: RuntimeError("no such bucket")})
    (outcome,), (entry,) = results.outcomes, results.entries
    assert (outcome.error, outcome.line) == ("RuntimeError: no such bucket", 1)
    assert outcome.record.runs == ()
    assert entry.headline == "NOT MEASURED: RuntimeError: no such bucket"
    assert results_of(hooks, other, **{phase: ValueError("wrong")}) == Results()
    assert results_of(hooks, gated) == Results()


@pytest.mark.parametrize(
    ("errors", "gate"),
    [
        ({}, "open"),
        ({"call": AssertionError("slow")}, "failed"),  # of a unittest.TestCase, whose call raises nothing
        ({"teardown": OSError("does not stop")}, "failed"),
    ],
)
def test_a_record_is_rejected_if_pytest_counts_its_test_as_failed(
    hooks: Hooks, pytester: pytest.Pytester, errors: dict[str, Exception], gate: str
) -> None:
    item = pytester.getitems(SUITE)[0]
    measure(hooks, item)
    (outcome,) = results_of(hooks, item, **errors).outcomes
    assert outcome.error == "".join(f"{type(error).__name__}: {error}" for error in errors.values())
    assert gates(hooks) == [gate]


def test_a_failed_subtest_rejects_the_record(hooks: Hooks, pytester: pytest.Pytester) -> None:
    """A subtest has a report of its own, of the same phase; the test itself may pass."""
    item = pytester.getitems(SUITE)[0]
    measure(hooks, item)
    report_of(hooks, item, "call", AssertionError("in a subtest"))
    (outcome,) = results_of(hooks, item).outcomes
    assert outcome.error == "AssertionError: in a subtest"
    assert gates(hooks) == ["failed"]


def test_a_further_try_of_a_test_has_one_result_and_one_set_of_properties(
    hooks: Hooks, pytester: pytest.Pytester
) -> None:
    item = pytester.getitems(SUITE)[0]
    measure(hooks, item)
    assert len(results_of(hooks, item, call=AssertionError()).entries) == 1
    measure(hooks, item)
    (report, *_) = reports = reports_of(hooks, item)
    for report in reports:
        hooks.pytest_runtest_logreport(report)
    assert [outcome.error for outcome in hooks.results.outcomes] == [""]
    assert [name for name, _ in report.user_properties].count("gpuperf_record") == 1
    assert item.user_properties == []
    assert gates(hooks) == ["open", "failed"]


def test_a_record_that_can_t_be_stored_fails_the_test(hooks: Hooks, pytester: pytest.Pytester) -> None:
    item = pytester.getitems(SUITE)[0]
    measure(hooks, item)
    shutil.rmtree(pytester.path / ".gpuperf")
    (pytester.path / ".gpuperf").touch()
    *_, teardown = reports_of(hooks, item)
    assert teardown.failed
    assert ".gpuperf" in str(teardown.longrepr)


def test_a_regression_fails_the_test_and_an_interrupt_keeps_the_record(hooks: Hooks, pytester: pytest.Pytester) -> None:
    item = pytester.getitems(SUITE)[0]
    measure(hooks, item)
    results_of(hooks, item)
    for error, expected in ((None, pytest.fail.Exception), (KeyboardInterrupt(), KeyboardInterrupt)):
        hooks.results = Results()
        protocol = hooks.pytest_runtest_protocol(item)
        next(protocol)
        with pytest.raises(expected) as failure:
            measure(hooks, item, 8.0, error)
        assert ("gpuperf_verdict", "regressed") in item.user_properties
        if error is None:
            hooks.pytest_runtest_logreport(report_of(hooks, item, "call", failure.value))
            hooks.pytest_runtest_logreport(report_of(hooks, item, "teardown"))
            with pytest.raises(StopIteration):
                protocol.send(None)
        else:
            with pytest.raises(KeyboardInterrupt):
                protocol.throw(failure.value)
        assert [entry.verdict for entry in hooks.results.entries] == ["regressed"]
    assert gates(hooks) == ["failed", "failed", "open"]
