"""The highest load that keeps within a latency budget, found with as few windows as the noise allows.

Doubling, then bisection on the log scale, then confirmation: the answer and the next load above it are measured
alternately, until both are decided afresh. Three things keep noise from sending the search to the wrong half:

* a load is judged by an interval (``budget.judge``) and measured again while it is undecided; what stays undecided
  counts as over the budget, so the answer errs on the low side, by less than the windows' noise;
* how far windows differ is learned from all loads together;
* where the confirmation contradicts what was found before (a hiccup, a machine that has slowed down since, a latency
  that falls again with larger batches), the newer windows win, and the search goes on from there.

Latency is taken to rise with the load, apart from bumps: in closed loop the search looks one doubling beyond the first
load that is over the budget, since a server that waits for a batch to fill may be slower with few clients.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_gpuperf.analysis.interval import Spread, pooled, quantile_logs
from pytest_gpuperf.measure.ask import Ask, Steps
from pytest_gpuperf.measure.budget import LEAST_WINDOWS, JudgedLoad, judge
from pytest_gpuperf.measure.search_range import CONCURRENCIES, SearchRange
from pytest_gpuperf.model import Budget, Window


@dataclass(frozen=True)
class SearchPlan:
    """What to look for, and how.

    Attributes:
        loads: where the answer may lie.
        tolerance: the answer and the next higher load that was tried are at most this share apart (or are adjacent
            whole numbers).
        most_windows: at a load that stays undecided while the search is still on its way.
        final_windows: at the answer and its neighbour. With windows that differ by a tenth, 16 make an interval of 4%
            to each side, which is just below ``tolerance``.
        confirm_windows: fresh windows at the answer and its neighbour, alternately. Three decide a change of a tenth.
        rounds: how often a contradicted answer may be sought again.
        limit_windows: of the whole search.
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
            raise ValueError(f"a tolerance is a share between 0 and 1, not {self.tolerance}")
        if not LEAST_WINDOWS <= self.most_windows <= self.final_windows <= self.limit_windows:
            raise ValueError(f"{LEAST_WINDOWS} <= most_windows <= final_windows <= limit_windows, not {self}")


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        answer: the highest load within the budget; None when even the lowest is not.
        confirmed: fresh windows at the answer and its neighbour agreed with it at the end.
        judged: every load that was measured, in increasing order.
        windows: how many were measured in all.
        reason: why the search ended where it did; a sentence for people.
    """

    answer: float | None
    confirmed: bool
    judged: tuple[JudgedLoad, ...]
    windows: int
    reason: str


def search(plan: SearchPlan) -> Steps[SearchResult]:
    """Ask for windows until the answer is known; see ``ask.Steps`` for how to be asked.

    By simulation (tests/unit/measure/test_search.py), with windows that differ by a tenth: within 10% of the true
    capacity in 95 of 100 searches or more, never further above it, for 35 to 60 windows on average. Bisection on single
    values takes 10 to 12, and in closed loop is off by more than 10% in about one of five, half of those too high.
    """
    return _Search(plan).run()


class _Search:
    def __init__(self, plan: SearchPlan) -> None:
        self._plan = plan
        self._windows: dict[float, list[Window]] = {}
        #: The log of each window's quantile, for what they show of the noise; same keys and order.
        self._logs: dict[float, list[float]] = {}
        #: Windows of a load before this one are out of date.
        self._since: dict[float, int] = {}
        #: Valid until the next window.
        self._verdicts: dict[float, JudgedLoad] = {}

    def run(self) -> Steps[SearchResult]:
        low, high = yield from self._climb(None, float(self._plan.loads.lowest))
        confirmed = False
        for _ in range(self._plan.rounds):
            low, high = yield from self._bisect(low, high)
            found = low, high
            low, high = yield from self._confirm(low, high)
            confirmed = (low, high) == found and not self._spent
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
        """The same pair again if fresh windows bear it out, else the pair to go on from."""
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
        """Measure a load until it is decided, or has had its share of windows."""
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
        """Forget what a load's windows said before the confirmation, if fresh ones alone say the opposite."""
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
        """How far windows differ at the other loads."""
        return pooled(logs for other, logs in self._logs.items() if other != load)

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
            text = f"the lowest load, {first.load:g}, is not within {budget}: {_said(first)}"
        elif high is None:
            text = f"the highest load allowed, {low:g}, keeps {budget}: raise it to find the limit"
        else:
            text = f"{low:g} keeps {budget} ({self._judged(low).why}); the next load tried, {high:g}, "
            text += "does not" if self._judged(high).verdict == "over" else "is too close to the budget to tell"
            text += f" ({self._judged(high).why})"
        if not confirmed:
            spent = f"after {self._total} windows" if self._spent else f"in {self._plan.rounds} attempts"
            text += f"; not confirmed {spent}: the machine is too noisy, or changes"
        return text


def _said(judged: JudgedLoad) -> str:
    return judged.why if judged.verdict == "over" else f"{judged.why}, undecided after {judged.windows} windows"
