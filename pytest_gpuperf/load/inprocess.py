"""Closed-loop load on a call in this process, from as many threads as the concurrency says.

Only calls that release the interpreter lock (inference engines do) run side by side; for others the concurrency
measures the queue in front of the lock, as it would in production.
"""

from __future__ import annotations

import gc
import threading
import time
from array import array

from pytest_gpuperf.load.generator import Recording, WindowSpec
from pytest_gpuperf.model import CallWorkload, Workload

now_ns = time.monotonic_ns

_POLL_S = 0.02


class _Lane(threading.Thread):
    """One of the callers: calls, stamps two clocks, until told to stop."""

    def __init__(self, workload: CallWorkload, stop: threading.Event, go: threading.Event) -> None:
        super().__init__(daemon=True, name="gpuperf-load")
        self._call, self._stop_event, self._go = workload.call, stop, go
        self.sent = array("q")
        self.done = array("q")
        self.errors: list[tuple[int, str]] = []
        self.sample = ""
        self.started = 0

    def run(self) -> None:
        self._go.wait()
        call, stopped = self._call, self._stop_event.is_set
        sent, done = self.sent, self.done
        while not stopped():
            self.started += 1
            begin = now_ns()
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - the user's code (or pytest.fail in it): whatever it raises is a failed request, counted by its type
                self.errors.append((begin, type(error).__name__))
                self.sample = self.sample or f"{type(error).__name__}: {error}"
                # As for a server that fails fast: errors must not drown the answers.
                time.sleep(_POLL_S)
            else:
                done.append(now_ns())
                sent.append(begin)


class ThreadLoop:
    """A ``LoadGenerator`` for in-process calls."""

    def window(self, workload: Workload, spec: WindowSpec) -> Recording:
        assert isinstance(workload, CallWorkload)
        if spec.once:
            return self._single(workload, spec)
        stop, go = threading.Event(), threading.Event()
        lanes = [_Lane(workload, stop, go) for _ in range(spec.concurrency)]
        for lane in lanes:
            lane.start()
        collecting = gc.isenabled()
        gc.disable()
        try:
            go.set()
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
        return _recording(lanes, start_ns, stop_ns, lost)

    def close(self) -> None:
        """The threads of a window end with it."""

    def _single(self, workload: CallWorkload, spec: WindowSpec) -> Recording:
        """One call for each of the concurrent callers, and no more: the smoke run."""
        stop, go = threading.Event(), threading.Event()
        lane = _Lane(workload, stop, go)
        begin_ns = now_ns()
        for _ in range(max(spec.min_requests, 1)):
            sent_ns = now_ns()
            try:
                workload.call()
            except Exception as error:  # noqa: BLE001 - the user's code, as above
                lane.errors.append((sent_ns, type(error).__name__))
                lane.sample = lane.sample or f"{type(error).__name__}: {error}"
            else:
                lane.sent.append(sent_ns)
                lane.done.append(now_ns())
        return _recording([lane], begin_ns, now_ns(), "")

    @staticmethod
    def _time(lanes: list[_Lane], spec: WindowSpec) -> tuple[int, int, str]:
        """Wait for the window's start and its end."""
        begin_ns = now_ns()

        def unanswered() -> int:
            return sum(1 for lane in lanes if not len(lane.done) + len(lane.errors))

        time.sleep(spec.lead_in_s)
        while unanswered():
            if now_ns() - begin_ns > spec.deadline_s * 1e9:
                return (
                    begin_ns,
                    now_ns(),
                    f"{unanswered()} of {len(lanes)} calls did not return within {spec.deadline_s:g} s",
                )
            time.sleep(_POLL_S)
        start_ns = now_ns()
        stop_ns = start_ns + int(spec.window_s * 1e9)
        before = sum(lane.started for lane in lanes)
        while True:
            time.sleep(max(stop_ns - now_ns(), 0) / 1e9)
            if sum(lane.started for lane in lanes) - before >= spec.min_requests:
                break
            if stop_ns - start_ns >= spec.max_window_s * 1e9:
                break
            stop_ns += max(int(spec.window_s * 5e8), int(_POLL_S * 1e9))
        # Follow the requests of the window to their end under the same load.
        tail = [len(lane.done) + len(lane.errors) for lane in lanes]
        limit_ns = now_ns() + int(spec.deadline_s * 1e9)
        while any(len(lane.done) + len(lane.errors) <= count for lane, count in zip(lanes, tail, strict=True)):
            if now_ns() > limit_ns:
                return start_ns, stop_ns, f"a call did not return within {spec.deadline_s:g} s"
            time.sleep(_POLL_S / 4)
        return start_ns, stop_ns, ""


def _recording(lanes: list[_Lane], start_ns: int, stop_ns: int, lost: str) -> Recording:
    sent, done = array("q"), array("q")
    errors: dict[str, int] = {}
    for lane in lanes:
        count = min(len(lane.sent), len(lane.done))
        sent.extend(lane.sent[:count])
        done.extend(lane.done[:count])
        for sent_ns, kind in lane.errors:
            if start_ns <= sent_ns < stop_ns:
                errors[kind] = errors.get(kind, 0) + 1
    return Recording(
        start_ns=start_ns,
        stop_ns=stop_ns,
        sent_ns=sent,
        done_ns=done,
        errors=errors,
        error_sample=next((lane.sample for lane in lanes if lane.sample), ""),
        # The callers *are* the work here: there is no client apart from it whose cost could be told.
        cpu_s=0.0,
        lane_count=len(lanes),
        lost=lost,
    )
