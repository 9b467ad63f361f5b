"""The stored-baseline test: one session against the accepted sessions of the same key.

The unit of replication is the session. For a metric of a load point, a run's value is the log of its statistic, a
session's value is the mean over its runs, and with ``m`` baseline sessions

    T = (d - log(1 + min_effect)) / (s * sqrt(1 + 1/m))

where ``d`` is the candidate minus the mean of the baseline, turned so that positive is worse. ``s``, the standard
deviation of one session's value, is the hard part: a young baseline hardly knows it. It is shrunk to a prior as in
Smyth, "Linear models and empirical Bayes methods for assessing differential expression" (2004):

    s^2 = (d0 * s0^2 + (m - 1) * s_between^2) / (d0 + m - 1),   T ~ t with d0 + m - 1 degrees of freedom

and never taken to be below what the sessions' own runs show (``s_run^2 / k``). While nothing better is known, sessions
are assumed to differ by at least as much as the fresh starts inside one of them: the prior's own ``s0`` is raised to
``s_run``. So on a quiet machine a 50% regression fails against a single session, and on a noisy one noise does not.

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

from pytest_gpuperf.model import (
    Change,
    Comparison,
    LoadPoint,
    Plain,
    Row,
    Session,
    Verdict,
    point_runs,
    worst,
)

METRICS = ("p50", "p90", "throughput")
_QUANTILES = {"p50": 0.5, "p90": 0.9}

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


@dataclass(frozen=True)
class _Series:
    """One metric of one point: run values of the candidate and of each baseline session, as logs, positive is worse."""

    sweep: str
    point: LoadPoint | None
    metric: str
    candidate: tuple[float, ...]
    baseline: tuple[tuple[float, ...], ...]


def compare(candidate: Session, baseline: Sequence[Session], rule: Rule) -> Comparison:
    """Decide about every point and metric that both sides measured.

    Args:
        candidate: the new session.
        baseline: accepted sessions of the same key, newest first.
        rule: alpha, minimum effect and prior.
    """
    if not baseline:
        return Comparison(Verdict.NO_BASELINE, alpha=rule.alpha, min_effect=rule.min_effect)
    here, before = _values(candidate), [_values(session) for session in baseline]
    series = []
    for key, values in here.items():
        known = tuple(tuple(session[key]) for session in before if key in session)
        if known:
            sweep, point, metric = key
            series.append(_Series(sweep, point, metric, tuple(values), known))
    sweeps = _sweep_means(series)
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


_Key = tuple[str, LoadPoint | None, str]


def _values(session: Session) -> dict[_Key, list[float]]:
    """Run values (log, positive is worse) of every metric that each of the session's runs can support."""
    values: dict[_Key, list[float]] = {}
    complete = [run for run in session.runs if run.complete]
    for run in complete:
        for point, seen in point_runs(run).items():
            for metric, quantile in _QUANTILES.items():
                if seen.latency.supports(quantile):
                    values.setdefault((run.sweep, point, metric), []).append(
                        math.log(seen.latency.quantile_ns(quantile))
                    )
            if seen.throughput > 0:
                values.setdefault((run.sweep, point, "throughput"), []).append(-math.log(seen.throughput))
    runs_of = {sweep: sum(run.sweep == sweep for run in complete) for sweep in {run.sweep for run in complete}}
    return {key: found for key, found in values.items() if len(found) == runs_of[key[0]]}


def _points(session: Session) -> set[str]:
    return {f"{run.sweep}: {window.point.label}" for run in session.runs for window in run.windows}


def _sweep_means(series: Sequence[_Series]) -> list[_Series]:
    """The geometric mean over a sweep's points, for every sweep and metric of more than one point."""
    groups: dict[tuple[str, str], list[_Series]] = {}
    for one in series:
        groups.setdefault((one.sweep, one.metric), []).append(one)
    means = []
    for (sweep, metric), members in groups.items():
        shapes = {(len(member.candidate), tuple(map(len, member.baseline))) for member in members}
        if len(members) < 2 or len(shapes) > 1:
            continue
        candidate = np.mean([member.candidate for member in members], axis=0)
        baseline = [
            np.mean([member.baseline[index] for member in members], axis=0) for index in range(len(members[0].baseline))
        ]
        means.append(
            _Series(sweep, None, metric, tuple(candidate.tolist()), tuple(tuple(one.tolist()) for one in baseline))
        )
    return means


