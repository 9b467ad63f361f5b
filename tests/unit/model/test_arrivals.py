from __future__ import annotations

import math
import pickle
from itertools import islice, pairwise
from pathlib import Path
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.model import Arrivals, Constant, Intervals, Poisson, Ramp
from pytest_gpuperf.model.arrivals import reseed

S = 1_000_000_000
EVERY_KIND: list[Arrivals] = [
    Constant(300.0),
    Poisson(300.0),
    Poisson(300.0, seed=7),
    Ramp(100.0, 400.0, 2.0),
    Ramp(400.0, 100.0, 2.0, hold_s=0.5, poisson=True, seed=3),
    Intervals((0, 2_000_000, 5_000_000)),
]
rates = st.floats(0.01, 1e6, allow_nan=False)


def first(arrivals: Arrivals, count: int) -> list[int]:
    return list(islice(arrivals.instants(), count))


def until(arrivals: Arrivals, end_s: float) -> list[int]:
    result: list[int] = []
    for at_ns in arrivals.instants():
        if at_ns >= end_s * S:
            return result
        result.append(at_ns)
    raise AssertionError("a schedule has no end")


@pytest.mark.parametrize("arrivals", EVERY_KIND, ids=str)
class TestEveryKind:
    def test_instants_are_the_same_in_every_process(self, arrivals: Arrivals) -> None:
        assert first(arrivals, 500) == first(arrivals, 500) == first(pickle.loads(pickle.dumps(arrivals)), 500)

    def test_never_goes_back_nor_begins_before_the_load(self, arrivals: Arrivals) -> None:
        instants = first(arrivals, 2000)
        assert instants == sorted(instants)
        assert instants[0] >= 0
        assert all(type(at_ns) is int for at_ns in instants)

    def test_workers_that_take_turns_send_the_entire_schedule(self, arrivals: Arrivals) -> None:
        workers = [list(islice(arrivals.instants(), index, 300, 3)) for index in range(3)]
        assert sorted(at_ns for one in workers for at_ns in one) == first(arrivals, 300)

    def test_every_process_has_a_different_label(self, arrivals: Arrivals) -> None:
        assert [one.label for one in EVERY_KIND].count(arrivals.label) == 1


