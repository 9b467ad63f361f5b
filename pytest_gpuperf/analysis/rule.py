"""Rule: everything about a comparison that is chosen instead of measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_gpuperf.analysis.priors import BLOCK_PRIOR, RECORD_PRIOR, Prior, Priors
from pytest_gpuperf.model import RuleSettings

#: Largest change, as a share, that counts as unchanged by default.
EQUIVALENCE = 0.05
#: Fewest tests of an invocation from which what they moved by together is told from the changes of single tests.
ENOUGH_TESTS = 5
#: Part of alpha for what all tests moved by together, where that is judged.
COMMON_SHARE = 0.15
#: Part of a test's alpha that may be spent when the test ends, before the later tests of the invocation are known.
SHARE_AT_ITS_END = 0.25


@dataclass(frozen=True)
class Rule(RuleSettings):
    """The rule of a comparison.

    Attributes:
        prior: Prior of the spread between records (stored baseline).
        equivalence: Largest change, as a share, that counts as unchanged. None for 5%, or ``min_effect`` if that is
            more: a change between the two would be neither regressed nor unchanged, however long the measurement.
        block_prior: Prior of the spread between the blocks of a duet.
        confidence: Confidence of the intervals; None for the level that decides about each row.
        share: Part of the test's alpha that this judgement may spend: a test is judged when it ends, and again when
            the invocation ends.
    """

    prior: Prior | Priors = RECORD_PRIOR
    equivalence: float | None = None
    block_prior: Prior | Priors = BLOCK_PRIOR
    confidence: float | None = None
    share: float = 1.0

    @property
    def test_alpha(self) -> float:
        """Alpha that one test may spend in this judgement."""
        return (self.alpha - self.common_alpha) / self.tests * self.share

    @property
    def common_alpha(self) -> float:
        """Alpha for what all tests of the invocation moved by together."""
        return self.alpha * COMMON_SHARE if self.tests >= ENOUGH_TESTS else 0.0

    @property
    def margin(self) -> float:
        """The minimum effect as a log."""
        return math.log1p(self.min_effect)

    @property
    def bound(self) -> float:
        """The equivalence as a log."""
        return math.log1p(max(EQUIVALENCE, self.min_effect) if self.equivalence is None else self.equivalence)


def rule_of(settings: RuleSettings, prior: Prior | Priors) -> Rule:
    """Return the rule of a record that states these settings, with the prior of its device."""
    return Rule(**vars(settings), prior=prior)
