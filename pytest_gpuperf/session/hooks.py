"""pytest's hooks: when something happens. What happens then is a function of a sibling module."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import pytest

from pytest_gpuperf.errors import DeviceError, GpuperfError, StoreError
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.report.figures import plural
from pytest_gpuperf.safe_text import safe
from pytest_gpuperf.session.context import Context, read_context
from pytest_gpuperf.session.failure_reason import reason_of
from pytest_gpuperf.session.fixtures.benchmark import WatchedBenchmark, is_benchmark_fixture
from pytest_gpuperf.session.fixtures.gpuperf import Gpuperf
from pytest_gpuperf.session.gate import GateDecision, conclude, gate, summary_line
from pytest_gpuperf.session.ids.test_id import StatedNames
from pytest_gpuperf.session.marker import is_gated, is_gated_benchmark, marker_of, uses_gpuperf
from pytest_gpuperf.session.measured_test import MeasuredTest
from pytest_gpuperf.session.phase_result import PhaseResult, ResultHandover, concluded, location, shorten_error
from pytest_gpuperf.session.refinement.invocation_end import judged_again
from pytest_gpuperf.session.refinement.junit import JUnitFile
from pytest_gpuperf.session.reports import InterimReports, publish, reports_wanted
from pytest_gpuperf.session.results import Results
from pytest_gpuperf.session.unmeasured.outcome import unmeasured_result
from pytest_gpuperf.session.unmeasured.tests import PYTEST, UnmeasuredTests
from pytest_gpuperf.store.unfinished import store_unfinished

_HOOKS = pytest.StashKey["Hooks"]()
#: The measurement of a test, kept with pytest's item.
MEASURED_TEST = pytest.StashKey[MeasuredTest]()
_BENCHMARK = pytest.StashKey[WatchedBenchmark]()
_DECISION = pytest.StashKey[GateDecision]()
#: Why pytest counts a test as failed, and why its failure was expected.
_FAILURE = pytest.StashKey[str]()
_EXPECTED_FAILURE = pytest.StashKey[str]()
_GATE_FAILURE = pytest.StashKey[BaseException]()
#: What is kept with pytest's item for one try of a test.
_TRY_STATE: tuple[pytest.StashKey[Any], ...] = (
    MEASURED_TEST,
    _BENCHMARK,
    _DECISION,
    _FAILURE,
    _EXPECTED_FAILURE,
    _GATE_FAILURE,
)
#: Name under which pytest-xdist's workers send the controller what they could not clean up.
_PROBLEMS = "gpuperf_problems"
#: Exit statuses of pytest that CI takes for a success.
_GREEN = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def hooks_of(config: pytest.Config) -> Hooks:
    """Return the hooks of this pytest process, which the first call registers.

    Raises:
        pytest.UsageError: An option can't be used.
    """
    hooks = config.stash.get(_HOOKS, None)
    if hooks is None:
        hooks = config.stash[_HOOKS] = Hooks(read_context(config))
        config.pluginmanager.register(hooks, "gpuperf-hooks")
        if path := getattr(config.option, "xmlpath", None):
            config.pluginmanager.register(JUnitFile(hooks.results, path), "gpuperf-junit")
    return hooks


class Hooks:
    """The plugin's part in pytest's life cycle."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.results = Results()
        self._handover = ResultHandover(is_worker=context.is_worker)
        self._gated_tests = 1
        self.unmeasured = UnmeasuredTests(context)
        self._names = StatedNames(context.ids)
        self._store_is_writable = False
        self._interim = InterimReports(context)

    def gpuperf(self, item: pytest.Item) -> Gpuperf:
        """Return the value of the ``gpuperf`` fixture for a test.

        Raises:
            OptionError: The test's marker, or what its conftest files add to the environment, can't be used; or another
                test has the name that the marker states.
            StoreError: The device's calibration can't be read, or the store can't be written.
        """
        self._check_store()
        marker, test = marker_of(item), self._names.test_id(item)
        node_id = self.context.ids.node_id(item)
        measured_test = MeasuredTest(self.context, test, marker, self._gated_tests, node_id=node_id)
        if self.context.settings.measure:
            self._check_key(test, item)
        item.stash[MEASURED_TEST] = measured_test
        return Gpuperf(measured_test)

    @property
    def _publishes(self) -> bool:
        """Whether this process writes reports at the end."""
        return self.context.reports_here and reports_wanted(self.context.settings)

    def _unfinished(self, item: pytest.Item | None) -> TestOutcome:
        """Return what the reports show until they are written at the end."""
        if item is None:
            reason = "pytest ended before the first test, and wrote no report"
            result = unmeasured_result(self.context, PYTEST, reason)
        else:
            result = self._unmeasured_result(
                item, "pytest ended while this test or a later one ran, and wrote no report"
            )
        assert result.outcome is not None
        return result.outcome

    # Start and collection

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        if self._publishes and not session.config.getoption("collectonly"):
            problems = self._interim.write([], self._unfinished(None))
            if problems:
                raise pytest.UsageError("\n".join(problems))

    def pytest_report_header(self) -> list[str] | None:
        return list(map(safe, self.context.header_lines())) if self.context.settings.measure else None

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        self._names.add(item)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if self.context.duet_side is not None:
            self.context.duet_side.keep_common_tests(config, items, self.context.ids)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        if items:
            self.unmeasured.deselected()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.unmeasured.collection_reported(report)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        gated_tests = sum(map(is_gated, session.items))
        self._gated_tests = max(gated_tests, 1)
        if session.items:
            self.unmeasured.collected(session.items)
        if self.context.settings.measure and not self.context.is_worker:
            self._check_before_measuring(list(filter(is_gated, session.items)), session.config)

    def _check_before_measuring(self, items: Sequence[pytest.Item], config: pytest.Config) -> None:
        """Check the comparison key of each test and the store, before anything is measured.

        Raises:
            pytest.UsageError: A key can't be made, or the store can't be written.
        """
        try:
            for item in items:
                self._check_key(self.context.ids.test_id(item), item)
            if items and not config.getoption("collectonly"):
                self._check_store()
        except GpuperfError as error:
            raise pytest.UsageError(safe(str(error))) from error

    def _check_key(self, test: str, item: pytest.Item) -> None:
        """Ask for the facts about a test's environment, and check that its comparison key can be made.

        Raises:
            OptionError, DeviceError: It can't.
        """
        self.context.ask_environment(test, item)
        self.context.key(test, 1)

    def _check_store(self) -> None:
        """Check once that the store can be written: without it, the measurement would be lost.

        Raises:
            StoreError: The store can't be written.
        """
        if self.context.settings.measure and not self._store_is_writable:
            self.context.store.check_writable()
            self._store_is_writable = True

    # One test

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        if self.context.duet_side is not None:
            self.context.duet_side.wait_for_turn(item)
        self.context.devices.running = self.context.ids.test_id(item)
        if self._publishes and is_gated(item) and self._interim.is_due:
            self._interim.write(self.results.outcomes, self._unfinished(item))
        try:
            return (yield)
        except BaseException as error:  # pytest reports no phase in which it was interrupted
            if _DECISION in item.stash:
                self.results.tests["", item.nodeid] = self._concluded(item, summary_line(error))[0]
            raise

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        value = yield
        gating = self.context.settings.measure and self.context.duet_side is None
        if fixturedef.argname == "benchmark" and gating and is_benchmark_fixture(value):
            self._watch_benchmark(request, value)
        return value

    def _watch_benchmark(self, request: pytest.FixtureRequest, fixture: object) -> None:
        """Record a test that uses pytest-benchmark's fixture, as if it used ``gpuperf`` as well."""
        item = request.node
        if not is_gated_benchmark(item) or (_BENCHMARK in item.stash and item.stash[_BENCHMARK].fixture is fixture):
            return
        request.getfixturevalue("gpuperf")
        measured_test = item.stash[MEASURED_TEST]
        if not uses_gpuperf(item):
            measured_test.expect_window()
        benchmark = item.stash[_BENCHMARK] = WatchedBenchmark(measured_test, fixture)
        request.addfinalizer(benchmark.close)
        benchmark.begin()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        try:
            yield
            self._end_benchmark(item, None)
        except BaseException as error:
            self._end_benchmark(item, error)
            self._gate(item, error)
            raise
        decision = self._gate(item, None)
        if decision is not None and decision.failure:
            try:
                pytest.fail(safe(decision.failure), pytrace=False)
            except pytest.fail.Exception as failure:
                item.stash[_GATE_FAILURE] = failure
                raise

    @staticmethod
    def _end_benchmark(item: pytest.Item, error: BaseException | None) -> None:
        if _BENCHMARK in item.stash:
            item.stash[_BENCHMARK].end(error)

    def _gate(self, item: pytest.Item, error: BaseException | None) -> GateDecision | None:
        measured_test = item.stash.get(MEASURED_TEST, None)
        decision = gate(self.context, measured_test, error) if measured_test is not None else None
        if decision is not None:
            item.stash[_DECISION] = decision
            item.user_properties.extend(decision.properties)
        return decision

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.excinfo is not None:
            shorten_error(report, item, call.excinfo)
        self.unmeasured.announce(report)
        self._note_failure(item, call, report)
        if call.when == "teardown":
            result, problem = self._concluded(item, item.stash.get(_FAILURE, ""))
            if problem and not report.failed:
                report.outcome, report.longrepr = "failed", safe(problem)
            self._handover.give(report, result)
        return report

    def _note_failure(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        """Keep the first reason why pytest counts a test as failed: each phase and subtest has its own report."""
        if report.skipped and hasattr(report, "wasxfail"):
            item.stash[_EXPECTED_FAILURE] = report.wasxfail or "xfail"
        if not report.failed or _FAILURE in item.stash:
            return
        error = call.excinfo.value if call.excinfo is not None else None
        if error is None or error is not item.stash.get(_GATE_FAILURE, None):
            item.stash[_FAILURE] = summary_line(error) or reason_of(report) or "failed"

    def _concluded(self, item: pytest.Item, failure: str) -> tuple[PhaseResult, str]:
        """Return the result of a test, and why its record could not be stored. Clear its state for a rerun."""
        expected, decision = item.stash.get(_EXPECTED_FAILURE, ""), item.stash.get(_DECISION, None)
        measured_test = item.stash.get(MEASURED_TEST, None)
        for key in _TRY_STATE:
            if key in item.stash:
                del item.stash[key]
        if decision is not None and decision.record is None and decision.entry is None:
            return self._unmeasured_result(item, decision.reason, failed=bool(decision.failure)), ""
        if decision is not None:
            item.user_properties[:] = [pair for pair in item.user_properties if pair not in decision.properties]
            conclusion = conclude(self.context, decision, failure, expected)
            return concluded(self.context, item, conclusion), conclusion.problem
        if failure and self.context.settings.measure and (measured_test is not None or is_gated(item)):
            return self._unmeasured_result(item, failure), ""
        return PhaseResult(smoked_points=measured_test.smoked_points if measured_test is not None else 0), ""

    def _unmeasured_result(self, item: pytest.Item, reason: str, *, failed: bool = True) -> PhaseResult:
        file, line = location(item)
        test = self.context.ids.test_id(item)
        return unmeasured_result(self.context, test, reason, file=file, line=line, failed=failed)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.context.duet_side is not None:
            self.context.duet_side.send_result(report)
        self.unmeasured.reported(report)
        self.results.add(report, self._handover.take(report))

    # End

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        with judged_again(self.context, self.results, session.config.hook):
            return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.results.problems += getattr(node, "workeroutput", {}).get(_PROBLEMS, [])

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.unmeasured.interrupted(excinfo.value)

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.unmeasured.interrupted(excinfo.value, internal=True)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        context, results = self.context, self.results
        if context.duet_side is not None:
            context.duet_side.leave()
        if context.settings.measure and context.reports_here and not session.config.getoption("collectonly"):
            self._complete(session)
        try:
            context.devices.close()
        except DeviceError as error:
            results.problems.append(str(error))
        if results.has_problems and session.exitstatus in _GREEN:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if context.is_worker:
            session.config.workeroutput[_PROBLEMS] = results.problems  # type: ignore[attr-defined]

    def _complete(self, session: pytest.Session) -> None:
        """Add the tests that have no figures, and write the reports."""
        results = self.results
        self._store_unfinished()
        any_failed = any(outcome.error for outcome in results.outcomes)
        unmeasured = self.unmeasured.results(session, any_failed=any_failed)
        strict = self.context.settings.require_baseline and session.exitstatus in _GREEN
        skipped = self.unmeasured.skipped() if strict and not results.any_measured else []
        if skipped:
            results.problems.append("nothing was measured, which fails pytest because of --gpuperf-require-baseline")
        try:
            dropped = self.unmeasured.dropped(session)
        except GpuperfError as error:
            dropped = []
            results.problems.append(str(error))
        if dropped and strict:
            count = plural(len(dropped), "test")
            results.problems.append(
                f"{count} of the newest baseline not collected, which fails pytest because of "
                "--gpuperf-require-baseline"
            )
        for result in (*unmeasured, *skipped, *dropped):
            assert result.entry is not None
            results.tests["", result.entry.test] = result
        if reports_wanted(self.context.settings):
            results.published = publish(self.context, results.outcomes)

    def _store_unfinished(self) -> None:
        """Store what processes measured that ended in the teardown of a test."""
        store, results = self.context.store, self.results
        try:
            records, problems = store_unfinished(store)
        except StoreError as error:
            results.problems.append(str(error))
            return
        results.problems += problems
        results.notes += [
            f"pytest was killed while {record.test} was torn down. Its record is stored, and no baseline unless you "
            f"accept it: {store.describe(store.path(record))}"
            for record in records
        ]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        self.results.write(terminalreporter, config.getoption("verbose"))

    def pytest_unconfigure(self) -> None:
        self.context.devices.close()

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        if self.context.settings.measure:
            device = self.context.devices.first
            machine_info["gpuperf"] = {**device.key, **device.environment}
