from __future__ import annotations

import pytest

from pytest_gpuperf.device.counter import Follower, Rhythm, Tick, between, integrated, rhythm_of

MS = 1_000_000


class Clock:
    """A counter that moves every ``tick_ns`` at ``watts``, read by a clock that each reading moves on."""

    def __init__(self, tick_ns: int, watts: float = 100.0, phase_ns: int = 0) -> None:
        self.now_ns, self.tick_ns, self.watts, self.phase_ns = 0, tick_ns, watts, phase_ns
        self.reset_at_ns = 0
        self.reads = 0

    def __call__(self) -> int:
        self.now_ns += 5_000
        return self.now_ns

    def energy_j(self) -> float:
        self.reads += 1
        begin_ns = self.reset_at_ns if self.reset_at_ns and self.now_ns >= self.reset_at_ns else -1_000_000_000
        whole = (self.now_ns - self.phase_ns - begin_ns) // self.tick_ns * self.tick_ns
        return whole / 1e9 * self.watts

    def follow(self, follower: Follower, until_ns: int) -> None:
        while self.now_ns < until_ns:
            self.now_ns = max(self.now_ns, follower.due_ns)
            follower.poll(self)


@pytest.mark.parametrize("tick_ms", [10, 20, 100])
def test_ticks_are_found_where_they_are(tick_ms: int) -> None:
    clock = Clock(tick_ms * MS, phase_ns=3 * MS)
    follower = Follower(clock.energy_j)
    clock.follow(follower, 700 * MS)
    rhythm = rhythm_of(follower.ticks)
    assert rhythm is not None
    assert rhythm.tick_ns == pytest.approx(tick_ms * MS, rel=0.01)
    for tick in follower.ticks:
        off_ns = (tick.at_ns - 3 * MS) % (tick_ms * MS)
        assert min(off_ns, tick_ms * MS - off_ns) <= tick.slack_ns
    clock.reads, follower.rhythm = 0, rhythm
    follower.forget()
    begin_ns = clock.now_ns
    clock.follow(follower, begin_ns + 1000 * MS)
    assert clock.reads < 150
    assert len(follower.ticks) >= 9
    span = between(follower.ticks, begin_ns + 200 * MS, begin_ns + 900 * MS)
    assert span is not None
    assert span.power_w == pytest.approx(100, rel=0.005)
    assert span.error_j < 0.01 * span.energy_j