class TestConstant:
    @given(rates, st.integers(0, 10**7))
    def test_each_instant_comes_from_its_number_and_no_rounding_adds_up(self, rate: float, number: int) -> None:
        number %= 5000
        assert first(Constant(rate), number + 1)[number] == pytest.approx(number * S / rate, abs=1)

    def test_a_rate_that_no_clock_divides_still_comes_out_over_a_long_time(self) -> None:
        assert len(until(Constant(1009.0), 60)) == 60 * 1009

    def test_the_first_is_due_at_once(self) -> None:
        assert first(Constant(2.0), 3) == [0, S // 2, S]


class TestPoisson:
    def test_intervals_are_exponential(self) -> None:
        intervals = [(right - left) / S for left, right in pairwise(first(Poisson(200.0), 20_001))]
        # The standard error of both is 0.7% of them.
        assert fmean(intervals) == pytest.approx(1 / 200, rel=0.035)
        assert pstdev(intervals) == pytest.approx(1 / 200, rel=0.06)
        for multiple in (0.1, 1.0, 3.0):
            beyond = sum(interval > multiple / 200 for interval in intervals) / len(intervals)
            assert beyond == pytest.approx(math.exp(-multiple), abs=0.02)

    def test_intervals_are_independent(self) -> None:
        intervals = [right - left for left, right in pairwise(first(Poisson(200.0), 20_001))]
        mean, spread = fmean(intervals), pstdev(intervals)
        together = fmean((one - mean) * (other - mean) for one, other in pairwise(intervals))
        assert abs(together / spread**2) < 5 / math.sqrt(len(intervals))

    def test_every_seed_is_another_schedule(self) -> None:
        assert len({tuple(first(Poisson(100.0, seed), 10)) for seed in range(20)}) == 20

    def test_another_rate_is_the_same_schedule_faster(self) -> None:
        slow, quick = first(Poisson(100.0), 200), first(Poisson(200.0), 200)
        assert quick == [pytest.approx(at_ns / 2, abs=2) for at_ns in slow]

    def test_the_first_is_not_due_at_once(self) -> None:
        # Else the instant at which a load begins would be an arrival for certain.
        assert first(Poisson(100.0), 1)[0] > 0


class TestRamp:
    @given(rates, rates, st.floats(0.1, 100), st.floats(0, 10), st.integers(0, 2000))
    def test_the_nth_is_due_when_the_rate_has_added_up_to_n(
        self, start: float, end: float, over_s: float, hold_s: float, number: int
    ) -> None:
        at_s = first(Ramp(start, end, over_s, hold_s), number + 1)[number] / S
        climbing_s = min(max(at_s - hold_s, 0.0), over_s)
        mass = start * min(at_s, hold_s)
        mass += start * climbing_s + (end - start) * climbing_s**2 / over_s / 2
        mass += end * max(at_s - hold_s - over_s, 0.0)
        # Instants are whole nanoseconds.
        assert mass == pytest.approx(number, rel=1e-6, abs=2e-9 * max(start, end) + 1e-6)

    def test_counts_by_second(self) -> None:
        instants = until(Ramp(100.0, 300.0, 2.0, hold_s=1.0), 5)
        counts = [sum(second * S <= at_ns < (second + 1) * S for at_ns in instants) for second in range(5)]
        assert counts == [pytest.approx(expected, abs=1) for expected in (100, 150, 250, 300, 300)]

    def test_may_go_down_and_may_stay_level(self) -> None:
        assert len(until(Ramp(300.0, 100.0, 2.0), 2)) == pytest.approx(400, abs=1)
        assert first(Ramp(50.0, 50.0, 2.0), 200) == [
            pytest.approx(at_ns, abs=2) for at_ns in first(Constant(50.0), 200)
        ]

    def test_poisson_goes_the_same_way_on_average(self) -> None:
        counts = [len(until(Ramp(100.0, 300.0, 2.0, poisson=True, seed=seed), 2)) for seed in range(50)]
        assert fmean(counts) == pytest.approx(400, abs=5 * 20 / math.sqrt(50))
        assert pstdev(counts) == pytest.approx(20, rel=0.5)

    def test_its_rate_is_the_mean_of_the_change(self) -> None:
        assert Ramp(100.0, 300.0, 2.0, hold_s=9.0).rate == 200.0


class TestIntervals:
    @given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20).filter(any), st.integers(0, 100))
    def test_are_replayed_again_and_again(self, given_ns: list[int], number: int) -> None:
        result = first(Intervals(tuple(given_ns)), number + 2)
        assert result[0] == 0
        assert result[number + 1] - result[number] == given_ns[number % len(given_ns)]

    def test_have_the_rate_of_their_mean(self) -> None:
        assert Intervals((1_000_000, 3_000_000)).rate == pytest.approx(500.0)

    def test_are_read_from_a_file_in_microseconds(self, tmp_path: Path) -> None:
        path = tmp_path / "production.txt"
        path.write_text("1000\n\n 2500.5 \n0\n")
        read = Intervals.read(path)
        assert read == Intervals((1_000_000, 2_500_500, 0), "production.txt")
        assert read.label.startswith("intervals production.txt ")

    @pytest.mark.parametrize("line", ["soon", "1,5", "inf", "nan", "0x10"])
    def test_a_line_without_an_interval_is_named(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "bad.txt"
        path.write_text(f"1000\n\n{line}\n")
        with pytest.raises(ValueError, match=rf"bad\.txt, line 3: '{line}' is not an interval in microseconds"):
            Intervals.read(path)

    @pytest.mark.parametrize("text", ["", "\n\n", "0\n0\n", "100\n-5\n"])
    def test_a_file_without_a_schedule_is_named(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "empty.txt"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"empty\.txt: intervals must be 0 or more nanoseconds each"):
            Intervals.read(path)

    @pytest.mark.parametrize("intervals_ns", [(), (0, 0), (5, -1)])
    def test_no_time_or_negative_time_is_refused(self, intervals_ns: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="not all 0"):
            Intervals(intervals_ns)

    def test_the_same_source_with_other_intervals_has_another_label(self) -> None:
        assert Intervals((1,), "a.txt").label != Intervals((2,), "a.txt").label


class TestReseeded:
    def test_reseed_draws_other_intervals_of_the_same_kind(self) -> None:
        for arrivals in (Poisson(300.0, seed=7), Ramp(100.0, 400.0, 2.0, poisson=True)):
            schedules = {tuple(first(reseed(arrivals, number), 20)) for number in range(50)}
            assert len(schedules) == 50
            assert reseed(arrivals, 3) == reseed(arrivals, 3)

    def test_windows_of_different_seeds_do_not_share_schedules(self) -> None:
        own = {reseed(Poisson(300.0, seed=seed), number) for seed in range(5) for number in range(50)}
        assert len(own) == 250

    def test_processes_without_random_intervals_keep_theirs(self) -> None:
        for arrivals in (Constant(3.0), Intervals((5, 7))):
            assert reseed(arrivals, 4) is arrivals


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_an_impossible_rate_is_refused_by_name(bad: float) -> None:
    with pytest.raises(ValueError, match="rate must be a positive number"):
        Constant(bad)
    with pytest.raises(ValueError, match="rate must be a positive number"):
        Poisson(bad)
    with pytest.raises(ValueError, match="start_rate must be a positive number"):
        Ramp(bad, 1.0, 1.0)
    with pytest.raises(ValueError, match="end_rate must be a positive number"):
        Ramp(1.0, bad, 1.0)
    with pytest.raises(ValueError, match="over_s must be a positive number"):
        Ramp(1.0, 1.0, bad)


@pytest.mark.parametrize("bad", [-1.0, math.inf, math.nan])
def test_a_ramp_holds_for_a_time(bad: float) -> None:
    with pytest.raises(ValueError, match="hold_s"):
        Ramp(1.0, 2.0, 1.0, hold_s=bad)
