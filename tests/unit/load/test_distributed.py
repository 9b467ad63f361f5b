"""The load of several machines: here, of other processes that an executor reaches."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

from pytest_gpuperf.analysis.window import window_figures
from pytest_gpuperf.errors import LoadError, OptionError
from pytest_gpuperf.load import Recording, WindowSpec, open_generator
from pytest_gpuperf.load.distributed import RemoteLoad, RemoteWorkers
from pytest_gpuperf.model import Address, Constant, Request, WireWorkload
from tests.unit.load.hostile import Server, answers, response
from tests.unit.load.listening import HOST

SPEC = WindowSpec(4, 0.4, lead_in_s=0.1, deadline_s=5.0)


@pytest.fixture
def workload() -> Iterator[WireWorkload]:
    with Server(answers(response(b"right"))) as server:
        yield WireWorkload("http", (Address(HOST, server.port),), "/", ((Request(b"question"),),))


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    # Spawned, as workers on another machine would be: nothing is inherited.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        list(executor.map(time.sleep, [0.2, 0.2]))
        yield executor


def requests_of(recording: Recording) -> int:
    lanes = [(lane.due_ns, lane.sent_ns, lane.done_ns) for lane in recording.lanes]
    return window_figures(lanes, recording.start_ns, recording.stop_ns, 1).requests


def test_two_workers_share_the_load_in_one_window(workload: WireWorkload, pool: Executor) -> None:
    recording = RemoteLoad(RemoteWorkers(pool, 2)).window(workload, SPEC)
    assert recording.workers == 2
    assert len(recording.lanes) == 2
    assert not recording.errors
    assert recording.stop_ns - recording.start_ns == pytest.approx(0.4e9, rel=1e-6)
    for lane in recording.lanes:
        # Each has sent before the window, in it, and to its end.
        sent = np.asarray(lane.sent_ns)
        assert sent.min() < recording.start_ns
        assert sent.max() > recording.stop_ns - 0.1e9
        assert (np.asarray(lane.done_ns) > sent).all()
    assert requests_of(recording) > 10


def test_open_loop_is_dealt_out_and_adds_up(workload: WireWorkload, pool: Executor) -> None:
    spec = WindowSpec(0, 0.5, arrivals=Constant(200), lead_in_s=0.1, deadline_s=5.0)
    recording = RemoteLoad(RemoteWorkers(pool, 2)).window(workload, spec)
    assert requests_of(recording) == pytest.approx(100, abs=2)


def test_clocks_of_one_machine_have_no_skew(workload: WireWorkload, pool: Executor) -> None:
    assert RemoteLoad(RemoteWorkers(pool, 2)).window(workload, SPEC).skew_s == 0


class Elsewhere(Executor):
    """An executor whose second worker's clock is ahead, as its answers to the comparison of clocks say."""

    def __init__(self, inner: Executor, ahead_s: float) -> None:
        self._inner, self._ahead_s, self._asked = inner, ahead_s, 0

    def submit(self, function: Any, /, *arguments: Any, **keywords: Any) -> Future[Any]:
        future = self._inner.submit(function, *arguments, **keywords)
        if function.__name__ != "_clock" or arguments != (1,):
            return future
        _, begin_s, end_s = future.result()
        shifted: Future[Any] = Future()
        shifted.set_result(("another machine", begin_s + self._ahead_s, end_s + self._ahead_s))
        return shifted


def test_a_skew_is_reported(workload: WireWorkload, pool: Executor) -> None:
    recording = RemoteLoad(RemoteWorkers(Elsewhere(pool, 7.0), 2)).window(workload, SPEC)
    assert recording.skew_s == pytest.approx(7.0, abs=0.5)


def test_fewer_free_workers_than_promised_are_an_error(workload: WireWorkload, pool: Executor) -> None:
    spec = WindowSpec(4, 0.4, lead_in_s=0.1, deadline_s=5.0)
    with pytest.raises(LoadError, match="free workers"):
        RemoteLoad(RemoteWorkers(pool, 4)).window(workload, spec)


def _die(*_: object) -> None:
    os._exit(3)


def test_a_worker_that_dies_is_an_error_with_its_name(workload: WireWorkload) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as broken:
        broken.submit(_die)
        with pytest.raises(LoadError, match="remote worker failed"):
            RemoteLoad(RemoteWorkers(broken, 1)).window(workload, SPEC)


def test_no_workers_are_refused() -> None:
    with pytest.raises(OptionError, match="count must be 1 or more"):
        RemoteWorkers(ProcessPoolExecutor(1), 0)


def kill(pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_dask_workers_make_the_load_and_their_loss_is_an_error_soon(workload: WireWorkload) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        generator = open_generator(workload, RemoteWorkers(client.get_executor(pure=False), 2))
        recording = generator.window(workload, SPEC)
        pids = list(client.run(os.getpid).values())
        killer = threading.Timer(1.5, kill, [pids])
        killer.start()
        began_s = time.monotonic()
        with pytest.raises(LoadError, match="remote worker"):
            generator.window(workload, replace(SPEC, window_s=3.0))
        assert time.monotonic() - began_s < 60
        killer.join()
        generator.close()
    assert recording.workers == 2
    assert not recording.errors
    assert all(len(lane.done_ns) for lane in recording.lanes)
