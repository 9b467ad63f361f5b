"""The search for the highest load within a latency budget, with as few windows as the noise allows.

Doubling, then bisection on the log scale, then confirmation: the answer and the next load above it are measured
alternately, until fresh windows have decided both. Three rules keep noise from sending the search to the wrong half:

* A load is judged by an interval (``budget.judge``) and measured again while it is undecided. A load that stays
  undecided counts as over the budget, so the answer errs on the low side, by less than the windows' noise.
* The spread of windows is learned from all loads together.
* Where the confirmation contradicts earlier windows (a hiccup, a machine that has slowed down since, a latency that
  falls again with larger batches), the newer windows win, and the search continues from there.

The search assumes that latency rises with the load, apart from bumps: in closed loop it tries one doubling beyond the
first load that is over the budget, since a server that waits for a batch to fill may be slower with few clients.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_gpuperf.analysis.interval import Spread, pooled_spread, quantile_logs
from pytest_gpuperf.measure.ask import Ask, Steps
from pytest_gpuperf.measure.budget import LEAST_WINDOWS, JudgedLoad, judge
from pytest_gpuperf.measure.search_range import CONCURRENCIES, SearchRange
from pytest_gpuperf.model import Budget, Window


@dataclass(frozen=True)
class SearchPlan:
    """The settings of a search.

    Attributes:
        loads: Range of the answer.
        tolerance: Largest share between the answer and the next higher load that was tried (unless they are adjacent
            whole numbers).
        most_windows: Most windows at a load that stays undecided, before the confirmation.
        final_windows: Most windows at the answer and its neighbour. With windows that differ by a tenth, 16 make an
            interval of 4% to each side, which is just below ``tolerance``.
        confirm_windows: Fresh windows at the answer and its neighbour. Three decide a change of a tenth.
        rounds: Most attempts; another begins when fresh windows contradict the answer.
        limit_windows: Most windows of a search.
    """

    budget: Budget
    loads: SearchRange = CONCURRENCIES
    tolerance: float = 0.05
    most_windows: int = 8
    final_windows: int = 16
    confirm_windows: int = 3
    rounds: int = 4
    limit_windows: int = 200

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must be between 0 and 1, got {self.tolerance}")
        if not LEAST_WINDOWS <= self.most_windows <= self.final_windows <= self.limit_windows:
            raise ValueError(f"{LEAST_WINDOWS} <= most_windows <= final_windows <= limit_windows must hold: {self}")


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        answer: The highest load within the budget; None when even the lowest is not.
        confirmed: Whether fresh windows at the answer and its neighbour agreed with it at the end.
        judged: Every load that was measured, in increasing order.
        windows: Number of windows measured.
        reason: Why the search ended where it did, as a sentence.
    """

    answer: float | None
    confirmed: bool
    judged: tuple[JudgedLoad, ...]
    windows: int
    reason: str


def search(plan: SearchPlan) -> Steps[SearchResult]:
    """Ask for windows (see ``ask.Steps``) until the answer is known.

    In simulations (tests/unit/measure/test_search.py) with windows that differ by a tenth, 95 of 100 searches or more
    end within 10% of the true capacity, and none further above it, after 35 to 60 windows on average. Bisection on
    single values takes 10 to 12 windows; in closed loop a fifth of its answers are off by more than 10%, half of those
    too high.
    """
    return _Search(plan).run()


