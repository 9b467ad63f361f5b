from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing import Pipe

import psutil
import pytest

from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.load import WindowSpec, open_generator
from pytest_gpuperf.load.process import WorkerProcess
from pytest_gpuperf.model import HttpWorkload
from tests.unit.load.hostile import HOST, WIRE, Exchange, Server, answers, response, silence

OK = response()
MS = 1_000_000


def workload(server: Server, wire: bytes = WIRE) -> HttpWorkload:
    return HttpWorkload(HOST, server.port, wire)


def workers(process: psutil.Process | None = None) -> list[psutil.Process]:
    children = (process or psutil.Process()).children()
    return [child for child in children if "pytest_gpuperf.load.worker" in child.cmdline()]


def ended(process: psutil.Process, within_s: float) -> bool:
    """An orphan may stay behind as a zombie where nobody collects it."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


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
        with Server(answers(OK, after_s=0.01)) as server, closing(WorkerProcess()) as worker:
            begin_ns = time.monotonic_ns()
            recording = worker.window(workload(server), WindowSpec(3, 0.2))
            assert len(recording.sent_ns) == len(recording.done_ns) == server.requests > 10
            assert server.at_once == 3
        assert begin_ns < min(recording.sent_ns) < recording.start_ns < recording.stop_ns < time.monotonic_ns()
        assert recording.stop_ns - recording.start_ns == 200 * MS
        assert min(done - sent for sent, done in zip(recording.sent_ns, recording.done_ns, strict=True)) >= 10 * MS
        assert not recording.errors
        assert 0 < recording.cpu_s < 0.2

    def test_connections_outlive_a_window(self) -> None:
        with Server(answers(OK, after_s=0.002)) as server, closing(WorkerProcess()) as worker:
            for concurrency in (3, 1, 2):
                worker.window(workload(server), WindowSpec(concurrency, 0.05))
            assert server.connections == 3

    def test_wires_may_alternate(self) -> None:
        large = b"POST /infer HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
        with Server(answers(OK)) as server, closing(WorkerProcess()) as worker:
            for wire in (WIRE, large, WIRE, large):
                server.seen.clear()
                recording = worker.window(workload(server, wire), WindowSpec(1, 0.05))
                assert server.seen == {wire}
                assert not recording.errors

    def test_servers_may_alternate(self) -> None:
        with Server(answers(OK)) as one, Server(answers(OK)) as other, closing(WorkerProcess()) as worker:
            for server in (one, other, one):
                before = server.requests
                recording = worker.window(workload(server), WindowSpec(2, 0.05))
                assert len(recording.done_ns) == server.requests - before > 0

    def test_a_silent_server_is_a_timeout(self) -> None:
        with Server(silence) as server, closing(WorkerProcess()) as worker:
            recording = worker.window(workload(server), WindowSpec(2, 0.1, deadline_s=0.15))
        assert recording.errors.keys() == {"timeout"}
        assert not len(recording.done_ns)

    def test_a_server_that_dies_ends_the_window_and_not_the_worker(self) -> None:
        def behave(exchange: Exchange) -> None:
            if exchange.number == 10:
                server.die()
            exchange.send(OK)

        with closing(WorkerProcess()) as worker:
            with Server(behave) as server:
                begin = time.monotonic()
                recording = worker.window(workload(server), WindowSpec(2, 30.0))
                assert time.monotonic() - begin < 6
            assert recording.lost
            assert "connection refused" in recording.errors
            with Server(answers(OK)) as server:
                assert not worker.window(workload(server), WindowSpec(2, 0.05)).lost

    def test_a_smoke_run_sends_exactly_what_was_asked_for(self) -> None:
        with Server(answers(OK, after_s=0.02)) as server, closing(WorkerProcess()) as worker:
            recording = worker.window(workload(server), WindowSpec(4, 0.0, lead_in_s=0.0, min_requests=4))
            assert server.requests == len(recording.done_ns) == 4


class TestLife:
    def test_http_workloads_get_a_process_of_their_own(self) -> None:
        with Server(answers(OK)) as server, closing(open_generator(workload(server))) as generator:
            generator.window(workload(server), WindowSpec(1, 0.05))
            (worker,) = workers()
            assert os.getsid(worker.pid) != os.getsid(0), "Ctrl-C is not for the worker"
        assert ended(worker, 0.1)

    def test_the_worker_imports_neither_numpy_nor_pytest(self) -> None:
        code = "import sys, pytest_gpuperf.load.worker; print({'numpy', 'pytest', 'scipy'} & sys.modules.keys())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
        assert done.stdout == "set()\n"

    def test_close_may_be_called_twice_and_leaves_nothing(self) -> None:
        before = psutil.Process().num_fds()
        generator = WorkerProcess()
        generator.close()
        generator.close()
        assert not workers()
        assert psutil.Process().num_fds() == before

    def test_a_worker_killed_in_mid_window_is_a_load_error(self) -> None:
        with Server(answers(OK, after_s=0.01)) as server, closing(WorkerProcess()) as generator:
            (worker,) = workers()
            begin = time.monotonic()
            with killed(worker, after_s=0.3), pytest.raises(LoadError, match=r"Exit status -9"):
                generator.window(workload(server), WindowSpec(1, 30.0))
            assert time.monotonic() - begin < 5
        assert not workers()

    def test_a_worker_killed_between_windows_is_a_load_error(self) -> None:
        with Server(answers(OK)) as server, closing(WorkerProcess()) as generator:
            generator.window(workload(server), WindowSpec(1, 0.05))
            (worker,) = workers()
            worker.kill()
            assert ended(worker, 5)
            with pytest.raises(LoadError, match="ended unexpectedly"):
                generator.window(workload(server), WindowSpec(1, 0.05))

    def test_a_load_error_shows_the_workers_last_words(self) -> None:
        spec = WindowSpec(1, float("nan"))
        with (
            Server(answers(OK)) as server,
            closing(WorkerProcess()) as generator,
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
from pytest_gpuperf.load.process import WorkerProcess
from pytest_gpuperf.model import HttpWorkload

port, window_s = int(sys.argv[1]), float(sys.argv[2])
generator = WorkerProcess()
load = HttpWorkload("127.0.0.1", port, b"GET / HTTP/1.1\\r\\nHost: test\\r\\n\\r\\n")
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
            assert ended(worker, 3)

    def test_a_worker_whose_server_is_silent_too(self) -> None:
        with (
            Server(silence) as server,
            subprocess.Popen([sys.executable, "-c", _PARENT, str(server.port), "60"], stdin=subprocess.PIPE) as parent,
        ):
            wait_for_requests(server)
            (worker,) = workers(psutil.Process(parent.pid))
            parent.kill()
            assert ended(worker, 3)

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
            assert ended(worker, 3)
