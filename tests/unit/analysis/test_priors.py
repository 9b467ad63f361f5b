from __future__ import annotations

import numpy as np
import pytest

from pytest_gpuperf.analysis.priors import HISTORY_WEIGHT, Prior, Priors, SeriesPriors, with_history

ASSUMED = Prior(record_sd=0.02, weight=8)


def test_a_series_that_was_not_calibrated_has_the_default() -> None:
    known = Prior(0.005, 12, measured=True)
    priors = Priors(ASSUMED, {("serving", "concurrency 4", "p50"): known})
    assert priors.of("serving", "concurrency 4", "p50") == known
    assert priors.of("serving", "concurrency 4", "p90") == ASSUMED
    assert ASSUMED.of("anything", "", "p50") == ASSUMED


def blocks(spread: float, records: int, size: int = 3) -> np.ndarray:
    """One series whose blocks have exactly this variance in each record."""
    shape = np.array([-1.0, 0.0, 1.0]) * spread
    return np.tile(shape[:size], (1, records, 1))


def test_history_replaces_an_assumed_prior_degree_by_degree() -> None:
    few = with_history(SeriesPriors.of([ASSUMED]), blocks(0.01, records=2), np.eye(1))
    # Two records of three blocks: 4 degrees of freedom, of 8.
    assert few.variance[0] == pytest.approx((4 * 0.02**2 + 4 * 0.01**2) / 8)
    assert (few.weight[0], few.assumed[0]) == (8, 0.5)
    many = with_history(SeriesPriors.of([ASSUMED]), blocks(0.01, records=20), np.eye(1))
    assert many.variance[0] == pytest.approx(0.01**2)
    assert (many.weight[0], many.assumed[0]) == (HISTORY_WEIGHT, 0.0)


def test_a_measured_prior_stays() -> None:
    result = with_history(SeriesPriors.of([Prior(0.02, 8, measured=True)]), blocks(0.01, records=4), np.eye(1))
    assert result.variance[0] == pytest.approx((8 * 0.02**2 + 8 * 0.01**2) / 16)


def test_an_empty_history_changes_nothing() -> None:
    result = with_history(SeriesPriors.of([ASSUMED]), np.full((1, 2, 3), np.nan), np.eye(1))
    assert (result.variance[0], result.weight[0], result.assumed[0]) == (pytest.approx(0.02**2), 8, 1.0)
