"""Load on a call in this process: from ``concurrency`` threads, or at scheduled instants.

Only calls that release the interpreter lock (inference engines do) run in parallel; for others the concurrency measures
the queue in front of the lock, as it would in production.
"""

from __future__ import annotations

import gc
import threading
from array import array
from collections import Counter
from dataclasses import replace

from pytest_gpuperf.clock import cpu_wait_s, time
from pytest_gpuperf.load.generator import Recording, Times, WindowSpec
from pytest_gpuperf.load.tally import Failures, Stops, most_frequent
from pytest_gpuperf.model import UNSTARTED_RESULTS, Arrivals, CallWorkload, Workload

now_ns = time.monotonic_ns

_POLL_S = 0.02
#: Interval at which stops of this process are noticed, if another thread than the main one got the signal.
_STOPS_S = 0.05
#: Threads that wait for scheduled calls, and so the most calls that run at once.
_OPEN_LANES = 64


class _Schedule:
    """The instants of an open loop, each for a single lane."""

    def __init__(self, arrivals: Arrivals, begin_ns: int) -> None:
        self._instants, self._begin_ns = arrivals.instants(), begin_ns
        self._lock = threading.Lock()

    def next_ns(self) -> int:
        with self._lock:
            return self._begin_ns + next(self._instants)


class _Lane(threading.Thread):
    """A caller: calls and notes two times, until it is stopped.

    Attributes:
        due_now_ns: When the call that it makes or waits for is due (open loop).
        call_error: The first exception that a call raised.
        wait_s: Time in the window in which the thread was ready to run, but waited for a CPU.
    """

    def __init__(
        self, workload: CallWorkload, stop: threading.Event, go: threading.Event, deadline_s: float = 0.0
    ) -> None:
        super().__init__(daemon=True, name="gpuperf-load")
        self._call, self._stop_event, self._go, self._deadline_s = workload.call, stop, go, deadline_s
        self.schedule: _Schedule | None = None
        self.due = array("q")
        self.sent = array("q")
        self.done = array("q")
        self.failures = Failures()
        self.started = 0
        self.due_now_ns = 0
        self.call_error: BaseException | None = None
        self.wait_s = 0.0

    def waited_s(self) -> float:
        """Return how long the thread has waited for a CPU since it began."""
        return cpu_wait_s(f"self/task/{self.native_id}")

    @property
    def settled(self) -> int:
        """Number of calls that are over."""
        return len(self.done) + len(self.failures)

    def run(self) -> None:
        self._go.wait()
        stopped, schedule = self._stop_event.is_set, self.schedule
        while not stopped():
            if schedule is not None:
                self.due_now_ns = schedule.next_ns()
                if self._stop_event.wait(max(self.due_now_ns - now_ns(), 0) / 1e9):
                    return
                if now_ns() - self.due_now_ns > self._deadline_s * 1e9:
                    why = f"not called within {self._deadline_s:g} s, since all callers were busy with earlier calls"
                    self.failures.add(self.due_now_ns, "timeout", why)
                    continue
            if not self.call(self.due_now_ns) and schedule is None:
                # As for a server that fails fast: errors must not drown the answers.
                time.sleep(_POLL_S)

    def call(self, due_ns: int = 0) -> bool:
        """Make a call; return whether it ended without an exception, and with its work done."""
        self.started += 1
        begin = now_ns()
        try:
            # The result is freed before the clock is read: that is part of a call's cost.
            kind = type(self._call())
        except BaseException as error:  # noqa: BLE001 - the user's code (or pytest.fail in it): whatever it raises is a failed request, counted by its type
            self.call_error = self.call_error or error
            self.failures.add(due_ns or begin, type(error).__name__, _text_of(error))
            return False
        done = now_ns()
        if kind in UNSTARTED_RESULTS:
            self.failures.add(due_ns or begin, "not begun", f"the call returns {UNSTARTED_RESULTS[kind]}")
            return False
        self.done.append(done)
        self.sent.append(begin)
        self.due.append(due_ns or begin)
        return True


