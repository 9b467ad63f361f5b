"""What one pytest process knows of pytest-gpuperf: registered as a plugin as soon as it is needed."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Generator
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.analysis.priors import PRIORS, Prior, Priors, calibrated
from pytest_gpuperf.device import Device, Monitor
from pytest_gpuperf.errors import DeviceError, GpuperfError
from pytest_gpuperf.model import METHOD_VERSION, Comparison, Plain, PlainMapping, Record, Verdict
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.report.terminal.section import TerminalEntry, section
from pytest_gpuperf.session.console import Console
from pytest_gpuperf.session.devices import Devices
from pytest_gpuperf.session.duet_side import DuetSide, first_line
from pytest_gpuperf.session.gate import GateDecision, conclude, conclude_head
from pytest_gpuperf.session.gpu import worker_number
from pytest_gpuperf.session.gpuperf import Gpuperf
from pytest_gpuperf.session.key_changes import changed_key
from pytest_gpuperf.session.marker import marker_of
from pytest_gpuperf.session.measurement import Measurement
from pytest_gpuperf.session.reports import Published, publish, wanted
from pytest_gpuperf.session.settings import read_settings
from pytest_gpuperf.store import Checkout, Store, newest_calibration, read_checkout
from pytest_gpuperf.store.store import utc_now
from pytest_gpuperf.targets.anchor import DIGEST

_STATE = pytest.StashKey["State"]()
_KEPT = "gpuperf_kept"
_MEASURED = pytest.StashKey[Measurement]()
_OUTCOME = pytest.StashKey[GateDecision]()


def state_of(config: pytest.Config) -> State:
    """The one state of this pytest process, made and registered on the first call.

    Raises:
        pytest.UsageError: an option can't be used.
    """
    state = config.stash.get(_STATE, None)
    if state is None:
        state = config.stash[_STATE] = State(config)
        config.pluginmanager.register(state, "gpuperf-state")
    return state


class State:
    """Settings, device and store of this process, and pytest's hooks."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.settings = read_settings(config)
        self.gated_tests = 1
        # xdist's controller gives all workers the same id.
        self.invocation: str = getattr(config, "workerinput", {}).get("testrunuid") or uuid.uuid4().hex
        self._shown: list[TerminalEntry] = []
        #: What tests hand to the reports, by test.
        self._carried: dict[str, str] = {}
        self._published = Published()
        #: What could not be given back at the end, here and by workers.
        self._kept: list[str] = []
        self._smoked = 0
        self.devices = Devices(self.settings, worker_number(config))
        if self.settings.measure:
            try:
                # A wrong device, store or key should end pytest here, before any test.
                self.key("", 1)
                self.store  # noqa: B018
                self.devices.show()
            except GpuperfError as error:
                raise pytest.UsageError(str(error)) from error
        self.lockstep = self._join() if self.settings.measure else None

    def _join(self) -> DuetSide | None:
        """As one side of ``gpuperf duet``, where it started this process."""
        lockstep = DuetSide.join(lambda: self.device.lock)
        if lockstep is not None:
            if getattr(self._config.option, "dist", "no") != "no":
                raise pytest.UsageError("gpuperf duet measures one test after the other: leave pytest-xdist's -n out.")
            self.settings = replace(self.settings, store=lockstep.at_home(self.settings.store))
            self.__dict__.pop("store", None)
        return lockstep

    @property
    def device(self) -> Device:
        """Under test, unless a test asks for others."""
        return self.devices.first

    def monitor_of(self, test: str) -> Monitor:
        """Watches a test's devices.

        Raises:
            DeviceError: one is gone, or can't be read, or its clocks can't be locked.
        """
        # The other side of a duet, or another xdist worker, is a child of the same process, and leaves the device alone
        # while we have it; but NVML lists it as long as it has anything there.
        siblings = self.lockstep is not None or hasattr(self._config, "workerinput")
        return self.devices.monitor(test, os.getppid() if siblings else None)

    @cached_property
    def store(self) -> Store:
        return Store(self.settings.store)

    @cached_property
    def prior(self) -> Prior | Priors:
        """Of the spread between records: as ``gpuperf calibrate`` measured it on this device, else assumed.

        Raises:
            StoreError: what was measured can't be read.
        """
        assumed = PRIORS[self.device.kind]
        found = newest_calibration(self.store, str(self.device.key["device"]))
        return calibrated(assumed, found.record_sd, found.freedom) if found else assumed

    @property
    def directory(self) -> Path:
        """Where pytest was started."""
        return self._config.invocation_params.dir

    @cached_property
    def console(self) -> Console:
        return Console(self._config)

    @cached_property
    def _checkout(self) -> Checkout:
        return read_checkout(self._config.rootpath)

    @property
    def commit(self) -> str:
        return self._checkout.commit

    @property
    def dirty(self) -> bool | None:
        """Tracked files differ from the commit; None where there is none."""
        return self._checkout.dirty

    @cached_property
    def user_environment(self) -> PlainMapping:
        """What conftest files and other plugins want recorded."""
        answers = self._config.hook.pytest_gpuperf_environment(config=self._config)
        return {str(name): value for answer in answers for name, value in answer.items()}

    def key(self, test: str, version: int) -> PlainMapping:
        """What must match for two records of a test to be comparable."""
        usual: dict[str, Plain] = {
            **self.devices.key(test),
            "test": test,
            "version": version,
            "method_version": METHOD_VERSION,
        }
        if self.settings.anchor:
            usual["anchor"] = DIGEST
        facts = {**self.devices.of(test)[0].environment, "python": platform.python_version(), **self.user_environment}
        return changed_key(usual, facts, self.settings.key) if self.settings.key else usual

    def fixture_of(self, item: pytest.Item) -> Gpuperf:
        """The test's own measuring object.

        Raises:
            OptionError: the test's marker can't be used.
            StoreError: the measured prior can't be read, which must not show after the measurement.
        """
        if self.settings.measure:
            self.prior  # noqa: B018
        if _OUTCOME in item.stash:
            del item.stash[_OUTCOME]  # of an earlier try
        measured = item.stash[_MEASURED] = Measurement(self, item.nodeid, marker_of(item))
        return Gpuperf(measured)

    # pytest's hooks

    def pytest_report_header(self) -> list[str] | None:
        if not self.settings.measure:
            return None
        note = f"; {self.device.note}" if self.device.note else ""
        return [f"gpuperf: {self.device.label}{note}", f"gpuperf: store {self.store.describe(self.settings.store)}"]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if self.lockstep is None:
            return
        own = {item.nodeid: item for item in items if "gpuperf" in getattr(item, "fixturenames", ())}
        chosen = [own[test] for test in self.lockstep.collected(list(own)) if test in own]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        if self.lockstep is not None and (why := self.lockstep.begin(item.nodeid)):
            item.session.shouldstop = why
        self.devices.running = item.nodeid
        return (yield)

    def pytest_unconfigure(self) -> None:
        self.devices.close()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.lockstep is not None:
            self.lockstep.bye()
        worker = hasattr(self._config, "workerinput") or (self.lockstep is not None and not self.lockstep.is_head)
        if wanted(self) and not worker and not self._config.getoption("collectonly"):
            self._published = publish(self, list(self._carried.values()), self._config.rootpath)
        try:
            self.devices.close()
        except DeviceError as error:
            self._kept.append(str(error))
        if self._kept:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput[_KEPT] = self._kept

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A pytest-xdist worker has ended."""
        self._kept += getattr(node, "workeroutput", {}).get(_KEPT, [])

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        """pytest-benchmark's results tell the device as well."""
        if self.settings.measure:
            machine_info["gpuperf"] = {**self.device.key, **self.device.environment}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        uses = sum("gpuperf" in getattr(item, "fixturenames", ()) for item in session.items)
        self.gated_tests = max(uses, 1)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        try:
            yield
        except BaseException as error:
            outcome = self._conclude(item, error)
            if outcome is not None and isinstance(error, KeyboardInterrupt):
                # pytest makes no report of an interrupted test
                self._shown.append(outcome.shown)
                if carried := _carried(outcome, item):
                    self._carried[item.nodeid] = carried
            raise
        outcome = self._conclude(item, None)
        if outcome is not None and outcome.failure:
            pytest.fail(outcome.failure, pytrace=False)

    def _conclude(self, item: pytest.Item, error: BaseException | None) -> GateDecision | None:
        """The gate, for a test that measured something."""
        measured = item.stash.get(_MEASURED, None)
        if measured is None:
            return None
        some = any(sweep.runs for sweep in measured.sweeps)
        if self.lockstep is not None:
            outcome = self._conclude_side(self.lockstep, measured, error)
        else:
            outcome = conclude(self, measured, error=_named(error)) if some else None
        if outcome is not None:
            item.stash[_OUTCOME] = outcome
            item.user_properties.extend(outcome.properties)
        return outcome

    def _conclude_side(
        self, lockstep: DuetSide, measured: Measurement, error: BaseException | None
    ) -> GateDecision | None:
        """One side of a duet with another process: base gives its numbers to head, which compares them."""
        if isinstance(error, KeyboardInterrupt | pytest.exit.Exception):
            return None  # the command is ending, or the user has had enough
        failed = _named(error)
        some = any(sweep.runs for sweep in measured.sweeps)
        other = lockstep.over(measured.test, measured.record() if some else None, failed)
        if not lockstep.is_head or (error is not None and not some):
            return None
        return conclude_head(self, measured, other, error=failed)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.excinfo is not None and isinstance(call.excinfo.value, GpuperfError):
            _explain(self._config, report, item, call.excinfo)
        if call.when == "call":
            outcome, measured = item.stash.get(_OUTCOME, None), item.stash.get(_MEASURED, None)
            # Builtins on the report: xdist carries them to the controller, which prints the summary.
            if outcome is not None:
                report.gpuperf = asdict(outcome.shown)  # type: ignore[attr-defined]
                report.gpuperf_carried = _carried(outcome, item) if wanted(self) else ""  # type: ignore[attr-defined]
            elif measured is not None and measured.smoked:
                report.gpuperf_smoked = measured.smoked  # type: ignore[attr-defined]
        told = call.when == "call" and _OUTCOME in item.stash
        if report.failed and call.excinfo is not None and not told and wanted(self):
            report.gpuperf_carried = self._unmeasured(item, call.excinfo.value)  # type: ignore[attr-defined]
        return report

    def _unmeasured(self, item: pytest.Item, error: BaseException) -> str:
        """A gated test that failed before it measured anything: a report without it would look as if all were well."""
        if "gpuperf" not in getattr(item, "fixturenames", ()):
            return ""
        device = self.devices.of(item.nodeid)[0]
        record = Record(
            id="",
            invocation=self.invocation,
            test=item.nodeid,
            created_utc=utc_now(),
            key={**device.key, "test": item.nodeid},
            status="incomplete",
            gate="failed",
            runs=(),
            commit=self.commit,
            environment=device.environment,
        )
        return _handed(TestOutcome(record, Comparison(Verdict.NO_BASELINE), error=_named(error)), item)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.lockstep is not None and (report.failed or report.skipped):
            self.lockstep.result(report.nodeid, report.outcome, first_line(report))
        shown = getattr(report, "gpuperf", None)
        if shown is not None:
            self._shown.append(TerminalEntry(**shown))
        self._hand_over(report)
        self._smoked += getattr(report, "gpuperf_smoked", 0)

    def _hand_over(self, report: pytest.TestReport) -> None:
        """Keep what the reports at the end are given of one phase of a test."""
        if report.when == "setup":
            self._carried.pop(report.nodeid, None)  # of an earlier try
        carried, earlier = getattr(report, "gpuperf_carried", ""), self._carried.get(report.nodeid)
        if carried and report.when == "teardown" and earlier is not None:
            before, late = TestOutcome.of_text(earlier), TestOutcome.of_text(carried)
            carried = replace(before, error=before.error or late.error).as_text()
        if carried:
            self._carried[report.nodeid] = carried

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        writer = terminalreporter
        if self._smoked:
            writer.write_sep("-", "gpuperf")
            writer.write_line(
                f"smoke run: targets answered at {self._smoked} load point{'s' if self._smoked != 1 else ''}; "
                "nothing was measured or stored (pytest --gpuperf does)"
            )
        verbosity = self._config.getoption("verbose")
        published = self._published
        if not (self._shown or published.problems or published.commands or self._kept):
            return
        if verbosity >= 0:
            writer.write_sep("=", "gpuperf")
        for line, markup in section(self._shown, verbosity):
            writer.write_line(line, **({markup: True} if markup else {}))
        for line in published.written if verbosity >= 0 else []:
            writer.write_line(line)
        for line in (*published.problems, *self._kept):
            writer.write_line(f"gpuperf: {line}", red=True)
        for line in published.commands:
            writer.write_line(line)


def _named(error: BaseException | None) -> str:
    """An exception in one line; empty for none."""
    return f"{type(error).__name__}: {error}".partition("\n")[0] if error is not None else ""


def _carried(outcome: GateDecision, item: pytest.Item) -> str:
    return _handed(outcome.carried, item) if outcome.carried is not None else ""


def _handed(carried: TestOutcome, item: pytest.Item) -> str:
    file, line, _ = item.location
    return replace(carried, file=file, line=(line or 0) + 1).as_text()


def _explain(
    config: pytest.Config, report: pytest.TestReport, item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]
) -> None:
    """An error that says itself what to do: show it with the line of the test, without our stack."""
    if config.getoption("fulltrace"):
        return
    own = [entry for entry in excinfo.traceback if entry.path == item.path]
    where = f"\n\n{item.path}:{own[-1].lineno + 1}: {str(own[-1].statement).strip()}" if own else ""
    report.longrepr = f"{excinfo.value}{where}"
