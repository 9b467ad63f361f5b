"""After a test: build its session, compare it, store it, say what follows."""

from __future__ import annotations

import platform
import uuid
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pytest_gpuperf.analysis.compare import Prior, Rule, compare
from pytest_gpuperf.analysis.guard import error_report
from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.model import Comparison, PlainMapping, Session, Verdict
from pytest_gpuperf.report.summary import Place, failure_message, headline, session_lines
from pytest_gpuperf.session.fixture import Gpuperf
from pytest_gpuperf.store.store import utc_now

if TYPE_CHECKING:
    from pytest_gpuperf.session.state import State

#: What is assumed of the spread between sessions until the history shows it. On the CPU: undisturbed sessions of the
#: example were seen to differ by 1 to 2%, so 5% leaves room for machines that are less calm, and with the weight of
#: eight sessions still lets one baseline session show a 50% regression (docs/numbers.md). The GPU's is an assumption.
PRIORS = {"gpu": Prior(session_sd=0.02, weight=8), "cpu": Prior(session_sd=0.05, weight=8)}


@dataclass(frozen=True)
class Outcome:
    """What the gate has to say about one test.

    Attributes:
        failure: why the test fails; empty when it doesn't.
        lines: the test's part of the terminal section.
        properties: for JUnit and other reports, name and value.
    """

    test: str
    verdict: str
    headline: str
    failure: str
    lines: tuple[str, ...]
    properties: tuple[tuple[str, str], ...]

    @property
    def shown(self) -> dict[str, Any]:
        """What the summary prints, as builtins."""
        return {"test": self.test, "verdict": self.verdict, "headline": self.headline, "lines": list(self.lines)}


def conclude(state: State, test: str, measured: Gpuperf, *, test_failed: bool) -> Outcome:
    """Compare and store what a test measured.

    Args:
        test_failed: the test failed by itself, so its session can't become a baseline unasked.
    """
    assert measured.baseline is not None
    baseline = measured.baseline.sessions
    session = _session(state, test, measured)
    rule = Rule(
        prior=PRIORS[state.device.kind],
        alpha=state.settings.alpha,
        tests=state.gated_tests,
        min_effect=state.settings.min_effect if measured.marker.min_effect is None else measured.marker.min_effect,
    )
    if session.status == "complete":
        comparison = replace(compare(session, baseline, rule), differing=measured.baseline.differing)
    else:
        comparison = Comparison(Verdict.NO_BASELINE)
    errors = error_report(session.runs)
    stops = [Verdict.REGRESSED] + ([Verdict.INCONCLUSIVE] if state.settings.fail_on_inconclusive else [])
    gate_failed = comparison.verdict in stops
    gate = "failed" if test_failed or gate_failed or errors else "open" if not baseline else "passed"
    session = replace(session, gate=gate)
    failure = ""
    try:
        path = state.store.describe(state.store.write(session))
    except StoreError as error:
        # The numbers are still shown: what was measured is not lost with the place to put it.
        path, failure = "nothing: see the failure", str(error)
    place = Place(path, "" if state.settings.default_store else f" --store {state.settings.store}")
    if errors and not failure:
        failure = f"{test}: too many requests failed\n{errors}\nthis session: {path}"
    elif gate_failed and not failure:
        failure = failure_message(session, comparison, place, baseline)
    curves = [sweep.curve for sweep in measured.sweeps if sweep.runs]
    warnings = [f"  ! unreadable, left out of the baseline: {error}" for error in measured.baseline.unreadable]
    return Outcome(
        test=test,
        verdict=str(comparison.verdict) if session.status == "complete" else "cut short",
        headline=headline(session, comparison),
        failure=failure,
        lines=(*session_lines(session, curves, comparison, place), *warnings),
        properties=tuple(_properties(session, comparison, measured)),
    )


def _session(state: State, test: str, measured: Gpuperf) -> Session:
    plan = measured.plan
    return Session(
        id=uuid.uuid4().hex[:12],
        invocation=state.invocation,
        test=test,
        created_utc=utc_now(),
        key=measured.key,
        status="complete" if all(sweep.complete for sweep in measured.sweeps) else "incomplete",
        gate="open",
        runs=tuple(run for sweep in measured.sweeps for run in sweep.runs),
        commit=state.commit,
        under_test={sweep.name: sweep.under_test for sweep in measured.sweeps},
        environment=_environment(state),
        settings={
            "runs": plan.runs,
            "visits": plan.visits,
            "window_s": plan.window_s,
            "gpuperf": version("pytest-gpuperf"),
        },
    )


def _environment(state: State) -> PlainMapping:
    return {
        **state.device.environment,
        "python": platform.python_version(),
        "uncommitted_changes": state.dirty,
        **state.user_environment,
    }


def _properties(session: Session, comparison: Comparison, measured: Gpuperf) -> list[tuple[str, str]]:
    properties = [("gpuperf_verdict", str(comparison.verdict)), ("gpuperf_session", session.id)]
    for sweep in measured.sweeps:
        for point in sweep.curve:
            load = f"concurrency={point.concurrency}" if point.concurrency else f"rate={point.rate:g}"
            label = f"gpuperf {sweep.name} {load} batch={point.batch_size}"
            properties += [
                (f"{label} p50_ns", f"{point.p50_ns:.0f}"),
                (f"{label} p90_ns", f"{point.p90_ns:.0f}"),
                (f"{label} throughput", f"{point.throughput:.3f}"),
            ]
    return properties
