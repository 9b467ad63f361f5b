"""Rule: everything about a comparison that is chosen instead of measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_gpuperf.analysis.priors import BLOCK_PRIOR, RECORD_PRIOR, Prior, Priors
from pytest_gpuperf.analysis.values import GATED, METRICS
from pytest_gpuperf.model import PlainMapping

#: Largest change, as a share, that counts as unchanged by default.
EQUIVALENCE = 0.05


@dataclass(frozen=True)
class Rule:
    """The rule of a comparison.

    Attributes:
        prior: Prior of the spread between records (stored baseline).
        alpha: Probability of any false alarm in the entire invocation.
        tests: Number of gated tests that share alpha.
        min_effect: Largest worsening, as a share, that is not worth an alarm.
        equivalence: Largest change, as a share, that counts as unchanged. None for 5%, or ``min_effect`` if that is
            more: a change between the two would be neither regressed nor unchanged, however long the measurement.
        metrics: Metrics that gate; others are not compared.
        look_share: Part of the test's alpha that this interim look may spend (``sequential.alpha_share``).
        block_prior: Prior of the spread between the blocks of a duet.
    """

    prior: Prior | Priors = RECORD_PRIOR
    alpha: float = 0.05
    tests: int = 1
    min_effect: float = 0.01
    equivalence: float | None = None
    metrics: frozenset[str] = GATED
    look_share: float = 1.0
    block_prior: Prior | Priors = BLOCK_PRIOR

    @property
    def test_alpha(self) -> float:
        """Alpha that one test may spend at this interim look."""
        return self.alpha / max(self.tests, 1) * self.look_share

    @property
    def margin(self) -> float:
        """The minimum effect as a log."""
        return math.log1p(self.min_effect)

    @property
    def bound(self) -> float:
        """The equivalence as a log."""
        return math.log1p(max(EQUIVALENCE, self.min_effect) if self.equivalence is None else self.equivalence)


def rule_settings(
    *, alpha: float, tests: int, min_effect: float, metrics: frozenset[str], look_share: float
) -> PlainMapping:
    """Return the settings by which a record states its rule; ``rule_of`` reads them. See ``Rule`` for the arguments."""
    return {
        "alpha": alpha,
        "tests": tests,
        "min_effect": min_effect,
        "metrics": " ".join(sorted(metrics)),
        "look_share": look_share,
    }


def rule_of(settings: PlainMapping, prior: Prior | Priors) -> Rule:
    """Return the rule that a record's settings state.

    Args:
        settings: Settings of the record; what they lack or state wrongly has its default, since imported records state
            nothing.
        prior: Prior of the spread between records on the record's device.
    """
    tests = settings.get("tests")
    return Rule(
        prior=prior,
        alpha=_share(settings.get("alpha"), Rule.alpha),
        tests=tests if isinstance(tests, int) and tests > 0 else Rule.tests,
        min_effect=_share(settings.get("min_effect"), Rule.min_effect),
        metrics=frozenset(str(settings.get("metrics", "")).split()) & frozenset(METRICS) or GATED,
        look_share=_share(settings.get("look_share"), Rule.look_share),
    )


def _share(stated: object, default: float) -> float:
    return float(stated) if isinstance(stated, int | float) and 0 <= stated < 1 else default