def test_a_tick_that_came_before_it_was_waited_for_is_left_out() -> None:
    clock = Clock(100 * MS)
    follower = Follower(clock.energy_j, rhythm=Rhythm(100 * MS, MS // 2))
    clock.follow(follower, 250 * MS)
    seen = len(follower.ticks)
    clock.now_ns += 180 * MS  # the machine was busy elsewhere
    follower.poll(clock)
    assert len(follower.ticks) == seen
    clock.follow(follower, 900 * MS)
    assert all(tick.slack_ns < 2 * MS for tick in follower.ticks)


def test_a_counter_that_goes_back_is_told_and_never_a_number() -> None:
    clock = Clock(20 * MS)
    clock.reset_at_ns = 300 * MS
    follower = Follower(clock.energy_j)
    clock.follow(follower, 600 * MS)
    (at_ns,) = follower.reset_ns
    assert at_ns == pytest.approx(300 * MS, abs=2 * MS)
    assert all(tick.at_ns >= 300 * MS for tick in follower.ticks)


class TestBetween:
    ticks = tuple(Tick(at * 100 * MS, MS // 2, at * 10.0) for at in range(12))

    def test_it_is_the_last_ticks_before_both_edges(self) -> None:
        span = between(self.ticks, 230 * MS, 730 * MS)
        assert span is not None
        assert (span.start_ns, span.stop_ns, span.energy_j) == (200 * MS, 700 * MS, 50.0)
        assert span.error_j == pytest.approx(0.1)

    def test_with_none_before_the_start_it_is_the_first_one_after(self) -> None:
        span = between(self.ticks[3:], 230 * MS, 730 * MS)
        assert span is not None
        assert (span.start_ns, span.stop_ns) == (300 * MS, 700 * MS)

    @pytest.mark.parametrize("ticks", [(), ticks[:1], ticks[:5], ticks[8:]])
    def test_too_few_of_them_tell_nothing(self, ticks: tuple[Tick, ...]) -> None:
        assert between(ticks, 230 * MS, 730 * MS) is None

    def test_constant_power_is_no_missing_data(self) -> None:
        span = between([Tick(0, 0, 5.0), Tick(100 * MS, 0, 5.0)], 0, 100 * MS)
        assert span is not None
        assert span.energy_j == 0

    def test_power_that_moves_makes_the_edges_doubtful(self) -> None:
        steps = [Tick(at * 100 * MS, 0, joules) for at, joules in enumerate((0.0, 10.0, 40.0, 50.0))]
        span = between(steps, 20 * MS, 320 * MS)
        assert span is not None
        # 200 W apart, 20 ms at each edge.
        assert span.error_j == pytest.approx(100 * 0.04)


class TestRhythm:
    @pytest.mark.parametrize(
        ("tick_ms", "slack_us", "wanted_s", "window_s"),
        [(100, 500, 0.7, 0.7), (100, 500, 0.33, 0.4), (10, 500, 0.7, 0.7), (30, 500, 0.7, 0.72), (100, 5000, 0.3, 1.0)],
    )
    def test_windows(self, tick_ms: int, slack_us: int, wanted_s: float, window_s: float) -> None:
        rhythm = Rhythm(tick_ms * MS, slack_us * 1000)
        assert rhythm.window_s(wanted_s, 5.0) == pytest.approx(window_s)

    def test_they_are_not_lengthened_without_end(self) -> None:
        assert Rhythm(2000 * MS, 25 * MS).window_s(0.7, 5.0) == pytest.approx(4.0)
        assert Rhythm(0, 100 * MS).window_s(0.7, 5.0) == pytest.approx(5.0)
        assert Rhythm(2000 * MS, 25 * MS).window_s(7.0, 5.0) == 7.0

    def test_two_ticks_are_too_few(self) -> None:
        assert rhythm_of([Tick(0, 1, 0.0), Tick(10, 1, 1.0)]) is None


class TestIntegrated:
    def test_a_constant_is_exact(self) -> None:
        span = integrated([(at * 20 * MS, 250.0) for at in range(60)], 100 * MS, 1000 * MS)
        assert span is not None
        assert span.energy_j == pytest.approx(225.0)
        assert span.error_j == 0

    def test_a_ramp_behind_a_slow_sensor(self) -> None:
        """The sensor holds its value for 100 ms, and is read every 20 ms."""
        samples = [(at * 20 * MS, 100.0 + at // 5 * 10) for at in range(60)]
        span = integrated(samples, 200 * MS, 1000 * MS, 100 * MS)
        assert span is not None
        assert span.energy_j == pytest.approx(0.8 * 160, rel=0.01)

    def test_a_step_is_known_to_half_of_a_reading(self) -> None:
        samples = [(at * 20 * MS, 100.0 if at < 20 else 300.0) for at in range(60)]
        span = integrated(samples, 0, 1000 * MS)
        assert span is not None
        assert span.energy_j == pytest.approx(0.39 * 100 + 0.61 * 300)
        assert span.error_j == pytest.approx(2.0)

    @pytest.mark.parametrize("samples", [[], [(0, 1.0)], [(0, 1.0), (100 * MS, 1.0)]])
    def test_readings_that_do_not_reach_tell_nothing(self, samples: list[tuple[int, float]]) -> None:
        assert integrated(samples, 0, 1000 * MS) is None

    @pytest.mark.parametrize("tick_ns", [99_600_000, 99_999_999, 100_000_001, 100_400_000])
    def test_a_rhythm_that_was_measured_a_little_wrong_makes_windows_no_longer(self, tick_ns: int) -> None:
        """Else one side of a duet, or one GPU beside another, would have windows longer by a whole grid."""
        assert Rhythm(tick_ns, MS // 2).window_s(0.3, 5.0) == pytest.approx(0.3, rel=0.005)
