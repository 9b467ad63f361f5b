"""What one pytest process knows of pytest-gpuperf: registered as a plugin as soon as it is needed."""

from __future__ import annotations

import uuid
from collections.abc import Generator
from functools import cached_property
from typing import Any

import pytest

from pytest_gpuperf.device import Device, find_device
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.model import RULER, PlainMapping
from pytest_gpuperf.session.commit import commit_of
from pytest_gpuperf.session.console import Console
from pytest_gpuperf.session.fixture import Gpuperf
from pytest_gpuperf.session.gate import Outcome, conclude
from pytest_gpuperf.session.marker import marker_of
from pytest_gpuperf.session.settings import read_settings
from pytest_gpuperf.store import Store

_STATE = pytest.StashKey["State"]()
_MEASURED = pytest.StashKey[Gpuperf]()
_OUTCOME = pytest.StashKey[Outcome]()


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
        self._shown: list[dict[str, Any]] = []
        self._smoked = 0
        if self.settings.measure:
            try:
                self.device, self.store  # noqa: B018 - a wrong device or store should end pytest here, before any test
            except GpuperfError as error:
                raise pytest.UsageError(str(error)) from error

    @cached_property
    def device(self) -> Device:
        return find_device(self.settings.device)

    @cached_property
    def store(self) -> Store:
        return Store(self.settings.store)

    @cached_property
    def console(self) -> Console:
        return Console(self._config)

    @cached_property
    def _commit(self) -> tuple[str, bool | None]:
        return commit_of(self._config.rootpath)

    @property
    def commit(self) -> str:
        return self._commit[0]

    @property
    def dirty(self) -> bool | None:
        """Tracked files differ from the commit; None where there is none."""
        return self._commit[1]

    @cached_property
    def user_environment(self) -> PlainMapping:
        """What conftest files and other plugins want recorded."""
        answers = self._config.hook.pytest_gpuperf_environment(config=self._config)
        return {str(name): value for answer in answers for name, value in answer.items()}

    def key(self, test: str, version: int) -> PlainMapping:
        """What must match for two sessions of a test to be comparable."""
        return {**self.device.key, "test": test, "version": version, "ruler": RULER}

    def fixture_of(self, item: pytest.Item) -> Gpuperf:
        """The test's own measuring object.

        Raises:
            OptionError: the test's marker can't be used.
        """
        measured = item.stash[_MEASURED] = Gpuperf(self, item.nodeid, marker_of(item))
        return measured

    # pytest's hooks

    def pytest_report_header(self) -> list[str] | None:
        if not self.settings.measure:
            return None
        note = f"; {self.device.note}" if self.device.note else ""
        return [f"gpuperf: {self.device.label}{note}", f"gpuperf: store {self.store.describe(self.settings.store)}"]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        uses = sum("gpuperf" in getattr(item, "fixturenames", ()) for item in session.items)
        self.gated_tests = max(uses, 1)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        try:
            yield
        except BaseException as error:
            outcome = self._conclude(item, test_failed=True)
            if outcome is not None and isinstance(error, KeyboardInterrupt):
                self._shown.append(outcome.shown)  # pytest makes no report of an interrupted test
            raise
        outcome = self._conclude(item, test_failed=False)
        if outcome is not None and outcome.failure:
            pytest.fail(outcome.failure, pytrace=False)

    def _conclude(self, item: pytest.Item, *, test_failed: bool) -> Outcome | None:
        """The gate, for a test that measured something."""
        measured = item.stash.get(_MEASURED, None)
        if measured is None or not any(sweep.runs for sweep in measured.sweeps):
            return None
        outcome = item.stash[_OUTCOME] = conclude(self, item.nodeid, measured, test_failed=test_failed)
        item.user_properties.extend(outcome.properties)
        return outcome

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
                report.gpuperf = outcome.shown  # type: ignore[attr-defined]
            elif measured is not None and measured.smoked:
                report.gpuperf_smoked = measured.smoked  # type: ignore[attr-defined]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        shown = getattr(report, "gpuperf", None)
        if shown is not None:
            self._shown.append(shown)
        self._smoked += getattr(report, "gpuperf_smoked", 0)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        writer = terminalreporter
        if self._smoked:
            writer.write_sep("-", "gpuperf")
            writer.write_line(
                f"smoke run: targets answered at {self._smoked} load point{'s' if self._smoked != 1 else ''}; "
                "nothing was measured or stored (pytest --gpuperf does)"
            )
        if not self._shown:
            return
        writer.write_sep("=", "gpuperf")
        for shown in self._shown:
            colour = {"regressed": "red", "improved": "green", "unchanged": "green"}.get(shown["verdict"], "yellow")
            writer.write_line(shown["test"], bold=True)
            writer.write_line(f"  {shown['headline']}", **{colour: True})
            for line in shown["lines"]:
                writer.write_line(line)


def _explain(
    config: pytest.Config, report: pytest.TestReport, item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]
) -> None:
    """An error that says itself what to do: show it with the line of the test, without our stack."""
    if config.getoption("fulltrace"):
        return
    own = [entry for entry in excinfo.traceback if entry.path == item.path]
    where = f"\n\n{item.path}:{own[-1].lineno + 1}: {str(own[-1].statement).strip()}" if own else ""
    report.longrepr = f"{excinfo.value}{where}"
