"""Rule: everything about a comparison that is chosen instead of measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_gpuperf.analysis.priors import BLOCK_PRIOR, RECORD_PRIOR, Prior, Priors
from pytest_gpuperf.model import RuleSettings

#: Largest change, as a share, that counts as unchanged by default.
EQUIVALENCE = 0.05


@dataclass(frozen=True)
class Rule(RuleSettings):
    """The rule of a comparison.

    Attributes:
        prior: Prior of the spread between records (stored baseline).
        equivalence: Largest change, as a share, that counts as unchanged. None for 5%, or ``min_effect`` if that is
            more: a change between the two would be neither regressed nor unchanged, however long the measurement.
        block_prior: Prior of the spread between the blocks of a duet.
    """

    prior: Prior | Priors = RECORD_PRIOR
    equivalence: float | None = None
    block_prior: Prior | Priors = BLOCK_PRIOR

    @property
    def test_alpha(self) -> float:
        """Alpha that one test may spend."""
        return self.alpha / self.tests

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
