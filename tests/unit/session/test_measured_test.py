from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.measure import MeasurePlan, duet_plan
from pytest_gpuperf.model import LoadPoint, LookShares, RuleSettings
from pytest_gpuperf.session.context import read_context
from pytest_gpuperf.session.fixtures.gpuperf import Gpuperf
from pytest_gpuperf.session.gate import conclude, gate
from pytest_gpuperf.session.marker import Marker
from pytest_gpuperf.session.measured_test import MeasuredTest
from pytest_gpuperf.targets import CallTarget
from tests.unit.session.contexts import TEST, context_of

POINTS = (LoadPoint(1),)
SLEEP = CallTarget(lambda: time.sleep(0.001), label="sleep")
QUICK = MeasurePlan(runs=2, visits=1, window_s=0.03, min_requests=2, lead_in_s=0.01)


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of devices that no other process on this machine takes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_sweep_becomes_a_record_with_its_rule_and_its_device(pytester: pytest.Pytester) -> None:
    context = context_of(pytester)
    test = MeasuredTest(context, TEST, Marker(min_effect=0.05))
    curve = test.sweep(SLEEP, POINTS, {}, QUICK, name="sleep")
    record = test.record()
    assert curve.measured
    assert (record.test, record.status, record.gate) == (TEST, "complete", "open")
    assert (record.settings["runs"], record.device_kind) == (2, "cpu")
    assert record.rule == RuleSettings(min_effect=0.05, looks={"sleep": LookShares((2 / 3) ** 2)})
    assert [run.index for run in record.runs] == [0, 1]
    assert "uncommitted_changes" in record.environment


def test_an_undecided_sweep_gets_more_runs_up_to_the_users_limit(pytester: pytest.Pytester) -> None:
    first = context_of(pytester)
    test = MeasuredTest(first, TEST, Marker())
    test.sweep(SLEEP, POINTS, {}, QUICK, name="sleep")
    assert len(test.record().runs) == 2
    decision = gate(first, test, None)
    assert decision is not None
    conclude(first, decision, "")
    # An effect of 0 can't be decided by three runs against a single record.
    more = context_of(pytester, "--gpuperf-runs=2", "--gpuperf-max-runs=3", "--gpuperf-min-effect=0")
    for marker, runs in ((Marker(), 3), (Marker(runs=2), 2)):
        test = MeasuredTest(more, TEST, marker)
        test.sweep(SLEEP, POINTS, {}, QUICK, name="sleep")
        assert len(test.record().runs) == runs


def test_a_name_is_used_once_and_a_test_is_a_sweep_or_a_duet(pytester: pytest.Pytester) -> None:
    test = MeasuredTest(context_of(pytester), TEST, Marker())
    assert test.begin("sleep") == "sleep"
    test.begin("other")
    with pytest.raises(OptionError, match="has a sweep named 'sleep' already"):
        test.begin("sleep")
    with pytest.raises(OptionError, match="Give the duet a test of its own"):
        test.begin("duet", duet=True)
    assert test.begun == ["sleep", "other"]


def test_a_smoke_run_refuses_what_a_measurement_would_refuse(pytester: pytest.Pytester) -> None:
    gpuperf = Gpuperf(MeasuredTest(read_context(pytester.parseconfig()), TEST, Marker()))
    gpuperf.sweep(lambda: None, name="sleep")
    with pytest.raises(OptionError, match="has a sweep named 'sleep' already"):
        gpuperf.measure(lambda: None, name="sleep")
    with pytest.raises(OptionError, match="Give the duet a test of its own"):
        gpuperf.duet(lambda: None, lambda: None, name="duet")


def test_a_smoke_run_tries_each_point_and_has_no_record(pytester: pytest.Pytester) -> None:
    test = MeasuredTest(read_context(pytester.parseconfig()), TEST, Marker())
    assert not test.sweep(SLEEP, POINTS, {}, QUICK, name="sleep").measured
    test.duet(SLEEP, SLEEP, POINTS, {}, duet_plan(2, 2, 0.03), name="duet", alternations=2)
    assert (test.smoked_points, test.has_runs) == (3, False)
