from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pytest_gpuperf.cli.judging import rule_for
from pytest_gpuperf.errors import UnreadableRecord
from pytest_gpuperf.model import LoadPoint, Record, Verdict
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.report.terminal.section import TerminalEntry
from pytest_gpuperf.session.context import Context, read_context
from pytest_gpuperf.session.gate import GateDecision, conclude, gate, summary_line
from pytest_gpuperf.session.marker import Marker
from pytest_gpuperf.session.measured_test import MeasuredTest
from pytest_gpuperf.store import Baseline
from tests.unit.factories import run, window
from tests.unit.session.contexts import TEST, context_of, measured

SLOW = ((8.0,),) * 3


@dataclass(frozen=True)
class Ended:
    """What became of a test."""

    failure: str
    properties: tuple[tuple[str, str], ...]
    entry: TerminalEntry
    outcome: TestOutcome | None
    problem: str


def decide(test: MeasuredTest, context: Context, error: BaseException | None = None, expected: str = "") -> Ended:
    """Gate a test whose call ended with this error, and conclude."""
    decision = gate(context, test, error)
    assert decision is not None
    conclusion = conclude(context, decision, "" if expected else summary_line(error), expected)
    return Ended(decision.failure, decision.properties, conclusion.entry, conclusion.outcome, conclusion.problem)


def stored(context: Context) -> Record:
    """Return the newest record of the test."""
    return context.store.read(next(context.store.newest(context.store.folder(context.key(TEST, 1)))))


def nothing(test: MeasuredTest, context: Context) -> GateDecision:
    decision = gate(context, test, None)
    assert decision is not None
    assert decision.record is None
    return decision


def test_a_test_that_measured_nothing_says_so_and_fails_if_a_baseline_is_required(pytester: pytest.Pytester) -> None:
    for option, failing in ((), False), (("--gpuperf-require-baseline",), True):
        context = context_of(pytester, *option)
        unused = nothing(MeasuredTest(context, TEST, Marker()), context)
        assert unused.reason == "it uses a measuring fixture, and called none of its methods"
        assert unused.failure.startswith(f"{TEST} measured nothing: it uses") is failing
        died = MeasuredTest(context, TEST, Marker())
        died.begin("serving")
        assert "the measurement of serving ended before its first run" in nothing(died, context).reason
        # The error itself fails such a test, and pytest.skip skips it.
        assert gate(context, died, ValueError()) is None
    smoke = MeasuredTest(read_context(pytester.parseconfig()), TEST, Marker())
    assert gate(context, smoke, None) is None


def test_a_measurement_cut_short_whose_error_the_test_ignores_fails_if_a_baseline_is_required(
    pytester: pytest.Pytester,
) -> None:
    for option, failing in ((), False), (("--gpuperf-require-baseline",), True):
        context = context_of(pytester, *option)
        test = measured(context)
        test.sweeps[0].runs[-1] = replace(test.sweeps[0].runs[-1], complete=False)
        assert ("was cut short, and the test ignored the error" in decide(test, context).failure) is failing


def test_a_load_point_without_requests_is_no_figure(pytester: pytest.Pytester) -> None:
    context = context_of(pytester)
    test = measured(context)
    test.sweeps[0].runs[:] = [run(window(requests=0, throughput=0.0), index=index) for index in range(3)]
    failure = decide(test, context).failure
    assert failure.startswith(f"{TEST}: nothing was measured\n  serving, concurrency 1: no request in 3 windows")
    assert stored(context).gate == "failed"


@pytest.mark.parametrize(("p50_ms", "dropped"), [(((4.0,),) * 3, "concurrency 2"), (((4.0, 8.0, 16.0),) * 3, "")])
def test_a_load_point_that_the_newest_baseline_record_has_is_missed(
    pytester: pytest.Pytester, p50_ms: tuple[tuple[float, ...], ...], dropped: str
) -> None:
    context, strict = context_of(pytester), context_of(pytester, "--gpuperf-require-baseline")
    decide(measured(context, ((4.0, 8.0),) * 3), context)
    ended = decide(measured(strict, p50_ms), strict)
    assert (f"no longer measures what its newest baseline record has:\n  serving: {dropped}" in ended.failure) == bool(
        dropped
    )
    if dropped:
        assert any("not measured now: serving: concurrency 2" in line for line in ended.entry.brief)
        assert decide(measured(context, p50_ms), context).failure == ""
        # The newest record decides: once the shorter sweep is the baseline, nothing is missed.
        assert decide(measured(strict, p50_ms), strict).failure == ""


def test_points_that_a_search_tried_only_once_are_not_missed(pytester: pytest.Pytester) -> None:
    context = context_of(pytester, "--gpuperf-require-baseline")
    searched = measured(context, ((4.0, 8.0),) * 3)
    searched.sweeps[0].kept = (LoadPoint(1),)
    decide(searched, context)
    assert decide(measured(context), context).failure == ""


def test_a_failure_that_was_expected_is_none_in_the_reports(pytester: pytest.Pytester) -> None:
    context = context_of(pytester)
    outcome = decide(measured(context), context, AssertionError("slow"), expected="known to be slow").outcome
    assert outcome is not None
    assert (outcome.error, outcome.expected_failure) == ("", "known to be slow")
    assert stored(context).gate == "open"


def test_a_first_record_is_stored_and_passes(pytester: pytest.Pytester) -> None:
    context = context_of(pytester)
    decision = decide(measured(context), context)
    assert (decision.failure, decision.entry.verdict) == ("", "no baseline")
    record = stored(context)
    assert (record.gate, record.test, record.invocation) == ("open", TEST, context.invocation)
    assert decision.outcome is not None
    assert decision.outcome.record == record
    assert dict(decision.properties)["gpuperf_record"] == record.id


