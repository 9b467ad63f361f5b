from __future__ import annotations

import gc
import importlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import takewhile
from multiprocessing import Pipe

import psutil
import pytest

from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.load import WindowSpec, open_generator
from pytest_gpuperf.load import generator as generator_module
from pytest_gpuperf.load import process as process_module
from pytest_gpuperf.load.process import WorkerProcesses
from pytest_gpuperf.model import Arrivals, Constant, Poisson, Request
from tests.processes import ended
from tests.unit.load.hostile import Exchange, Server, answers, in_turn, response, silence
from tests.unit.load.wire import MS, column, inside, latencies, outstanding, request_bytes, workload

OK = response()
BUSY = response(b"queue is full", "503 Service Unavailable")


def workers(process: psutil.Process | None = None) -> list[psutil.Process]:
    children = (process or psutil.Process()).children()
    end = time.monotonic() + 2
    # A process that has just been started may not show its command yet.
    while any(child.is_running() and not child.cmdline() for child in children) and time.monotonic() < end:
        time.sleep(0.01)
    return [child for child in children if "pytest_gpuperf.load.worker" in child.cmdline()]


@contextmanager
def killed(process: psutil.Process, after_s: float) -> Iterator[None]:
    timer = threading.Timer(after_s, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def wait_for_requests(server: Server) -> None:
    deadline = time.monotonic() + 20
    while not server.requests:
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestWindow:
    def test_records_what_the_server_answered_on_this_process_clock(self) -> None:
        with Server(answers(OK, after_s=0.01)) as server, closing(WorkerProcesses()) as worker:
            begin_ns = time.monotonic_ns()
            recording = worker.window(workload(server), WindowSpec(3, 0.2))
            assert len(column(recording, "sent")) == recording.answered == server.requests > 10
            assert server.at_once == 3
        assert begin_ns < min(column(recording, "sent")) < recording.start_ns < recording.stop_ns < time.monotonic_ns()
        assert recording.stop_ns - recording.start_ns == 200 * MS
        assert min(latencies(recording)) >= 10 * MS
        assert not recording.errors
        assert 0 < recording.cpu_s < 0.2

    def test_connections_outlive_a_window(self) -> None:
        with Server(answers(OK, after_s=0.002)) as server, closing(WorkerProcesses()) as worker:
            for concurrency in (3, 1, 2):
                worker.window(workload(server), WindowSpec(concurrency, 0.05))
            assert server.connections == 3

    def test_workloads_may_alternate(self) -> None:
        with Server(answers(OK)) as server, closing(WorkerProcesses()) as worker:
            small, large = (workload(server, body=body) for body in (b"x", b"x" * 1_000_000))
            for load in (small, large, small, large):
                server.seen.clear()
                recording = worker.window(load, WindowSpec(1, 0.05))
                assert server.seen == {request_bytes(server, load.rotations[0][0].body)}
                assert not recording.errors

    def test_servers_may_alternate(self) -> None:
        with Server(answers(OK)) as first, Server(answers(OK)) as second, closing(WorkerProcesses()) as worker:
            for server in (first, second, first):
                before = server.requests
                recording = worker.window(workload(server), WindowSpec(2, 0.05))
                assert recording.answered == server.requests - before > 0

    def test_a_silent_server_is_a_timeout(self) -> None:
        with Server(silence) as server, closing(WorkerProcesses()) as worker:
            recording = worker.window(workload(server), WindowSpec(2, 0.1, deadline_s=0.15))
        assert recording.errors.keys() == {"timeout"}
        assert not recording.answered

    def test_a_server_that_dies_ends_the_window_and_not_the_worker(self) -> None:
        def behave(exchange: Exchange) -> None:
            if exchange.number == 10:
                server.die()
            exchange.send(OK)

        with closing(WorkerProcesses()) as worker:
            with Server(behave) as server:
                begin = time.monotonic()
                recording = worker.window(workload(server), WindowSpec(2, 30.0))
                assert time.monotonic() - begin < 6
            assert recording.lost
            assert "connection refused" in recording.errors
            with Server(answers(OK)) as server:
                assert not worker.window(workload(server), WindowSpec(2, 0.05)).lost

    def test_a_smoke_run_sends_exactly_what_was_asked_for(self) -> None:
        with Server(answers(OK, after_s=0.02)) as server, closing(WorkerProcesses()) as worker:
            recording = worker.window(workload(server), WindowSpec(4, 0.0, lead_in_s=0.0, min_requests=4))
            assert server.requests == recording.answered == 4


class TestSeveral:
    """Workers that share one window."""

    @pytest.mark.parametrize("count", [2, 3])
    def test_share_the_concurrency_and_the_window(self, count: int) -> None:
        with Server(answers(OK, after_s=0.01)) as server, closing(WorkerProcesses(count)) as generator:
            recording = generator.window(workload(server), WindowSpec(7, 0.3))
            assert server.at_once == server.connections == 7
            assert recording.answered == server.requests
        assert recording.workers == len(recording.lanes) == count
        assert recording.stop_ns - recording.start_ns == 300 * MS
        assert 0.6 * 7 < outstanding(recording) <= 7 + 1e-9
        assert not recording.errors
        busy = [
            sum(done - sent for sent, done in zip(lane.sent_ns, lane.done_ns, strict=True)) for lane in recording.lanes
        ]
        # 7 is 4 and 3, or 3, 2 and 2: no worker does twice the work of another.
        assert max(busy) < 2.2 * min(busy)

    @pytest.mark.parametrize("count", [2, 3])
    def test_begin_together_and_load_the_server_beyond_both_edges(self, count: int) -> None:
        with Server(answers(OK, after_s=0.005)) as server, closing(WorkerProcesses(count)) as generator:
            generator.window(workload(server), WindowSpec(count, 0.05))
            recording = generator.window(workload(server), WindowSpec(2 * count, 0.3, lead_in_s=0.2))
        begins = [min(lane.sent_ns) for lane in recording.lanes]
        assert max(begins) - min(begins) < 150 * MS, "less than the lead-in"
        for lane in recording.lanes:
            assert min(lane.sent_ns) < recording.start_ns
            assert max(lane.done_ns) >= recording.stop_ns
            # In every third of the window.
            third_ns = (recording.stop_ns - recording.start_ns) // 3
            assert {(sent - recording.start_ns) // third_ns for sent in lane.sent_ns} >= {0, 1, 2}

    def test_are_no_more_than_there_are_requests(self) -> None:
        with Server(answers(OK, after_s=0.005)) as server, closing(WorkerProcesses(3)) as generator:
            assert generator.window(workload(server), WindowSpec(1, 0.1)).workers == 1
            assert generator.window(workload(server), WindowSpec(2, 0.1)).workers == 2
            assert server.connections <= 2

    def test_wait_for_the_slowest_connection_of_all(self) -> None:
        def behave(exchange: Exchange) -> None:
            time.sleep(0.2 if exchange.connection == 3 else 0.005)
            exchange.send(OK)

        with Server(behave) as server, closing(WorkerProcesses(2)) as generator:
            recording = generator.window(workload(server), WindowSpec(4, 0.1, lead_in_s=0.01))
        assert recording.start_ns - min(column(recording, "sent")) >= 195 * MS

    def test_lengthen_a_window_together(self) -> None:
        with Server(answers(OK, after_s=0.04)) as server, closing(WorkerProcesses(2)) as generator:
            recording = generator.window(workload(server), WindowSpec(2, 0.1, min_requests=12))
        length_ns = recording.stop_ns - recording.start_ns
        assert len(inside(recording)) >= 12
        assert length_ns >= 4 * 40 * MS
        assert (length_ns - 100 * MS) % (50 * MS) == 0

    @pytest.mark.parametrize("arrivals", [Constant(150.0), Poisson(150.0, seed=4)], ids=lambda value: str(value.label))
    def test_share_one_schedule_out(self, arrivals: Arrivals) -> None:
        with Server(answers(OK, after_s=0.004)) as server, closing(WorkerProcesses(3)) as generator:
            recording = generator.window(workload(server), WindowSpec(0, 0.3, arrivals=arrivals))
            assert recording.answered == server.requests
        due = sorted(column(recording, "due"))
        begin_ns = due[0] - next(arrivals.instants())
        assert recording.workers == 3
        instants = takewhile(lambda at_ns: begin_ns + at_ns < recording.stop_ns, arrivals.instants())
        expected = [begin_ns + at_ns for at_ns in instants]
        assert due[: len(expected)] == expected
        for index, lane in enumerate(recording.lanes):
            assert sorted(lane.due_ns)[:10] == expected[index::3][:10], "in turn"

    def test_share_the_cap_of_an_open_loop(self) -> None:
        with Server(answers(OK, after_s=0.03)) as server, closing(WorkerProcesses(2)) as generator:
            spec = WindowSpec(0, 0.2, arrivals=Constant(300.0), max_in_flight=4)
            recording = generator.window(workload(server), spec)
            assert server.at_once == 4
        assert len(inside(recording)) == pytest.approx(60, abs=1)

    def test_errors_of_all_are_counted(self) -> None:
        with (
            Server(in_turn(answers(OK, after_s=0.01), answers(BUSY, after_s=0.01))) as server,
            closing(WorkerProcesses(2)) as generator,
        ):
            recording = generator.window(workload(server), WindowSpec(4, 0.4, lead_in_s=0.0))
            assert recording.answered <= (server.requests + 1) // 2
        assert recording.errors.keys() == {"HTTP 503"}
        assert 2 < recording.errors["HTTP 503"] <= server.requests // 2
        assert recording.address_errors == (recording.errors["HTTP 503"],)
        assert recording.error_sample == "HTTP 503: queue is full"

    def test_a_server_that_dies_is_lost_to_all(self) -> None:
        def behave(exchange: Exchange) -> None:
            if exchange.number == 40:
                server.die()
            time.sleep(0.005)
            exchange.send(OK)

        with closing(WorkerProcesses(3)) as generator:
            with Server(behave) as server:
                begin = time.monotonic()
                recording = generator.window(workload(server), WindowSpec(6, 30.0))
                assert time.monotonic() - begin < 7
            assert "no connection to" in recording.lost or "another worker" in recording.lost
            assert "connection refused" in recording.errors
            with Server(answers(OK, after_s=0.002)) as server:
                assert not generator.window(workload(server), WindowSpec(6, 0.1)).lost

    def test_a_smoke_run_takes_one(self) -> None:
        with Server(answers(OK, after_s=0.01)) as server, closing(WorkerProcesses(3)) as generator:
            recording = generator.window(workload(server), WindowSpec(5, 0.0, lead_in_s=0.0, min_requests=5))
            assert server.requests == recording.answered == 5

    @pytest.mark.parametrize("victim", [0, 1])
    @pytest.mark.parametrize("spec", [WindowSpec(4, 30.0), WindowSpec(0, 30.0, arrivals=Constant(100.0))])
    def test_one_killed_in_mid_window_is_a_load_error_and_leaves_nobody(self, victim: int, spec: WindowSpec) -> None:
        with Server(answers(OK, after_s=0.01)) as server, closing(WorkerProcesses(2)) as generator:
            both = sorted(workers(), key=lambda process: process.pid)
            begin = time.monotonic()
            with killed(both[victim], after_s=0.4), pytest.raises(LoadError, match="It was ended by SIGKILL"):
                generator.window(workload(server), spec)
            assert time.monotonic() - begin < 6
            assert not workers(), "not even before it is closed"

    def test_one_killed_while_the_others_wait_for_it(self) -> None:
        with Server(answers(OK, after_s=0.01)) as server, closing(WorkerProcesses(3)) as generator:
            generator.window(workload(server), WindowSpec(3, 0.05))
            stopped = max(workers(), key=lambda process: process.pid)
            stopped.suspend()
            begin = time.monotonic()
            with killed(stopped, after_s=0.3), pytest.raises(LoadError, match="It was ended by SIGKILL"):
                generator.window(workload(server), WindowSpec(3, 30.0))
            assert time.monotonic() - begin < 6
        assert not workers()

    def test_ctrl_c_in_mid_window_leaves_nobody(self) -> None:
        with Server(answers(OK, after_s=0.01)) as server, closing(WorkerProcesses(2)) as generator:
            timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                generator.window(workload(server), WindowSpec(2, 30.0))
            timer.join()
            assert not workers()


def _noisy(_body: bytes, _headers: Mapping[str, str]) -> str:
    """Say more than a pipe holds, as a check does that logs every answer."""
    sys.stderr.write("all is well, and more of it " * 4000)
    return ""


def _endless(_body: bytes, _headers: Mapping[str, str]) -> str:
    while True:
        time.sleep(1)


class _Unloadable:
    """A check whose module can't be found in another process."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return importlib.import_module, ("no_such_module",)

    def __call__(self, _body: bytes, _headers: Mapping[str, str]) -> str:
        return ""


class TestBounds:
    def test_a_check_may_write_more_than_a_pipe_holds(self) -> None:
        with Server(answers(OK, after_s=0.002)) as server, closing(WorkerProcesses()) as generator:
            load = workload(server, rotations=[[Request(b"", (), _noisy)]])
            recording = generator.window(load, WindowSpec(1, 0.3))
        assert len(column(recording, "sent")) > 10
        assert not recording.errors

    def test_a_stopped_worker_is_a_load_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process_module, "_STOPPED_S", 0.6)
        with Server(answers(OK, after_s=0.002)) as server, closing(WorkerProcesses(2)) as generator:
            generator.window(workload(server), WindowSpec(2, 0.05))
            stopped = workers()[-1]
            timer = threading.Timer(0.3, stopped.suspend)
            timer.start()
            begin = time.monotonic()
            with pytest.raises(LoadError, match=rf"process {stopped.pid} was stopped for 0.6 s, by SIGSTOP"):
                generator.window(workload(server), WindowSpec(2, 30.0))
            assert time.monotonic() - begin < 5 + process_module._STOP_S
        assert not workers()

    def test_a_worker_that_was_continued_in_time_goes_on(self) -> None:
        with Server(answers(OK, after_s=0.002)) as server, closing(WorkerProcesses()) as generator:
            (worker,) = workers()
            timers = [threading.Timer(after_s, act) for after_s, act in ((0.2, worker.suspend), (0.9, worker.resume))]
            for timer in timers:
                timer.start()
            assert generator.window(workload(server), WindowSpec(1, 1.2)).answered

    def test_a_worker_that_takes_no_message_is_a_load_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process_module, "_MESSAGE_S", 1)
        with Server(answers(OK)) as server, closing(WorkerProcesses()) as generator:
            (worker,) = workers()
            worker.suspend()
            with pytest.raises(LoadError, match="did not take a message within 1 s"):
                generator.window(workload(server, body=bytes(10_000_000)), WindowSpec(1, 0.05))
        assert not workers()

    def test_a_check_that_never_returns_is_a_load_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process_module, "_MARGIN_S", 0.0)
        monkeypatch.setattr(generator_module, "MEET_S", 0.0)
        monkeypatch.setattr(generator_module, "CONNECT_S", 0.0)
        with Server(answers(OK)) as server, closing(WorkerProcesses()) as generator:
            load = workload(server, rotations=[[Request(b"", (), _endless)]])
            spec = WindowSpec(1, 0.1, max_window_s=0.1, deadline_s=0.2)
            with pytest.raises(LoadError, match="gave no result within 1 s, the most that its window can take"):
                generator.window(load, spec)
        assert not workers()

    def test_a_check_that_cant_be_loaded_is_a_load_error(self) -> None:
        with Server(answers(OK)) as server, closing(WorkerProcesses()) as generator:
            load = workload(server, rotations=[[Request(b"", (), _Unloadable())]])
            with pytest.raises(LoadError, match="ModuleNotFoundError: No module named 'no_such_module'"):
                generator.window(load, WindowSpec(1, 0.05))
        assert not workers()

    def test_the_longest_time_of_a_window_covers_its_parts(self) -> None:
        assert WindowSpec(8, 0.7, max_window_s=5.0).longest_s > 5.7 + 3 * 60
        assert WindowSpec(8, 30.0, max_window_s=5.0, deadline_s=1.0).longest_s > 30
        fixed = WindowSpec(2, 0.0, min_requests=100, max_window_s=math.inf, deadline_s=3.0)
        assert 150 < fixed.longest_s < 200


class TestLife:
    def test_http_workloads_get_a_process_of_their_own(self) -> None:
        with Server(answers(OK)) as server, closing(open_generator(workload(server))) as generator:
            generator.window(workload(server), WindowSpec(1, 0.05))
            (worker,) = workers()
            assert os.getsid(worker.pid) != os.getsid(0), "Ctrl-C is not for the worker"
        assert ended(worker.pid, 0.1)

    def test_the_worker_imports_neither_numpy_nor_pytest(self) -> None:
        code = "import sys, pytest_gpuperf.load.worker; print({'numpy', 'pytest', 'scipy'} & sys.modules.keys())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
        assert done.stdout == "set()\n"

    def test_close_may_be_called_twice_and_leaves_nothing(self) -> None:
        before = psutil.Process().num_fds()
        generator = WorkerProcesses()
        generator.close()
        generator.close()
        assert not workers()
        assert psutil.Process().num_fds() == before

    def test_windows_leave_no_files_open(self) -> None:
        with Server(answers(OK, after_s=0.001)) as server, closing(WorkerProcesses()) as generator:
            (worker,) = workers()
            here = psutil.Process()

            def measured() -> tuple[int, int]:
                recording = generator.window(workload(server), WindowSpec(1, 0.01, lead_in_s=0.0))
                assert recording.answered
                del recording
                gc.collect()
                return here.num_fds(), worker.num_fds()

            measured()
            before = measured()
            for _ in range(12):
                after = measured()
            assert after[0] <= before[0] + 2
            assert after[1] <= before[1] + 2

    def test_a_window_after_a_load_error_is_a_load_error(self) -> None:
        with Server(answers(OK)) as server, closing(WorkerProcesses()) as generator:
            bad = replace(workload(server), headers=(("X", "a\r\nb"),))
            with pytest.raises(LoadError, match="can't be written"):
                generator.window(bad, WindowSpec(1, 0.05))
            with pytest.raises(LoadError):
                generator.window(workload(server), WindowSpec(1, 0.05))
        assert not workers()

    def test_a_worker_killed_in_mid_window_is_a_load_error(self) -> None:
        with Server(answers(OK, after_s=0.01)) as server, closing(WorkerProcesses()) as generator:
            (worker,) = workers()
            begin = time.monotonic()
            with killed(worker, after_s=0.3), pytest.raises(LoadError, match="It was ended by SIGKILL"):
                generator.window(workload(server), WindowSpec(1, 30.0))
            assert time.monotonic() - begin < 5
        assert not workers()

    def test_a_worker_killed_between_windows_is_a_load_error(self) -> None:
        with Server(answers(OK)) as server, closing(WorkerProcesses()) as generator:
            generator.window(workload(server), WindowSpec(1, 0.05))
            (worker,) = workers()
            worker.kill()
            assert ended(worker.pid, 5)
            with pytest.raises(LoadError, match="ended unexpectedly"):
                generator.window(workload(server), WindowSpec(1, 0.05))

    def test_a_load_error_shows_the_stderr_of_the_worker(self) -> None:
        spec = WindowSpec(1, float("nan"))
        with (
            Server(answers(OK)) as server,
            closing(WorkerProcesses()) as generator,
            pytest.raises(LoadError, match=r"ValueError: .*NaN"),
        ):
            generator.window(workload(server), spec)

    def test_a_worker_ends_when_its_pipe_is_closed(self) -> None:
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "pytest_gpuperf.load.worker", str(theirs.fileno()), str(os.getpid())]
        with theirs, subprocess.Popen(command, pass_fds=[theirs.fileno()]) as worker:
            theirs.close()
            with pytest.raises(subprocess.TimeoutExpired):
                worker.wait(0.3)
            ours.close()
            assert worker.wait(5) == 0


_PARENT = """
import sys
from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.load.process import WorkerProcesses
from pytest_gpuperf.model import Address, Request, WireWorkload

port, window_s = int(sys.argv[1]), float(sys.argv[2])
generator = WorkerProcesses()
load = WireWorkload("http", (Address("127.0.0.1", port),), "/infer", ((Request(b""),),))
generator.window(load, WindowSpec(2, window_s))
sys.stdin.read()
"""


class TestOrphan:
    @pytest.mark.parametrize("window_s", [60.0, 0.01], ids=["in mid-window", "between windows"])
    def test_a_worker_ends_soon_after_its_parent_was_killed(self, window_s: float) -> None:
        with (
            Server(answers(OK, after_s=0.005)) as server,
            subprocess.Popen(
                [sys.executable, "-c", _PARENT, str(server.port), str(window_s)], stdin=subprocess.PIPE
            ) as parent,
        ):
            wait_for_requests(server)
            time.sleep(0.2)
            (worker,) = workers(psutil.Process(parent.pid))
            parent.kill()
            assert ended(worker.pid, 3)

    def test_a_worker_whose_server_is_silent_too(self) -> None:
        with (
            Server(silence) as server,
            subprocess.Popen([sys.executable, "-c", _PARENT, str(server.port), "60"], stdin=subprocess.PIPE) as parent,
        ):
            wait_for_requests(server)
            (worker,) = workers(psutil.Process(parent.pid))
            parent.kill()
            assert ended(worker.pid, 3)

    def test_a_worker_ends_in_order_on_ctrl_c(self) -> None:
        with (
            Server(answers(OK, after_s=0.005)) as server,
            subprocess.Popen(
                [sys.executable, "-c", _PARENT, str(server.port), "60"],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            ) as parent,
        ):
            wait_for_requests(server)
            (worker,) = workers(psutil.Process(parent.pid))
            os.killpg(parent.pid, signal.SIGINT)
            _, stderr = parent.communicate(timeout=10)
            assert "KeyboardInterrupt" in stderr
            assert ended(worker.pid, 3)
