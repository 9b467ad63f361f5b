"""The looks at a duet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_gpuperf.analysis.duet.looks import FIRST_LOOK, expected_blocks, is_decided, look_shares, smallest_levels
from pytest_gpuperf.model import Comparison, LookShares, RuleSettings, Verdict
from tests.unit.factories import row


def shares(most: int, levels: LookShares) -> list[LookShares]:
    return [look_shares(blocks, most, levels) for blocks in range(FIRST_LOOK, most + 1)]


@pytest.mark.parametrize("level", [0.05, 0.01])
def test_all_looks_together_spend_alpha(level: float) -> None:
    """Of 400,000 sums of normal values, with a look after each value from the second."""
    sums = np.cumsum(np.random.default_rng(1).standard_normal((400_000, 6)), axis=1)
    scores = sums[:, 1:] / np.sqrt(np.arange(2, 7))
    for name in ("changed", "unchanged"):
        bounds = stats.norm.isf([level * getattr(share, name) for share in shares(6, LookShares(level, level))])
        crossed = float((scores > bounds).any(axis=1).mean())
        assert crossed == pytest.approx(level, rel=0.04)


@settings(deadline=None, max_examples=20)
@given(st.integers(5, 14), st.floats(1e-6, 0.3))
def test_a_look_spends_at_least_what_it_adds_and_at_most_everything(most: int, level: float) -> None:
    looks = shares(most, LookShares(level, level))
    before = 0.0
    for blocks, share in enumerate(looks, start=FIRST_LOOK):
        assert (blocks / most) ** 2 - before <= share.changed + 1e-6 <= 1 + 2e-6
        before = (blocks / most) ** 2


@pytest.mark.parametrize("most", [2, 3, 4])
def test_a_duet_of_few_blocks_keeps_a_part_of_alpha(most: int) -> None:
    levels = LookShares(0.05, 0.05)
    assert look_shares(most, most, levels) == look_shares(most, 5, levels)
    assert look_shares(most, most, levels).changed < 0.6


def test_unchanged_is_claimed_earlier_than_a_change() -> None:
    first = look_shares(2, 8, LookShares(0.05, 0.05))
    assert first.changed == pytest.approx(1 / 16)
    assert first.unchanged == pytest.approx(1 / 4)


@pytest.mark.parametrize("blocks", [1, 9])
def test_other_looks_are_refused(blocks: int) -> None:
    with pytest.raises(ValueError, match="up to 8 blocks is judged after 2 to 8 blocks"):
        look_shares(blocks, 8, LookShares())


def test_the_smallest_level_shares_alpha_among_tests_and_rows() -> None:
    levels = smallest_levels(RuleSettings(alpha=0.05, tests=5), 10)
    assert levels.changed == pytest.approx(0.05 / 5 / 20)
    assert levels.unchanged == 0.05


def compared(*verdicts: Verdict, further: int | None = 3) -> Comparison:
    rows = [row(verdict, records_to_decide=further) for verdict in verdicts]
    return Comparison(min(verdicts, key=list(Verdict).index), rows=tuple(rows))


def test_a_duet_ends_when_more_blocks_change_nothing() -> None:
    assert is_decided(compared(Verdict.REGRESSED, Verdict.INCONCLUSIVE))
    assert is_decided(compared(Verdict.UNCHANGED, Verdict.IMPROVED))
    assert not is_decided(compared(Verdict.UNCHANGED, Verdict.INCONCLUSIVE))


@pytest.mark.parametrize(("further", "expected"), [(1, 4), (3, 6), (20, 8), (None, 8)])
def test_the_expected_end_is_that_of_the_slowest_row(further: int | None, expected: int) -> None:
    assert expected_blocks(3, 8, compared(Verdict.INCONCLUSIVE, further=further)) == expected
    assert expected_blocks(3, 8, compared(Verdict.UNCHANGED)) == 3
