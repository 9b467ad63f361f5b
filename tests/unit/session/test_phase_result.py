from __future__ import annotations

import json
import marshal
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.model import Change, Comparison, LoadPoint, NamedPoint, Record, Verdict
from pytest_gpuperf.model.codec import Mismatch
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.report.terminal.section import TerminalEntry
from pytest_gpuperf.session.phase_result import PhaseResult, ResultHandover, attached
from tests.unit.factories import record, records, row

COMPARISONS = st.builds(
    Comparison,
    verdict=st.sampled_from(list(Verdict)),
    rows=st.lists(
        st.builds(
            row,
            st.sampled_from(list(Verdict)),
            point=st.none() | st.just(LoadPoint(0, 8, 500.0, "poisson")) | st.just(NamedPoint("concurrency 4")),
            high=st.floats(1, math.inf),
            records_to_decide=st.none() | st.integers(0, 9),
        ),
        max_size=3,
    ).map(tuple),
    baseline=st.just(("a", "b")),
    changes=st.just((Change("environment", "driver", "570", None),)),
    differing=st.none() | st.just({"power_limit_w": (60, 72)}),
    mode=st.sampled_from(["stored", "duet"]),
)


def sent(result: PhaseResult) -> PhaseResult:
    """The result as the controller gets it from a worker of pytest-xdist, through pytest's own serialisation."""
    report = report_of_a_call()
    ResultHandover(is_worker=True).give(report, result)
    return attached(pytest.TestReport._from_json(json.loads(json.dumps(report._to_json()))))


def report_of_a_call() -> pytest.TestReport:
    return pytest.TestReport("test_it.py::test_it", ("test_it.py", 1, "test_it"), {}, "passed", None, "call")


@given(records(), COMPARISONS)
def test_the_controller_gets_what_the_worker_attached(candidate: Record, comparison: Comparison) -> None:
    outcome = TestOutcome(candidate, comparison, (record(),), "path", " --store x", "error", "t.py", 3)
    entry = TerminalEntry("test_it", "unchanged", "unchanged: 3 runs", ["full"], ["brief"], ["note"])
    result = PhaseResult(entry, outcome, 2)
    assert sent(result) == result


def test_a_process_hands_over_the_object_itself() -> None:
    result, report, handover = PhaseResult(smoked_points=1), report_of_a_call(), ResultHandover(is_worker=False)
    before = dict(vars(report))
    handover.give(report, result)
    assert vars(report) == before
    assert handover.take(report) is result
    assert handover.take(report) == PhaseResult()


def test_a_fork_attaches_what_can_be_marshalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-forked runs each test in a fork and marshals the attributes of its reports."""
    result = PhaseResult(outcome=TestOutcome(record(), Comparison(Verdict.NO_BASELINE)), smoked_points=1)
    report, handover = report_of_a_call(), ResultHandover(is_worker=False)
    with monkeypatch.context() as in_fork:
        in_fork.setattr("os.getpid", lambda: -1)
        handover.give(report, result)
    sent_back = report_of_a_call()
    sent_back.__dict__["gpuperf"] = marshal.loads(marshal.dumps(report.__dict__["gpuperf"]))
    assert handover.take(sent_back) == result


@pytest.mark.parametrize("is_worker", [False, True])
def test_a_report_without_a_result_stays_as_it_is(is_worker: bool) -> None:
    report, handover = report_of_a_call(), ResultHandover(is_worker=is_worker)
    before = dict(vars(report))
    handover.give(report, PhaseResult())
    assert vars(report) == before
    assert handover.take(report) == PhaseResult()


def test_a_verdict_that_this_version_does_not_know_is_named() -> None:
    report = report_of_a_call()
    result = PhaseResult(outcome=TestOutcome(record(), Comparison(Verdict.UNCHANGED)))
    ResultHandover(is_worker=True).give(report, result)
    report.__dict__["gpuperf"] = report.__dict__["gpuperf"].replace('"unchanged"', '"splendid"')
    with pytest.raises(Mismatch, match=r"outcome.comparison.verdict should be one of regressed, .*, not 'splendid'"):
        attached(report)