class _Search:
    def __init__(self, plan: SearchPlan) -> None:
        self._plan = plan
        self._windows: dict[float, list[Window]] = {}
        #: The log of each window's quantile, which shows the noise; same keys and order.
        self._logs: dict[float, list[float]] = {}
        #: Index of the first window of a load that is still valid.
        self._since: dict[float, int] = {}
        #: Verdicts on the loads; valid until the next window.
        self._verdicts: dict[float, JudgedLoad] = {}

    def run(self) -> Steps[SearchResult]:
        low, high = yield from self._climb(None, float(self._plan.loads.lowest))
        confirmed = False
        for _ in range(self._plan.rounds):
            low, high = yield from self._bisect(low, high)
            bisected = low, high
            low, high = yield from self._confirm(low, high)
            confirmed = (low, high) == bisected and not self._spent
            if confirmed or self._spent:
                break
        return self._result(low, high, confirmed)

    def _climb(self, low: float | None, load: float) -> Steps[tuple[float | None, float | None]]:
        """Double from ``load`` until it is over the budget; ``low`` is known to be within."""
        plan = self._plan
        while True:
            here = yield from self._settle(load, plan.most_windows)
            further = plan.loads.doubled(load)
            if here.verdict != "within":
                # An open loop over its capacity leaves a queue behind, that takes long to drain.
                stop = here.overload or (plan.loads.open_loop and here.verdict == "over")
                if stop or further == load or self._spent:
                    return low, load
                beyond = yield from self._settle(further, LEAST_WINDOWS)
                if beyond.verdict != "within":
                    return low, load
                load = further
            low = load
            if load == plan.loads.highest:
                return low, None
            load = plan.loads.doubled(load)

    def _bisect(self, low: float | None, high: float | None) -> Steps[tuple[float | None, float | None]]:
        while low is not None and high is not None and not self._spent:
            middle = self._plan.loads.between(low, high, self._plan.tolerance)
            if middle is None:
                break
            here = yield from self._settle(middle, self._plan.most_windows)
            if here.verdict == "within":
                low = middle
            else:
                high = middle
        return low, high

    def _confirm(self, low: float | None, high: float | None) -> Steps[tuple[float | None, float | None]]:
        """Return the same pair if fresh windows confirm it, else the pair to continue from."""
        plan = self._plan
        pair = [load for load in (low, high) if load is not None]
        before = {load: len(self._windows.get(load, ())) for load in pair}
        due = pair
        turn = 0
        while due and not self._spent:
            for load in due if turn % 2 else due[::-1]:
                yield from self._measure(load, 1)
            turn += 1
            for load in pair:
                self._refresh(load, before[load])
            due = [
                load
                for load in pair
                if turn < plan.confirm_windows
                or (self._judged(load).verdict == "undecided" and self._count(load) < plan.final_windows)
            ]
        if high is not None and self._judged(high).verdict == "within":
            above = [load for load in self._windows if load > high and self._judged(load).verdict != "within"]
            if above:
                return high, min(above)
            if high == plan.loads.highest:
                return high, None
            return (yield from self._climb(high, plan.loads.doubled(high)))
        if low is not None and self._judged(low).verdict != "within":
            below = [load for load in self._windows if load < low and self._judged(load).verdict == "within"]
            return max(below, default=None), low
        return low, high

    def _settle(self, load: float, most: int) -> Steps[JudgedLoad]:
        """Measure a load until it is decided, at most ``most`` times."""
        while not self._spent:
            count = self._count(load)
            if count < LEAST_WINDOWS:
                yield from self._measure(load, LEAST_WINDOWS - count)
            elif count < most and self._judged(load).verdict == "undecided":
                yield from self._measure(load, 1)
            else:
                break
        return self._judged(load)

    def _measure(self, load: float, visits: int) -> Steps[None]:
        windows = yield Ask(load, visits)
        self._verdicts.clear()
        self._windows.setdefault(load, []).extend(windows)
        quantile = self._plan.budget.limits[0].quantile
        self._logs.setdefault(load, []).extend(quantile_logs(windows, quantile))

    def _refresh(self, load: float, before: int) -> None:
        """Drop a load's windows from before the confirmation if fresh windows alone have the opposite verdict."""
        fresh = judge(load, self._windows[load][before:], self._plan.budget, self._spread(load))
        if {fresh.verdict, self._judged(load).verdict} == {"within", "over"}:
            self._since[load] = before
            del self._verdicts[load]

    def _judged(self, load: float) -> JudgedLoad:
        if load not in self._verdicts:
            self._verdicts[load] = judge(load, self._current(load), self._plan.budget, self._spread(load))
        return self._verdicts[load]

    def _current(self, load: float) -> list[Window]:
        return self._windows.get(load, [])[self._since.get(load, 0) :]

    def _count(self, load: float) -> int:
        return len(self._current(load))

    def _spread(self, load: float) -> Spread:
        """Return how far windows differ at the other loads."""
        return pooled_spread(logs for measured_load, logs in self._logs.items() if measured_load != load)

    @property
    def _total(self) -> int:
        return sum(map(len, self._windows.values()))

    @property
    def _spent(self) -> bool:
        return self._total >= self._plan.limit_windows

    def _result(self, low: float | None, high: float | None, confirmed: bool) -> SearchResult:
        judged = tuple(self._judged(load) for load in sorted(self._windows))
        return SearchResult(low, confirmed, judged, self._total, self._reason(low, high, confirmed))

    def _reason(self, low: float | None, high: float | None, confirmed: bool) -> str:
        budget = self._plan.budget.label
        if low is None:
            first = self._judged(self._plan.loads.lowest)
            text = f"the lowest load, {first.load:g}, is not within {budget}: {_explained(first)}"
        elif high is None:
            text = f"the highest load allowed, {low:g}, keeps {budget}: raise it to find the limit"
        else:
            text = f"{low:g} keeps {budget} ({self._judged(low).why}); the next load tried, {high:g}, "
            text += "does not" if self._judged(high).verdict == "over" else "is too close to the budget to decide"
            text += f" ({self._judged(high).why})"
        if not confirmed:
            spent = f"after {self._total} windows" if self._spent else f"in {self._plan.rounds} attempts"
            text += f"; not confirmed {spent}: the machine is too noisy, or its speed changes"
        return text


def _explained(judged: JudgedLoad) -> str:
    return judged.why if judged.verdict == "over" else f"{judged.why}, undecided after {judged.windows} windows"
