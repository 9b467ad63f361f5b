"""The stored-baseline test: one session against the accepted sessions of the same key.

The unit of replication is the session. For a metric of a load point, a run's value is the log of its statistic, a
session's value is the mean over its runs, and with ``m`` baseline sessions

    T = (d - log(1 + min_effect)) / (s * sqrt(1 + 1/m))        (with equal variances)

where ``d`` is the candidate minus the mean of the baseline, turned so that positive is worse. ``s``, the standard
deviation of one session's value, is the hard part: a young baseline hardly knows it. It is shrunk to a prior as in
Smyth, "Linear models and empirical Bayes methods for assessing differential expression" (2004):

    s^2 = (d0 * s0^2 + (m - 1) * s_between^2) / (d0 + m - 1),   T ~ t with d0 + m - 1 degrees of freedom

and never taken to be below what the sessions' own runs show (``s_run^2 / k``). While nothing better is known, sessions
are assumed to differ by at least as much as the fresh starts inside one of them: the prior's own ``s0`` is raised to
``s_run``. So on a quiet machine a 50% regression fails against a single session, and on a noisy one noise does not.

Sessions are not all alike, though: a baseline measured on an idle machine says little about a session measured beside
a compiler. So the two sides have a variance each,

    T = (d - log(1 + min_effect)) / sqrt(v_c + v_H / m)

where ``v_c`` is ``s^2``, or the candidate's own spread between runs if that is larger, and both grow by what others
took of the CPU (see ``series``).

Multiplicity: the test gets its share of alpha (split over the gated tests of the invocation); half goes to the
sweep-wide geometric mean of each metric, half to the single points, Holm's step-down within each half. "Unchanged" is a
claim as well, and is made only where two one-sided tests put the change inside the equivalence bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pytest_gpuperf.analysis.series import Series, mean_of, session_values, sweep_means
from pytest_gpuperf.model import (
    Change,
    Comparison,
    Plain,
    Row,
    Session,
    Verdict,
    worst,
)

#: Chance of finding the "smallest detectable effect".
POWER = 0.8
#: How far ahead an inconclusive row is asked for the number of sessions that would decide it.
FURTHER_SESSIONS = 20


@dataclass(frozen=True)
class Prior:
    """What is assumed of the spread between sessions before the history shows it.

    Attributes:
        session_sd: standard deviation of the log of a session's value, s0.
        weight: how many sessions this assumption is worth, d0.
    """

    session_sd: float
    weight: float


@dataclass(frozen=True)
class Rule:
    """How to decide.

    Attributes:
        alpha: the chance of any false alarm in the whole invocation.
        tests: how many gated tests share it.
        min_effect: a worsening up to this share is not worth an alarm.
        equivalence: changes within this share are "unchanged".
    """

    prior: Prior
    alpha: float = 0.05
    tests: int = 1
    min_effect: float = 0.01
    equivalence: float = 0.05


def compare(candidate: Session, baseline: Sequence[Session], rule: Rule) -> Comparison:
    """Decide about every point and metric that both sides measured.

    Args:
        candidate: the new session.
        baseline: accepted sessions of the same key, newest first.
        rule: alpha, minimum effect and prior.
    """
    if not baseline:
        return Comparison(Verdict.NO_BASELINE, alpha=rule.alpha, min_effect=rule.min_effect)
    here, before = session_values(candidate), [session_values(session) for session in baseline]
    series = []
    for key, values in here.items():
        known = tuple(session[key] for session in before if key in session)
        if known:
            sweep, point, metric = key
            series.append(Series(sweep, point, metric, values, known))
    sweeps = sweep_means(series)
    alpha = rule.alpha / max(rule.tests, 1)
    # One load point: its sweep-wide mean would be itself, so the point gets the whole alpha.
    groups = [(sweeps, alpha / 2), (series, alpha / 2)] if sweeps else [(series, alpha)]
    rows = tuple(row for members, share in groups for row in _decide(members, share, rule))
    ours, theirs = _points(candidate), {label for session in baseline for label in _points(session)}
    return Comparison(
        verdict=worst([row.verdict for row in rows]),
        rows=rows,
        baseline=tuple(session.id for session in baseline),
        changes=changes(baseline[0], candidate),
        new_points=tuple(sorted(ours - theirs)),
        missing_points=tuple(sorted(theirs - ours)),
        alpha=rule.alpha,
        min_effect=rule.min_effect,
    )


def changes(before: Session, after: Session) -> tuple[Change, ...]:
    """What is under test, around it, or in the settings that differs between two sessions."""
    places: list[tuple[str, Mapping[str, Plain], Mapping[str, Plain]]] = [
        (sweep, before.under_test.get(sweep, {}), after.under_test[sweep])
        for sweep in after.under_test
        if sweep in before.under_test
    ]
    places += [
        ("environment", before.environment, after.environment),
        ("settings", before.settings, after.settings),
        ("source", {"commit": before.commit}, {"commit": after.commit}),
    ]
    return tuple(
        Change(where, name, old.get(name), new.get(name))
        for where, old, new in places
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    )


def _points(session: Session) -> set[str]:
    return {f"{run.sweep}: {window.point.label}" for run in session.runs for window in run.windows}


def _decide(members: Sequence[Series], alpha: float, rule: Rule) -> list[Row]:
    """One family of rows: Holm's step-down over "worse by more than min_effect", and the same for "better"."""
    if not members:
        return []
    tests = []
    for one in members:
        # Few runs estimate a point's spread badly; its metric's other points went through the same starts.
        alike = [other for other in members if (other.sweep, other.metric) == (one.sweep, one.metric)]
        candidate = max(one.candidate.run_variance, mean_of(other.candidate.run_variance for other in alike))
        pooled = max(_run_variance(one), mean_of(_run_variance(other) for other in alike))
        tests.append(_Test.of(one, candidate, pooled, rule))
    worse = _holm([test.p_worse for test in tests], alpha)
    better = _holm([test.p_better for test in tests], alpha)
    level = alpha / len(members)
    return [
        test.row(one, rule, level, worse=is_worse, better=is_better)
        for one, test, is_worse, is_better in zip(members, tests, worse, better, strict=True)
    ]


