"""The settings, store, devices and comparison keys of a pytest process, fixed once its options are read."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pluggy
import pytest

from pytest_gpuperf.analysis.priors import Prior, Priors
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.device import Monitor, joint_environment, python_mode
from pytest_gpuperf.errors import GpuperfError, OptionError
from pytest_gpuperf.model import METHOD_VERSION, Comparison, Plain, PlainMapping, Record
from pytest_gpuperf.publish.comparison import RecordToJudge, compare_next, compare_record, prior_of, to_judge
from pytest_gpuperf.publish.pool import PoolReader
from pytest_gpuperf.session.console import Console
from pytest_gpuperf.session.devices import Devices
from pytest_gpuperf.session.duet.side import DuetSide
from pytest_gpuperf.session.gpu import worker_number
from pytest_gpuperf.session.ids.rootdir import root_directory
from pytest_gpuperf.session.ids.test_id import IdScheme
from pytest_gpuperf.session.key_changes import UnknownKeyField, changed_key
from pytest_gpuperf.session.settings import Settings, read_settings
from pytest_gpuperf.store import (
    Baseline,
    Checkout,
    MergeBase,
    Store,
    duet_history,
    merge_base_records,
    read_checkout,
    read_merge_base,
    select_baseline,
)
from pytest_gpuperf.store.baseline import COMMIT, RECORD
from pytest_gpuperf.store.project.location import option_for
from pytest_gpuperf.store.project.merge_base import AUTO
from pytest_gpuperf.targets.anchor import DIGEST


@dataclass(frozen=True)
class Context:
    """The invocation, as this process sees it.

    Attributes:
        root_path: pytest's root directory.
        start_path: Directory in which pytest was started.
        invocation: Id of the invocation, which all of its pytest-xdist workers share.
        is_worker: Whether this process is a pytest-xdist worker.
        ids: How tests are named in records.
        root_warning: Warning that an option's value has changed pytest's root directory; empty if none has.
        user_environment: Facts that plugins and the conftest files of the start directory add to every record; empty in
            a smoke run.
        facts: The same by test, with the conftest files of its directory.
        judged: What this process has judged of the invocation, by test.
        duet_side: Side of ``gpuperf duet`` that this process is; None outside of it.
    """

    settings: Settings
    devices: Devices
    console: Console
    root_path: Path
    start_path: Path
    invocation: str
    ids: IdScheme
    root_warning: str = ""
    is_worker: bool = False
    user_environment: PlainMapping = field(default_factory=dict)
    facts: dict[str, PlainMapping] = field(default_factory=dict)
    _facts_by_directory: dict[Path, PlainMapping] = field(default_factory=dict, init=False)
    duet_side: DuetSide | None = None
    judged: dict[str, RecordToJudge] = field(default_factory=dict, init=False)

    @cached_property
    def store(self) -> Store:
        """The store of all records.

        Raises:
            StoreError: There can be no store at this URL.
        """
        return Store(self.settings.store, self.settings.store_option)

    @cached_property
    def prior(self) -> Prior | Priors:
        """The prior of the spread between records on the first device.

        Raises:
            StoreError: The device's calibration can't be read.
        """
        return prior_of(self.store, str(self.devices.first.key["device"]), self.devices.first.kind)

    @cached_property
    def pools(self) -> PoolReader:
        """What the tests on each hardware show; read once, before it is measured first."""
        return PoolReader(self.store, self.console.reading_records)

    def compare(self, record: Record, baseline: Baseline, rule: Rule) -> Comparison:
        """Compare a record as it is so far with its baseline, or a duet with its reference."""
        if record.reference:
            return compare_record(record, baseline, rule)
        return self.judge(record, to_judge(record, baseline, rule))

    def judge(self, record: Record, judging: RecordToJudge) -> Comparison:
        """Compare a record with its baseline, when later tests of the invocation are not known yet.

        Args:
            judging: What decides about the record.
        """
        earlier = [judged for test, judged in self.judged.items() if test != judging.test]
        return compare_next(judging, earlier, self.pools.read(record.key))

    @cached_property
    def checkout(self) -> Checkout:
        """The checked-out commit of the root directory."""
        return read_checkout(self.root_path)

    @cached_property
    def merge_base(self) -> MergeBase:
        """The commit of the main branch that the measured change is based on, and those before it.

        Raises:
            OptionError: Git does not know the branch that the user named.
        """
        settings = self.settings
        return read_merge_base(self.root_path, settings.merge_base, option=settings.merge_base_option)

    @property
    def reports_here(self) -> bool:
        """Whether this process writes the reports: not an xdist worker, nor the base of a duet."""
        return not self.is_worker and (self.duet_side is None or self.duet_side.is_head)

    @property
    def warnings(self) -> list[str]:
        """Warnings about pytest's root directory and the git checkout, for pytest's header."""
        return [line for line in (self.root_warning, self.checkout.problem) if line]

    def header_lines(self) -> list[str]:
        """Return what pytest prints above the tests."""
        device = self.devices.first
        note = f"; {device.note}" if device.note else ""
        store = self.store.describe(self.settings.store)
        lines = (f"device under test: {device.label}{note}", f"records in {store}", *self.warnings)
        return [f"gpuperf: {line}" for line in lines]

    def endpoint_defaults(self) -> dict[str, str | None]:
        """Return the settings of a tritonserver that the running test starts, unless it states them."""
        visible = ",".join(device.visible for device in self.devices.current)
        return {"server": self.settings.triton, "visible": visible}

    def engine_defaults(self) -> dict[str, str]:
        """Return the settings of an engine that the running test makes, unless it states them."""
        return {"visible": self.devices.in_process(self.devices.running)}

    def key(self, test: str, version: int, traced_by: Sequence[str] = ()) -> PlainMapping:
        """Return what must match for two records of a test to be comparable.

        Args:
            version: Version that the test's marker states.
            traced_by: Tracers and profilers that run while the test is measured.

        Raises:
            DeviceError: There is no such device.
            OptionError: A field that ``--gpuperf-key`` names can't be changed.
        """
        key: dict[str, Plain] = {
            **self.devices.key(test),
            "test": test,
            "version": version,
            "method_version": METHOD_VERSION,
        }
        if self.settings.anchor:
            key["anchor"] = DIGEST
        if mode := python_mode():
            key["python_mode"] = mode
        if traced_by:
            key["traced_by"] = ", ".join(traced_by)
        return changed_key(key, self.environment(test), self.settings.key) if self.settings.key else key

    def baseline(self, key: PlainMapping, *, duet: bool) -> Baseline:
        """Return the records that a new record of a key is compared with; for a duet, its earlier duets.

        Raises:
            StoreError, UnreadableRecord: The store can't be listed, or the baseline can't be read.
        """
        if duet:
            return duet_history(self.store, key)
        baseline = select_baseline(self.store, key, self.settings.baseline)
        if self.settings.baseline.kind in (RECORD, COMMIT):
            return baseline  # the user says what to compare with
        return replace(baseline, merge_base=merge_base_records(self.store, key, self.merge_base))

    def environment(self, test: str) -> PlainMapping:
        """Return the facts that are recorded beside a test's figures."""
        return {
            **joint_environment(self.devices.of(test)),
            "python": platform.python_version(),
            **self.facts.get(test, self.user_environment),
        }

    def ask_environment(self, test: str, item: pytest.Item) -> None:
        """Ask the conftest files of a test for facts about its environment; those of one directory are asked once.

        Raises:
            OptionError: An answer can't be recorded.
        """
        directory = item.path.parent
        if directory not in self._facts_by_directory:
            self._facts_by_directory[directory] = _user_environment(item.ihook, item.config)
        self.facts[test] = self._facts_by_directory[directory]

    def monitor(self, test: str) -> Monitor:
        """Return the monitor of a test's devices.

        Raises:
            DeviceError: A device is gone, can't be read, or its clocks can't be locked.
        """
        # Other xdist workers, and the other side of a duet, are children of our parent. They leave the device alone
        # while we hold its lock, but NVML lists them as long as they have a context on it.
        family = os.getppid() if self.is_worker or self.duet_side is not None else None
        return self.devices.monitor(test, family)