def test_a_slower_record_fails_and_says_against_what(pytester: pytest.Pytester) -> None:
    context = context_of(pytester)
    decide(measured(context), context)
    decision = decide(measured(context, SLOW), context)
    assert f"{TEST} regressed compared with 1 baseline record" in decision.failure
    assert stored(context).gate == "failed"
    assert "gpuperf_worst" in dict(decision.properties)
    # The reports say that of a regression themselves.
    assert decision.outcome is not None
    assert decision.outcome.error == ""


def test_what_it_has_read_of_the_baseline_it_hands_to_the_reports(pytester: pytest.Pytester) -> None:
    context = context_of(pytester)
    decide(measured(context), context)
    test = measured(context)
    outcome = decide(test, context).outcome
    assert outcome is not None
    assert test.baseline is not None
    assert outcome.baseline == test.baseline.records
    assert outcome.comparison.baseline == tuple(record.id for record in outcome.baseline)


def test_the_record_states_the_rule_that_decided(pytester: pytest.Pytester) -> None:
    context = context_of(pytester, "--gpuperf-alpha=2%")
    test = MeasuredTest(context, TEST, Marker(min_effect=0.03, metrics=frozenset({"p99"})), gated_tests=7)
    record = test.record()
    rule = test.rule(record)
    assert (rule.alpha, rule.tests, rule.min_effect, rule.metrics) == (0.02, 7, 0.03, frozenset({"p99"}))
    assert rule.prior == context.prior
    # gpuperf compare and gpuperf report decide by the same rule later.
    assert rule_for(record, store=context.store) == rule


def test_a_test_that_failed_otherwise_never_becomes_a_baseline(pytester: pytest.Pytester) -> None:
    context = context_of(pytester)
    decision = decide(measured(context), context, ValueError("wrong answers\nin many lines"))
    assert decision.failure == ""
    assert stored(context).gate == "failed"
    assert decision.outcome is not None
    assert decision.outcome.error == "ValueError: wrong answers"
    assert any("this record is not used as a baseline" in line for line in decision.entry.notes)


def test_without_a_baseline_it_fails_if_the_user_requires_one(pytester: pytest.Pytester) -> None:
    context = context_of(pytester, "--gpuperf-require-baseline")
    failure = decide(measured(context), context).failure
    assert "NO BASELINE" in failure
    assert failure.endswith("This fails the test because of --gpuperf-require-baseline.")
    assert stored(context).gate == "open"


def test_an_undecided_comparison_fails_only_if_the_user_asks_for_that(pytester: pytest.Pytester) -> None:
    noisy = ((4.0,), (4.4,), (3.7,))
    warn, fail = context_of(pytester), context_of(pytester, "--gpuperf-on-inconclusive=fail")
    decide(measured(warn), warn)
    decision = decide(measured(warn, noisy), warn)
    assert (decision.failure, decision.entry.verdict) == ("", str(Verdict.INCONCLUSIVE))
    assert "is inconclusive" in decide(measured(fail, noisy), fail).failure
    # Only further records can decide, so it joins the baseline all the same.
    assert stored(fail).gate == "passed"


def test_too_many_failed_requests_fail_the_test(pytester: pytest.Pytester) -> None:
    context = context_of(pytester)
    test = measured(context)
    test.sweeps[0].runs[:] = [run(window(errors={"timeout": 30}), index=index) for index in range(3)]
    decision = decide(test, context)
    assert "too many requests failed" in decision.failure
    assert "timeout" in decision.failure
    assert stored(context).gate == "failed"


def test_figures_are_shown_even_if_they_can_t_be_stored(pytester: pytest.Pytester) -> None:
    context = context_of(pytester, "--gpuperf-store=store")
    (pytester.path / "store").write_text("a file in the way")
    decision = decide(measured(context, baseline=Baseline()), context)
    assert "can't be written" in decision.problem
    assert any("not stored" in line for line in decision.entry.full)
    assert decision.outcome is not None
    assert decision.outcome.path == ""


def test_files_left_out_of_the_baseline_are_named(pytester: pytest.Pytester) -> None:
    context = context_of(pytester)
    damaged = UnreadableRecord("store/x.json", "is damaged", "Delete it.")
    entry = decide(measured(context, baseline=Baseline(unreadable=(damaged,))), context).entry
    assert any("store/x.json" in line for line in entry.notes)
    assert any("store/x.json" in line for line in entry.full)


def test_a_sweep_that_was_cut_short_is_stored_and_compared_with_nothing(pytester: pytest.Pytester) -> None:
    context = context_of(pytester)
    decide(measured(context), context)
    test = measured(context, SLOW)
    test.sweeps[0].runs[-1] = replace(test.sweeps[0].runs[-1], complete=False)
    decision = decide(test, context, KeyboardInterrupt())
    assert (decision.failure, decision.entry.verdict) == ("", "cut short")
    assert stored(context).status == "incomplete"


def test_a_duet_is_compared_with_its_reference(pytester: pytest.Pytester, tmp_path: Path) -> None:
    context = context_of(pytester, f"--gpuperf-store={tmp_path}")
    test = measured(context, ((8.0,),) * 5, baseline=Baseline())
    (sweep,) = test.sweeps
    sweep.duet, sweep.reference = True, list(measured(context, ((4.0,),) * 5).sweeps[0].runs)
    decision = decide(test, context)
    assert f"{TEST} regressed compared with its reference" in decision.failure
    assert decision.outcome is not None
    assert (decision.outcome.comparison.mode, decision.outcome.baseline) == ("duet", ())