class ThreadLoop:
    """A ``LoadGenerator`` for in-process calls."""

    def window(self, workload: Workload, spec: WindowSpec) -> Recording:
        assert isinstance(workload, CallWorkload)
        if spec.once:
            return self._single(workload, spec)
        stop, go = threading.Event(), threading.Event()
        count = spec.concurrency if spec.arrivals is None else min(_OPEN_LANES, spec.max_in_flight)
        lanes = [_Lane(workload, stop, go, spec.deadline_s) for _ in range(count)]
        schedule = None if spec.arrivals is None else _Schedule(spec.arrivals, now_ns())
        for lane in lanes:
            lane.schedule = schedule
            lane.start()
        collecting = gc.isenabled()
        gc.disable()
        try:
            go.set()
            with Stops() as stops:
                start_ns, stop_ns, lost = self._time(lanes, spec)
        finally:
            stop.set()
            if collecting:
                gc.enable()
        end_s = time.monotonic() + spec.deadline_s
        for lane in lanes:
            lane.join(max(end_s - time.monotonic(), 0))
            if lane.is_alive():
                lost = f"a call did not return within {spec.deadline_s:g} s"
        wait_s = sum(lane.wait_s for lane in lanes)
        return replace(_recording(lanes, start_ns, stop_ns, lost), wait_s=wait_s, stops=stops.within(start_ns, stop_ns))

    def close(self) -> None:
        """Do nothing: the threads of a window end with it."""

    def _single(self, workload: CallWorkload, spec: WindowSpec) -> Recording:
        """Make a single call for each concurrent caller: the smoke run."""
        lane = _Lane(workload, threading.Event(), threading.Event())
        begin_ns = now_ns()

        def calls() -> None:
            for _ in range(max(spec.min_requests, 1)):
                lane.call()

        # In a thread, so that a call that never returns doesn't hang the test.
        caller = threading.Thread(target=calls, daemon=True, name="gpuperf-load")
        caller.start()
        caller.join(spec.deadline_s)
        lost = f"a call did not return within {spec.deadline_s:g} s" if caller.is_alive() else ""
        return _recording([lane], begin_ns, now_ns(), lost)

    @staticmethod
    def _time(lanes: list[_Lane], spec: WindowSpec) -> tuple[int, int, str]:
        """Wait for the window's start and its end."""
        begin_ns = now_ns()

        def unanswered() -> int:
            waiting = sum(1 for lane in lanes if not lane.settled)
            return waiting if spec.arrivals is None else int(waiting == len(lanes))

        time.sleep(spec.lead_in_s)
        while unanswered():
            if now_ns() - begin_ns > spec.deadline_s * 1e9:
                return (
                    begin_ns,
                    now_ns(),
                    f"{unanswered()} of {len(lanes)} calls did not return within {spec.deadline_s:g} s",
                )
            time.sleep(_POLL_S)
        for lane in lanes:
            lane.wait_s = -lane.waited_s()
        start_ns = now_ns()
        stop_ns = start_ns + int(spec.window_s * 1e9)
        before = sum(lane.started for lane in lanes)
        while True:
            while (left_ns := stop_ns - now_ns()) > 0:
                time.sleep(min(left_ns / 1e9, _STOPS_S))
            if sum(lane.started for lane in lanes) - before >= spec.min_requests:
                break
            if stop_ns - start_ns >= spec.max_window_s * 1e9:
                break
            stop_ns += max(int(spec.window_s * 5e8), int(_POLL_S * 1e9))
        for lane in lanes:
            lane.wait_s += lane.waited_s()
        # Follow the requests of the window to their end under the same load.
        tail = [lane.settled for lane in lanes]

        def followed(lane: _Lane, before: int) -> bool:
            # In open loop a lane takes its calls in the schedule's order.
            return lane.settled > before if spec.arrivals is None else lane.due_now_ns >= stop_ns

        # In open loop a call may have waited that long before it was made.
        limit_ns = now_ns() + int(spec.deadline_s * (1e9 if spec.arrivals is None else 2e9))
        while not all(followed(lane, before) for lane, before in zip(lanes, tail, strict=True)):
            if now_ns() > limit_ns:
                return start_ns, stop_ns, f"a call did not return within {spec.deadline_s:g} s"
            time.sleep(_POLL_S / 4)
        return start_ns, stop_ns, ""


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the user's __str__
        return "(its text can't be read)"


def _recording(lanes: list[_Lane], start_ns: int, stop_ns: int, lost: str) -> Recording:
    due, sent, done = array("q"), array("q"), array("q")
    errors = Counter[str]()
    sentences: dict[str, Counter[str]] = {}
    for lane in lanes:
        count = min(len(lane.due), len(lane.done))
        due.extend(lane.due[:count])
        sent.extend(lane.sent[:count])
        done.extend(lane.done[:count])
        failures = lane.failures.within(start_ns, stop_ns)
        errors.update(failures.errors)
        for kind, counts in failures.sentences.items():
            sentences.setdefault(kind, Counter()).update(counts)
    # In closed loop a call is due when it is made: the same numbers, and the same object says so.
    due_ns, sent_ns = memoryview(due), memoryview(sent)
    if all(lane.schedule is None for lane in lanes):
        due_ns = sent_ns
    return Recording(
        start_ns=start_ns,
        stop_ns=stop_ns,
        lanes=(Times(due_ns, sent_ns, memoryview(done)),),
        errors=dict(errors),
        error_sample=next((lane.failures.sample for lane in lanes if lane.failures.sample), ""),
        error_sentences=most_frequent(sentences),
        call_error=next((lane.call_error for lane in lanes if lane.call_error is not None), None),
        # The callers do the measured work themselves: there is no separate client whose cost could be measured.
        cpu_s=0.0,
        workers=len(lanes),
        lost=lost,
    )