def read_context(config: pytest.Config) -> Context:
    """Return the context of this pytest process.

    Raises:
        pytest.UsageError: An option can't be used; nothing has been measured yet.
    """
    root = root_directory(config)
    settings = read_settings(config, root.path)
    context = Context(
        settings=settings,
        devices=Devices(settings, worker_number(config)),
        console=Console(config),
        root_path=config.rootpath,
        start_path=config.invocation_params.dir,
        # xdist's controller gives all workers the same id.
        invocation=getattr(config, "workerinput", {}).get("testrunuid") or uuid.uuid4().hex,
        ids=IdScheme.of(config.rootpath, root.path),
        root_warning=root.warning,
        is_worker=hasattr(config, "workerinput"),
    )
    if not settings.measure:
        return context
    try:
        context = replace(context, user_environment=_user_environment(config.hook, config))
        # A wrong device, key or store ends pytest here, before any test.
        with suppress(UnknownKeyField):  # a conftest file beside the tests may add it
            context.key("", 1)
        context.devices.export()
        context = _in_duet(config, context)
        if settings.merge_base != AUTO:
            _ = context.merge_base  # a branch that git does not know
        _ = context.store  # while the working directory is the user's: paths are described relative to it
    except GpuperfError as error:
        raise pytest.UsageError(str(error)) from error
    return context


def _user_environment(hook: pluggy.HookRelay, config: pytest.Config) -> PlainMapping:
    facts: dict[str, Plain] = {}
    for answer in reversed(hook.pytest_gpuperf_environment(config=config)):  # the closest conftest file wins
        if not isinstance(answer, Mapping):
            raise OptionError(f"pytest_gpuperf_environment returned {answer!r}: return a dict of facts, or None.")
        for name, fact in answer.items():
            if not isinstance(fact, str | int | float | bool | None):
                raise OptionError(
                    f"pytest_gpuperf_environment returned {name!r}: {fact!r}: return a text or a number, such as "
                    f"str({type(fact).__name__}(...))."
                )
            facts[str(name)] = fact
    return facts


def _in_duet(config: pytest.Config, context: Context) -> Context:
    """Join ``gpuperf duet``, if it started this process."""
    side = DuetSide.join(lambda: context.devices.first.lock_id)
    if side is None:
        return context
    if getattr(config.option, "dist", "no") != "no":
        raise pytest.UsageError("gpuperf duet measures one test after the other: leave pytest-xdist's -n out.")
    store = side.home_store(context.settings.store)
    option = option_for(store, Path(side.home_store(str(context.start_path))))
    return replace(context, settings=replace(context.settings, store=store, store_option=option), duet_side=side)
