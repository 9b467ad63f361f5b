from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.analysis.sequential import LOOKS, alpha_share, looks, next_look
from pytest_gpuperf.model import Comparison, Verdict
from tests.unit.factories import row


@pytest.mark.parametrize(
    ("max_runs", "first", "expected"),
    [
        (8, 3, (3, 5, 8)),
        (3, 3, (3,)),
        (6, 3, (3, 5, 6)),
        (20, 3, (3, 5, 8, 20)),
        (2, 3, (2,)),
        (8, 5, (5, 8)),
        (8, 1, (1, 3, 5, 8)),
    ],
)
def test_looks_are_planned_up_to_the_last_run(max_runs: int, first: int, expected: tuple[int, ...]) -> None:
    assert looks(max_runs, first) == expected


@given(st.integers(1, 40), st.integers(1, 10))
def test_the_shares_of_the_looks_add_up_to_alpha(max_runs: int, first: int) -> None:
    shares = [alpha_share(index, max_runs, first) for index in range(len(looks(max_runs, first)))]
    assert sum(shares) == pytest.approx(1.0)
    assert min(shares) > 0


def test_a_single_look_spends_everything() -> None:
    assert alpha_share(0, 3) == 1.0


@pytest.mark.parametrize("index", [-1, 3])
def test_an_unplanned_look_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="3 looks at up to 8 runs"):
        alpha_share(index, LOOKS[-1])


def test_a_gate_needs_a_run() -> None:
    with pytest.raises(ValueError, match="1 run or more"):
        looks(0)


def decided(*verdicts: Verdict) -> Comparison:
    worst = min(verdicts, key=list(Verdict).index)
    return Comparison(worst, rows=tuple(row(verdict) for verdict in verdicts))


def test_looks_continue_while_a_row_is_undecided() -> None:
    open_row = decided(Verdict.UNCHANGED, Verdict.INCONCLUSIVE)
    assert [next_look(done, 8, open_row) for done in (3, 5, 8)] == [5, 8, None]
    assert next_look(3, 4, open_row) == 4
    assert next_look(3, 3, open_row) is None


@pytest.mark.parametrize(
    "comparison",
    [
        decided(Verdict.UNCHANGED, Verdict.IMPROVED),
        decided(Verdict.REGRESSED, Verdict.INCONCLUSIVE),
        Comparison(Verdict.NO_BASELINE),
    ],
)
def test_looks_end_when_further_runs_would_change_nothing(comparison: Comparison) -> None:
    assert next_look(3, 8, comparison) is None
