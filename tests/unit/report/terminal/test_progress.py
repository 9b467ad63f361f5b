from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.report.terminal.progress import LogSchedule, bar_line, log_line


@given(
    st.text(max_size=40),
    st.floats(0, 1),
    st.text(max_size=40),
    st.none() | st.floats(0, 1e6),
    st.integers(0, 200),
)
def test_a_bar_leaves_the_last_column_free(
    what: str, share: float, detail: str, left_s: float | None, width: int
) -> None:
    # A terminal that is written into its last column may wrap, and the bar would no longer overwrite itself.
    assert len(bar_line(what, share, detail, left_s, width)) <= max(width - 1, 0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_bar_is_filled_by_its_share(share: float) -> None:
    line = bar_line("test_resnet50", share, "concurrency 4", 75.0, 100)
    bar = line[line.index("[") + 1 : line.index("]")]
    assert bar.count("#") == share * len(bar)
    for part in ("test_resnet50", f"{share:.0%}", "1:15 left", "concurrency 4"):
        assert part in line


def test_a_long_name_hides_neither_the_bar_nor_the_time_left() -> None:
    line = bar_line("test_" + "x" * 200, 0.4, "run 1/3, concurrency 4", 75.0, 80)
    assert "[####......]  40% 1:15 left" in line
    assert line.startswith("  test_xxx")


def test_no_remaining_time_is_shown_before_it_is_known() -> None:
    assert "left" not in bar_line("test", 0.0, "", None, 80)
    assert "left" not in log_line("test", 0, 3, None)


def test_a_log_counts_runs_from_one() -> None:
    line = log_line("test_resnet50", 0, 3, 75.0)
    assert "test_resnet50: run 1 of 3" in line
    assert "1:15 left" in line


def test_no_time_is_left_after_the_last_run() -> None:
    assert log_line("test", 2, 3, 0.0) == "gpuperf: test: run 3 of 3 done"


@pytest.mark.parametrize(
    ("verbosity", "told"),
    [(1, [0, 5, 20, 200]), (0, [0, 20, 200]), (-1, [200])],
)
def test_a_log_has_an_occasional_line(verbosity: int, told: list[int]) -> None:
    pace = LogSchedule(verbosity, 0.0)
    assert [at for at in (0, 5, 20, 200) if pace.due(at, run_done=True)] == told


@pytest.mark.parametrize(("verbosity", "first_s"), [(0, 60), (-1, 180)])
def test_a_single_long_run_says_that_it_is_alive(verbosity: int, first_s: int) -> None:
    pace = LogSchedule(verbosity, 0.0)
    pace.due(0.0, run_done=True)
    told = [at for at in range(1, 700) if pace.due(at, run_done=False)]
    assert told[0] <= first_s
    assert all(after - before <= 120 for before, after in itertools.pairwise(told))


def test_a_duet_says_that_it_may_end_before_its_last_block() -> None:
    line = log_line("duet", 1, 8, 40.0, may_end_early=True)
    assert line == "gpuperf: duet: run 2 of up to 8 done, about 0:40 left"