def _run_variance(series: _Series) -> tuple[float, int]:
    """Variance between the fresh starts inside one session, pooled over the sessions, and its degrees of freedom."""
    groups = (series.candidate, *series.baseline)
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(float(np.var(group)) * len(group) for group in groups)
    return (squares / freedom if freedom else 0.0), freedom


def _decide(members: Sequence[_Series], alpha: float, rule: Rule) -> list[Row]:
    """One family of rows: Holm's step-down over "worse by more than min_effect", and the same for "better"."""
    if not members:
        return []
    variances = [_run_variance(one) for one in members]
    tests = []
    for one, (own_variance, _) in zip(members, variances, strict=True):
        # Few runs estimate a point's spread badly; its metric's other points went through the same starts.
        alike = [
            variance
            for other, (variance, freedom) in zip(members, variances, strict=True)
            if freedom and (other.sweep, other.metric) == (one.sweep, one.metric)
        ]
        run_variance = max(own_variance, float(np.mean(alike)) if alike else 0.0)
        tests.append(_Test.of(one, run_variance, rule))
    worse = _holm([test.p_worse for test in tests], alpha)
    better = _holm([test.p_better for test in tests], alpha)
    level = alpha / len(members)
    return [
        test.row(one, rule, level, worse=is_worse, better=is_better)
        for one, test, is_worse, is_better in zip(members, tests, worse, better, strict=True)
    ]


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
        spread: s, of one session's value.
    """

    difference: float
    spread: float
    sessions: int
    freedom: float
    p_worse: float
    p_better: float

    @classmethod
    def of(cls, series: _Series, run_variance: float, rule: Rule) -> _Test:
        means = [float(np.mean(group)) for group in series.baseline]
        sessions = len(means)
        difference = float(np.mean(series.candidate)) - float(np.mean(means))
        between = float(np.var(means, ddof=1)) if sessions > 1 else 0.0
        prior = max(rule.prior.session_sd**2, run_variance)
        freedom = rule.prior.weight + sessions - 1
        shrunk = (rule.prior.weight * prior + (sessions - 1) * between) / freedom
        spread = math.sqrt(max(shrunk, run_variance / len(series.candidate)))
        error = spread * math.sqrt(1 + 1 / sessions)
        margin = math.log1p(rule.min_effect)
        return cls(
            difference=difference,
            spread=spread,
            sessions=sessions,
            freedom=freedom,
            p_worse=float(stats.t.sf((difference - margin) / error, freedom)),
            p_better=float(stats.t.sf((-difference - margin) / error, freedom)),
        )

    @property
    def error(self) -> float:
        """Standard error of the difference."""
        return self.spread * math.sqrt(1 + 1 / self.sessions)

    def row(self, series: _Series, rule: Rule, level: float, *, worse: bool, better: bool) -> Row:
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
        baseline = float(np.mean([np.mean(group) for group in series.baseline]))
        return Row(
            sweep=series.sweep,
            point=series.point,
            metric=series.metric,
            candidate=math.exp(sign * float(np.mean(series.candidate))),
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
        """Further baseline sessions until a change of the seen size is either significant or shown to be small."""
        margin, bound = math.log1p(rule.min_effect), math.log1p(rule.equivalence)
        size = abs(self.difference)
        for further in range(1, FURTHER_SESSIONS + 1):
            error = self.spread * math.sqrt(1 + 1 / (self.sessions + further))
            freedom = self.freedom + further
            if (size - margin) / error >= stats.t.isf(level, freedom):
                return further
            if (bound - size) / error >= stats.t.isf(rule.alpha, freedom):
                return further
        return None
