"""Engines run through the real ``cuda.core`` on a libcuda.so.1 of our own.

Not collected by itself: the library is found once in a process's life, so ``test_on_mock_cuda`` runs this in another.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda import core

from pytest_gpuperf.errors import OptionError, TargetDied, TargetError
from pytest_gpuperf.load.generator import WindowSpec
from pytest_gpuperf.load.inprocess import ThreadLoop
from pytest_gpuperf.measure.policy import WindowRequest
from pytest_gpuperf.measure.window import take_window
from pytest_gpuperf.model import LoadPoint
from pytest_gpuperf.targets.tensorrt import TensorRTEngine, engine, library
from pytest_gpuperf.targets.tensorrt.builder import BuildResult, Plan
from pytest_gpuperf.targets.tensorrt.cuda_device import open_gpu
from pytest_gpuperf.targets.tensorrt.engine import StartedEngine, plan_key
from pytest_gpuperf.targets.tensorrt.library import Library, TensorRTLog
from pytest_gpuperf.targets.tensorrt.onnx_file import OnnxFile
from pytest_gpuperf.targets.tensorrt.plans import PlanStore
from tests.unit.targets.tensorrt import fake_trt
from tests.unit.targets.tensorrt.models import linear

CUDA = ctypes.CDLL("libcuda.so.1")

INPUTS = {"x": ["FLOAT", [-1, 8]]}
OUTPUTS = {"y": ["FLOAT", [-1, 8], "x"]}
PROFILES = [{"x": [[size, 8]] * 3} for size in (1, 4)] + [{"x": [[1, 8], [16, 8], [32, 8]]}]


def journal() -> list[str]:
    """What the streams have done since the last look: ``stream kind bytes``."""
    text = ctypes.create_string_buffer(1 << 20)
    CUDA.mock_journal(text, ctypes.c_size_t(len(text)))
    return text.value.decode().splitlines()


def live() -> dict[str, int]:
    """What of the GPU is in use."""
    device, pinned = ctypes.c_long(), ctypes.c_long()
    streams, events, graphs, pools = (ctypes.c_int() for _ in range(4))
    found = {"device": device, "pinned": pinned, "streams": streams, "events": events, "graphs": graphs, "pools": pools}
    CUDA.mock_live(*map(ctypes.byref, found.values()))
    return {name: int(value.value) for name, value in found.items()}


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Library:
    log = TensorRTLog()
    made = Library(fake_trt.Module(), "tensorrt", "10.99", log, log)
    monkeypatch.setattr(library, "_open", lambda _name: made)
    return made


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = live()
    yield
    assert live() == before


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., StartedEngine]]:
    started: list[StartedEngine] = []

    def start(plan: bytes | None = None, **settings: Any) -> StartedEngine:
        path = tmp_path / "model.plan"
        path.write_bytes(plan if plan is not None else fake_trt.plan_of(INPUTS, OUTPUTS, PROFILES))
        started.append(TensorRTEngine(path, **settings).start())
        return started[-1]

    yield start
    for one in started:
        one.stop()
        one.stop()


def answers(started: StartedEngine, batch_size: int = 1) -> list[dict[str, bytes]]:
    return [slot.answer() for slot in started._pools[batch_size]._slots]


def turned(values: np.ndarray[Any, Any]) -> bytes:
    return bytes(~np.ascontiguousarray(values).view(np.uint8))


class TestOneRequest:
    def test_its_bytes_go_to_the_device_through_the_engine_and_back(self, start: Callable[..., StartedEngine]) -> None:
        given = np.arange(8, dtype=np.float32)
        started = start(inputs={"x": given})
        for batch_size in (1, 4):
            started.workload(batch_size).call()
            assert answers(started, batch_size) == [{"y": turned(np.tile(given, batch_size))}]

    @pytest.mark.parametrize("graph", [False, True])
    def test_the_order_of_things(self, start: Callable[..., StartedEngine], graph: bool) -> None:
        started = start(inputs={"x": np.ones(8)}, cuda_graph=graph)
        call = started.workload(4).call
        journal()
        call()
        done = [line.split()[1:] for line in journal()]
        kernel = [["graph", "0"], ["kernel", "128"]] if graph else [["kernel", "128"]]
        event = ["event", "0"]
        assert done == [event, ["h2d", "128"], event, *kernel, event, ["d2h", "128"], event]
        assert answers(started, 4) == [{"y": turned(np.ones((4, 8), np.float32))}]

    def test_all_memory_is_taken_before(self, start: Callable[..., StartedEngine]) -> None:
        call = start(payloads=3).workload(4).call
        before = live()
        for _ in range(20):
            call()
        assert live() == before
        assert before["device"] == 2 * 128
        assert before["pinned"] == (3 + 1) * 128
        assert before["events"] == 4

    def test_requests_are_served_in_turn(self, start: Callable[..., StartedEngine]) -> None:
        items = [{"x": np.full(8, number)} for number in (1, 2, 3)]
        for graph in (False, True):
            started = start(input_data=items, cuda_graph=graph)
            call = started.workload(1).call
            found = []
            for _ in range(4):
                call()
                found += answers(started)
            assert found == [{"y": turned(np.full(8, number, np.float32))} for number in (1, 2, 3, 1)]

    def test_several_inputs_and_outputs_of_several_types(self, start: Callable[..., StartedEngine]) -> None:
        inputs = {"ids": ["INT64", [-1, -1]], "x": ["HALF", [-1, 2]]}
        outputs = {"a": ["INT64", [-1, -1], "ids"], "b": ["HALF", [-1, 2], "x"]}
        profiles = [{"ids": [[1, 1], [1, 8], [1, 16]], "x": [[1, 2]] * 3}]
        given = {"ids": np.arange(5), "x": np.array([0.5, -2])}
        started = start(fake_trt.plan_of(inputs, outputs, profiles), inputs=given)
        started.workload(1).call()
        (found,) = answers(started)
        assert found == {"a": turned(given["ids"].astype(np.int64)), "b": turned(given["x"].astype(np.float16))}

    def test_an_output_whose_size_only_the_values_decide(self, start: Callable[..., StartedEngine]) -> None:
        plan = fake_trt.plan_of(INPUTS, {"y": ["FLOAT", [-1, "values"], "x"]}, PROFILES)
        text = plan.decode().replace('["FLOAT", [-1, "values"], "x"]', '["FLOAT", [-1, -1], "x"]')
        started = start(text.encode(), inputs={"x": np.ones(8)})
        started._engine._plan["outputs"]["y"][1][1] = "values"
        started.workload(1).call()
        assert answers(started) == [{"y": turned(np.ones(8, np.float32))}]

    def test_made_up_inputs_have_the_tuned_for_sizes(self, start: Callable[..., StartedEngine]) -> None:
        plan = fake_trt.plan_of(
            {"x": ["FLOAT", [-1, -1]]}, {"y": ["FLOAT", [-1, -1], "x"]}, [{"x": [[1, 1], [1, 8], [1, 16]]}]
        )
        started = start(plan, shapes={"x": ([1], [6], [16])})
        started.workload(1).call()
        assert len(answers(started)[0]["y"]) == 6 * 4


class TestTimes:
    @pytest.mark.parametrize("graph", [False, True])
    def test_copies_and_compute_are_told_apart(self, start: Callable[..., StartedEngine], graph: bool) -> None:
        started = start(fake_trt.plan_of(INPUTS, OUTPUTS, PROFILES, us=20_000), cuda_graph=graph)
        call = started.workload(1).call
        before = started.server_times()
        for _ in range(3):
            call()
        times = started.server_times() - before
        assert (times.requests, times.executions) == (3, 3)
        assert 60e6 <= times.compute_infer_ns < 600e6
        assert 0 < times.compute_input_ns < times.compute_infer_ns
        assert 0 < times.compute_output_ns < times.compute_infer_ns

    def test_a_window_has_them(self, start: Callable[..., StartedEngine]) -> None:
        started = start(fake_trt.plan_of(INPUTS, OUTPUTS, PROFILES, us=2_000), streams=2)
        generator = ThreadLoop()
        point = LoadPoint(concurrency=4, batch_size=4)
        spec = WindowSpec(concurrency=4, window_s=0.4, lead_in_s=0.05, min_requests=10, max_window_s=5, deadline_s=10)
        window, _ = take_window(generator, started, started.workload(4, 4), WindowRequest(point, spec), name="test")
        assert window.errors == {}
        assert window.server is not None
        served = window.server
        # Four callers on two streams: half of each request's life is spent in the queue.
        assert 0.25 < served.queue_ns / (served.requests * window.latency_mean_ns) < 0.75
        parts = served.queue_ns + served.compute_input_ns + served.compute_infer_ns + served.compute_output_ns
        assert 0.6 < parts / (served.requests * window.latency_mean_ns) < 1.1
        assert window.throughput == pytest.approx(4 * window.requests / window.window_s, rel=0.25)


class TestConcurrency:
    @staticmethod
    def seconds(started: StartedEngine, callers: int) -> float:
        call = started.workload(1).call
        threads = [threading.Thread(target=call) for _ in range(callers)]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - begin

    @pytest.mark.parametrize("graph", [False, True])
    def test_streams_run_side_by_side(self, start: Callable[..., StartedEngine], graph: bool) -> None:
        plan = fake_trt.plan_of(INPUTS, OUTPUTS, PROFILES, us=100_000)
        assert self.seconds(start(plan, cuda_graph=graph), 4) >= 0.4
        started = start(plan, streams=4, cuda_graph=graph)
        started.workload(1)
        journal()
        assert self.seconds(started, 4) < 0.35
        streams = {line.split()[0] for line in journal()}
        assert len(streams) == 4

    def test_many_callers_on_few_streams_all_get_their_answers(self, start: Callable[..., StartedEngine]) -> None:
        started = start(streams=3, payloads=2)
        call = started.workload(1).call
        failures: list[BaseException] = []

        def caller() -> None:
            try:
                for _ in range(50):
                    call()
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
                failures.append(error)

        threads = [threading.Thread(target=caller) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert started.server_times().requests == 600


class TestRefusals:
    def test_a_plan_of_another_gpu(self, start: Callable[..., StartedEngine]) -> None:
        plan = fake_trt.plan_of(INPUTS, OUTPUTS, PROFILES, built_on="NVIDIA T4")
        with pytest.raises(
            TargetError, match=r"(?s)can't be used on this NVIDIA H100.*\(compute capability 9.0\).*incompatible device"
        ):
            start(plan)

    def test_a_file_that_is_no_plan(self, start: Callable[..., StartedEngine]) -> None:
        with pytest.raises(TargetError, match=r"(?s)model.plan can't be used.*Magic tag does not match"):
            start(b"junk")

    def test_a_shape_outside_the_profiles(self, start: Callable[..., StartedEngine]) -> None:
        with pytest.raises(OptionError, match=r"(?s)was not built for x \[33, 8\].*profile 2: x \[1, 8\] to \[32, 8\]"):
            start().workload(33)

    def test_items_of_different_shapes(self, start: Callable[..., StartedEngine]) -> None:
        plan = fake_trt.plan_of(
            {"x": ["FLOAT", [-1, -1]]}, {"y": ["FLOAT", [-1, -1], "x"]}, [{"x": [[1, 1], [1, 8], [1, 16]]}]
        )
        with pytest.raises(OptionError, match="differ in shape"):
            start(plan, input_data=[{"x": np.ones(3)}, {"x": np.ones(4)}]).workload(1)

    def test_tensors_on_the_host(self, start: Callable[..., StartedEngine]) -> None:
        with pytest.raises(OptionError, match="'x' is a shape in host memory"):
            start(fake_trt.plan_of(INPUTS, OUTPUTS, PROFILES, host=["x"]))

    def test_types_that_can_not_be_sent(self, start: Callable[..., StartedEngine]) -> None:
        with pytest.raises(OptionError, match="type FP8, which is not supported"):
            start(fake_trt.plan_of({"x": ["FP8", [-1, 8]]}, OUTPUTS, PROFILES))

    def test_out_of_memory(self, start: Callable[..., StartedEngine], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MOCK_CUDA_MEMORY", "300")
        started = start(streams=3)
        with pytest.raises(
            TargetError, match=r"out of memory: can't allocate 128 bytes .* for the input 'x'.\n.*streams="
        ):
            started.workload(4)
        started.workload(1).call()  # and what was taken for it is given back

    def test_out_of_memory_in_tensorrt(self, start: Callable[..., StartedEngine]) -> None:
        started = start(fake_trt.plan_of(INPUTS, OUTPUTS, PROFILES, fails="context"))
        with pytest.raises(TargetError, match=r"(?s)execution context.*OutOfMemory.*fewer streams="):
            started.workload(1)

    def test_a_request_that_fails(self, start: Callable[..., StartedEngine]) -> None:
        started = start(fake_trt.plan_of(INPUTS, OUTPUTS, PROFILES, fails="execution"))
        workload = started.workload(1)
        started.check()
        with pytest.raises(TargetError, match=r"(?s)The engine failed:.*Cask"):
            workload.call()
        with pytest.raises(TargetDied, match="Cask"):
            started.check()
        assert started.server_times().requests == 0

    def test_a_request_that_fails_half_way_leaves_nothing_under_way(self, start: Callable[..., StartedEngine]) -> None:
        """Or its buffers would be freed under the GPU's hands."""
        started = start(fake_trt.plan_of(INPUTS, OUTPUTS, PROFILES, fails="late", us=100_000))
        with pytest.raises(TargetError, match="The engine failed"):
            started.workload(1).call()
        started.stop()
        assert [line.split()[1] for line in journal()][-3:] == ["h2d", "event", "kernel"]
        start().workload(1).call()

    def test_a_graph_that_can_not_be_captured(
        self, start: Callable[..., StartedEngine], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = fake_trt.IExecutionContext.execute_async_v3
        calls: list[int] = []

        def once(self: Any, stream_handle: int) -> bool:
            calls.append(stream_handle)
            return real(self, stream_handle) if len(calls) == 1 else False

        monkeypatch.setattr(fake_trt.IExecutionContext, "execute_async_v3", once)
        with pytest.raises(TargetError, match="The engine failed"):
            start(cuda_graph=True).workload(1)

    def test_after_the_end(self, start: Callable[..., StartedEngine]) -> None:
        started = start()
        call = started.workload(1).call
        started.stop()
        with pytest.raises(TargetDied, match="was stopped"):
            call()


class TestSeveralGpus:
    SECOND = "GPU-22222222-2222-2222-2222-222222222222"

    @staticmethod
    def current() -> int:
        number = ctypes.c_int(-1)
        CUDA.cuCtxGetDevice(ctypes.byref(number))
        return number.value

    def test_each_runs_where_it_was_asked_to(self, start: Callable[..., StartedEngine]) -> None:
        started = {0: start(), 1: start(visible=self.SECOND)}
        assert (started[0].device_ids, started[1].device_ids) == ((), (self.SECOND,))
        calls = {number: one.workload(1).call for number, one in started.items()}
        seen = []
        for number in (0, 1, 1, 0, 1):
            calls[number]()
            seen.append(self.current())
        assert seen == [0, 1, 1, 0, 1]

        def caller() -> None:
            calls[1]()
            seen.append(self.current())

        thread = threading.Thread(target=caller)
        thread.start()
        thread.join()
        assert seen == [0, 1, 1, 0, 1, 1]

    def test_whatever_others_made_current_before_it_starts(self, start: Callable[..., StartedEngine]) -> None:
        first = start()
        core.Device(1).set_current()
        again = start()
        assert self.current() == 0
        core.Device(1).set_current()
        again.workload(1)
        assert self.current() == 0
        core.Device(1).set_current()
        first.stop()
        assert self.current() == 0

    def test_the_beginning_of_a_uuid_does(self, start: Callable[..., StartedEngine]) -> None:
        start(visible="GPU-2222").workload(1).call()
        assert self.current() == 1

    @pytest.mark.parametrize("visible", ["GPU-33333333", "MIG-33333333", "1", "GPU-"])
    def test_one_that_is_not_there(self, start: Callable[..., StartedEngine], visible: str) -> None:
        with pytest.raises(TargetError, match=f"{visible} is needed to run model.plan, but is not visible") as raised:
            start(visible=visible)
        assert f"--gpuperf-device={visible}" in str(raised.value)


class TestStart:
    def test_a_kept_plan_is_used_and_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: Library) -> None:
        monkeypatch.setenv("GPUPERF_CACHE", str(tmp_path / "cache"))
        target = TensorRTEngine(linear(tmp_path / "m.onnx"), batch_sizes=(1, 4, (1, 16, 32)), payloads=2)
        digest = OnnxFile(target.path).digest
        key = plan_key(target, fake, open_gpu("test", "tensorrt"), digest)
        assert (key["gpu"], key["compute_capability"], key["multiprocessors"]) == ("NVIDIA H100 80GB HBM3", "9.0", 132)
        plan = fake_trt.plan_of(INPUTS, OUTPUTS, PROFILES)
        PlanStore.default().add(key, Plan(plan, batched=True))
        started = target.start()
        started.workload(4).call()
        assert started.processes == (os.getpid(),)
        assert started.metrics_url is None
        facts = dict(started.under_test())
        assert facts.pop("plan_digest")
        assert facts == {
            "model": "m.onnx",
            "model_digest": digest,
            "tensorrt": "10.99",
            "precision": "fp32",
            "profiles": "x [1, 8]; x [4, 8]; x [1, 8] to [32, 8]",
            "workspace_bytes": None,
            "streams": 1,
            "cuda_graph": False,
            "input_data": "random",
            "payloads": 2,
        }
        started.stop()

    def test_timing_caches_are_kept_beside_the_plans(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: Library
    ) -> None:
        given: list[bytes | None] = []

        def build(*_: Any, timing_cache: bytes | None, **__: Any) -> Any:
            given.append(timing_cache)
            return BuildResult(Plan(b"plan", True), b"" if timing_cache is None else timing_cache + b"+")

        monkeypatch.setattr(engine, "build", build)
        gpu, store = open_gpu("test", "tensorrt"), PlanStore(tmp_path / "cache")
        target = TensorRTEngine(linear(tmp_path / "m.onnx"))
        file = OnnxFile(target.path)
        for number in (1, 2):
            engine.find_or_build(replace(target, batch_sizes=(number,)), file, fake, gpu, store)
        engine.find_or_build(replace(target, batch_sizes=(3,), timing_cache=False), file, fake, gpu, store)
        own = tmp_path / "own.cache"
        engine.find_or_build(replace(target, batch_sizes=(4,), timing_cache=own), file, fake, gpu, store)
        assert given == [b"", b"+", None, b""]
        assert own.read_bytes() == b"+"


def test_a_broken_gpu_is_told(start: Callable[..., StartedEngine]) -> None:
    """Last: nothing works in this process after it."""
    started = start()
    call = started.workload(1).call
    CUDA.mock_break()
    with pytest.raises(TargetError, match="The GPU can't run the engine: CUDA_ERROR_ILLEGAL_ADDRESS"):
        call()
    with pytest.raises(TargetDied, match="ILLEGAL_ADDRESS"):
        started.check()
