"""pytest's hooks: when something happens. What happens then is a function of a sibling module."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_gpuperf.errors import DeviceError
from pytest_gpuperf.safe_text import safe
from pytest_gpuperf.session.benchmark.fixture import WatchedBenchmark, is_benchmark_fixture
from pytest_gpuperf.session.context import Context, read_context
from pytest_gpuperf.session.gate import GateDecision, gate
from pytest_gpuperf.session.gpuperf import Gpuperf
from pytest_gpuperf.session.marker import is_gated, is_gated_benchmark, marker_of, uses_gpuperf
from pytest_gpuperf.session.measured_test import MeasuredTest
from pytest_gpuperf.session.phase_result import (
    PhaseResult,
    ResultHandover,
    decided,
    failed_early,
    shorten_error,
)
from pytest_gpuperf.session.reports import publish, reports_wanted
from pytest_gpuperf.session.results import Results

_HOOKS = pytest.StashKey["Hooks"]()
#: The measurement of a test, kept with pytest's item.
MEASURED_TEST = pytest.StashKey[MeasuredTest]()
_BENCHMARK = pytest.StashKey[WatchedBenchmark]()
_DECISION = pytest.StashKey[GateDecision]()
#: Name under which pytest-xdist's workers send the controller what they could not clean up.
_PROBLEMS = "gpuperf_problems"


def hooks_of(config: pytest.Config) -> Hooks:
    """Return the hooks of this pytest process, which the first call registers.

    Raises:
        pytest.UsageError: An option can't be used.
    """
    hooks = config.stash.get(_HOOKS, None)
    if hooks is None:
        hooks = config.stash[_HOOKS] = Hooks(read_context(config))
        config.pluginmanager.register(hooks, "gpuperf-hooks")
    return hooks


class Hooks:
    """The plugin's part in pytest's life cycle."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.results = Results()
        self._handover = ResultHandover(is_worker=context.is_worker)
        self._gated_tests = 1

    def gpuperf(self, item: pytest.Item) -> Gpuperf:
        """Return the value of the ``gpuperf`` fixture for a test.

        Raises:
            OptionError: The test's marker can't be used.
            StoreError: The device's calibration can't be read.
        """
        item.stash[MEASURED_TEST] = MeasuredTest(self.context, item.nodeid, marker_of(item), self._gated_tests)
        if _DECISION in item.stash:
            del item.stash[_DECISION]  # of an earlier try
        return Gpuperf(item.stash[MEASURED_TEST])

    # Start and collection

    def pytest_report_header(self) -> list[str] | None:
        return list(map(safe, self.context.header_lines())) if self.context.settings.measure else None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if self.context.duet_side is not None:
            self.context.duet_side.keep_common_tests(config, items)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._gated_tests = max(sum(map(is_gated, session.items)), 1)

    # One test

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        if self.context.duet_side is not None:
            self.context.duet_side.wait_for_turn(item)
        self.context.devices.running = item.nodeid
        return (yield)

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
        """Measure a test that uses pytest-benchmark's fixture, as if it used ours, too."""
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
            decision = self._gate(item, error)
            if decision is not None and isinstance(error, KeyboardInterrupt):  # pytest reports no interrupted test
                self.results.add(item.nodeid, "call", decided(self.context, item, decision))
            raise
        decision = self._gate(item, None)
        if decision is not None and decision.failure:
            pytest.fail(safe(decision.failure), pytrace=False)

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

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.excinfo is not None:
            shorten_error(report, item, call.excinfo)
        self._handover.give(report, self._result(item, call, report))
        return report

    def _result(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> PhaseResult:
        decision = item.stash.get(_DECISION, None)
        if call.when == "call" and decision is not None:
            return decided(self.context, item, decision)
        if report.failed and call.excinfo is not None:
            return failed_early(self.context, item, call.excinfo.value)
        measured_test = item.stash.get(MEASURED_TEST, None) if call.when == "call" else None
        return PhaseResult(smoked_points=measured_test.smoked_points if measured_test is not None else 0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.context.duet_side is not None:
            self.context.duet_side.send_result(report)
        self.results.add(report.nodeid, report.when, self._handover.take(report))

    # End

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.results.problems += getattr(node, "workeroutput", {}).get(_PROBLEMS, [])

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        context = self.context
        if context.duet_side is not None:
            context.duet_side.leave()
        if context.reports_here and reports_wanted(context.settings) and not session.config.getoption("collectonly"):
            self.results.published = publish(context, self.results.outcomes.values())
        try:
            context.devices.close()
        except DeviceError as error:
            self.results.problems.append(str(error))
        if self.results.problems:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if context.is_worker:
            session.config.workeroutput[_PROBLEMS] = self.results.problems  # type: ignore[attr-defined]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        self.results.write(terminalreporter, config.getoption("verbose"))

    def pytest_unconfigure(self) -> None:
        self.context.devices.close()

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        if self.context.settings.measure:
            device = self.context.devices.first
            machine_info["gpuperf"] = {**device.key, **device.environment}