def _run_variance(series: Series) -> float:
    """Variance between the fresh starts inside one session, pooled over all sessions of both sides."""
    sides = (series.candidate, *series.baseline)
    freedom = sum(len(side.runs) - 1 for side in sides)
    return sum(side.run_variance * (len(side.runs) - 1) for side in sides) / freedom if freedom else 0.0


def _holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses Holm's step-down procedure (1979) rejects at family-wise level ``alpha``."""
    rejected = [False] * len(p_values)
    for position, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if not p_values[index] <= alpha / (len(p_values) - position):
            break
        rejected[index] = True
    return rejected


@dataclass(frozen=True)
class _Test:
    """The t test of one series.

    Attributes:
        difference: log ratio, positive is worse.
        estimated_variance: of the difference, as far as it is estimated (history, prior, the runs' own spread).
        assumed_variance: of the difference, for what others took of the CPU.
        typical_variance: what a further session's value may be expected to show.
        sessions: in the baseline.
    """

    difference: float
    estimated_variance: float
    assumed_variance: float
    typical_variance: float
    sessions: int
    prior: Prior
    min_effect: float

    @classmethod
    def of(cls, series: Series, candidate_run_variance: float, run_variance: float, rule: Rule) -> _Test:
        """
        Args:
            candidate_run_variance: between the candidate's own runs.
            run_variance: the same, pooled over the candidate and the baseline.
        """
        means = [session.mean for session in series.baseline]
        sessions = len(means)
        between = float(np.var(means, ddof=1)) if sessions > 1 else 0.0
        floor = run_variance / len(series.candidate.runs)
        prior = Prior(max(rule.prior.session_sd, math.sqrt(run_variance)), rule.prior.weight)
        shrunk = max(
            (prior.weight * prior.session_sd**2 + (sessions - 1) * between) / (prior.weight + sessions - 1), floor
        )
        return cls(
            difference=series.candidate.mean - sum(means) / sessions,
            estimated_variance=max(shrunk, candidate_run_variance) + shrunk / sessions,
            assumed_variance=series.candidate.disturbance**2
            + mean_of(session.disturbance**2 for session in series.baseline) / sessions,
            typical_variance=max(between, floor),
            sessions=sessions,
            prior=prior,
            min_effect=rule.min_effect,
        )

    @property
    def history(self) -> float:
        """Degrees of freedom of the estimated variance."""
        return self.prior.weight + self.sessions - 1

    @property
    def freedom(self) -> float:
        """Of the whole: Satterthwaite's approximation (1946), in which an assumed variance has none to lose."""
        return self.history * ((self.estimated_variance + self.assumed_variance) / self.estimated_variance) ** 2

    @property
    def error(self) -> float:
        """Standard error of the difference."""
        return math.sqrt(self.estimated_variance + self.assumed_variance)

    @property
    def margin(self) -> float:
        return math.log1p(self.min_effect)

    @property
    def p_worse(self) -> float:
        return float(stats.t.sf((self.difference - self.margin) / self.error, self.freedom))

    @property
    def p_better(self) -> float:
        return float(stats.t.sf((-self.difference - self.margin) / self.error, self.freedom))

    def row(self, series: Series, rule: Rule, level: float, *, worse: bool, better: bool) -> Row:
        sign = -1 if series.metric == "throughput" else 1
        half = float(stats.t.isf(0.025, self.freedom)) * self.error
        low, high = sorted((math.exp(sign * (self.difference - half)), math.exp(sign * (self.difference + half))))
        margin = math.log1p(rule.min_effect)
        reach = (
            margin
            + (float(stats.t.isf(level, self.freedom)) + float(stats.t.isf(1 - POWER, self.freedom))) * self.error
        )
        if worse:
            verdict = Verdict.REGRESSED
        elif better:
            verdict = Verdict.IMPROVED
        elif self._equivalent(rule):
            verdict = Verdict.UNCHANGED
        else:
            verdict = Verdict.INCONCLUSIVE
        baseline = mean_of(session.mean for session in series.baseline)
        return Row(
            sweep=series.sweep,
            point=series.point,
            metric=series.metric,
            candidate=math.exp(sign * series.candidate.mean),
            baseline=math.exp(sign * baseline),
            ratio=math.exp(sign * self.difference),
            low=low,
            high=high,
            p_value=self.p_worse,
            verdict=verdict,
            min_detectable=math.expm1(reach),
            sessions_to_decide=self._sessions_to_decide(rule, level) if verdict is Verdict.INCONCLUSIVE else 0,
        )

    def _equivalent(self, rule: Rule) -> bool:
        """Two one-sided tests (Schuirmann 1987) at the invocation's alpha."""
        bound = math.log1p(rule.equivalence) - abs(self.difference)
        return float(stats.t.sf(bound / self.error, self.freedom)) <= rule.alpha

    def _sessions_to_decide(self, rule: Rule, level: float) -> int | None:
        """Further sessions until a change of the seen size is significant, or shown to be small.

        Both sides are taken to become as calm as the history and the runs so far allow.
        """
        bound, size = math.log1p(rule.equivalence), abs(self.difference)
        for further in range(1, FURTHER_SESSIONS + 1):
            freedom = self.history + further
            seen = freedom - self.prior.weight
            shrunk = (self.prior.weight * self.prior.session_sd**2 + seen * self.typical_variance) / freedom
            error = math.sqrt(shrunk * (1 + 1 / (self.sessions + further)))
            if (size - self.margin) / error >= stats.t.isf(level, freedom):
                return further
            if (bound - size) / error >= stats.t.isf(rule.alpha, freedom):
                return further
        return None
