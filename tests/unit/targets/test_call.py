from __future__ import annotations

import functools
import types
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets import CallTarget, as_target


def test_without_a_batch_size_parameter_the_callable_is_called_as_it_is() -> None:
    seen: list[str] = []
    started = CallTarget(lambda: seen.append("called")).start()
    workload = started.workload(1)
    workload.call()
    assert seen == ["called"]
    assert workload.batch_size == 1


def test_and_can_not_be_swept_over_batch_sizes() -> None:
    def preprocess() -> None: ...

    with pytest.raises(
        OptionError, match="preprocess is swept with batch_size=8, but has no parameter named batch_size"
    ):
        CallTarget(preprocess).start().workload(8)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_batch_size_parameter_gets_it(batch_size: int) -> None:
    seen: list[int] = []

    def infer(batch_size: int) -> None:
        seen.append(batch_size)

    workload = CallTarget(infer).start().workload(batch_size)
    workload.call()
    workload.call()
    assert seen == [batch_size] * 2
    assert workload.batch_size == batch_size


def test_a_batch_size_keyword_with_a_default_gets_it_too() -> None:
    seen: list[tuple[str, int]] = []

    def infer(name: str = "x", *, batch_size: int = 3) -> None:
        seen.append((name, batch_size))

    CallTarget(infer).start().workload(1).call()
    CallTarget(functools.partial(infer, "y")).start().workload(2).call()
    assert seen == [("x", 1), ("y", 2)]


def test_synchronize_comes_after_every_call_and_belongs_to_it() -> None:
    seen: list[str] = []
    target = CallTarget(lambda: seen.append("call"), synchronize=lambda: seen.append("wait"))
    call = target.start().workload(1).call
    call()
    call()
    assert seen == ["call", "wait", "call", "wait"]


def test_synchronize_after_a_batched_call() -> None:
    seen: list[object] = []

    def infer(batch_size: int) -> None:
        seen.append(batch_size)

    CallTarget(infer, synchronize=lambda: seen.append("wait")).start().workload(4).call()
    assert seen == [4, "wait"]


def test_an_error_of_the_callable_comes_through() -> None:
    def fails() -> None:
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        CallTarget(fails, synchronize=lambda: None).start().workload(1).call()


class _Model:
    def __call__(self) -> None: ...

    def infer(self) -> None: ...


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (test_an_error_of_the_callable_comes_through, "test_an_error_of_the_callable_comes_through"),
        (_Model().infer, "infer"),
        (_Model(), "_Model"),
        (functools.partial(print), "partial"),
        (np.sin, "sin"),
        (print, "print"),
    ],
)
def test_has_the_callables_name(call: object, name: str) -> None:
    assert callable(call)
    target = CallTarget(call)
    assert target.name == name
    assert CallTarget(call, label="mine").name == "mine"
    assert str(target.start().under_test()["callable"]).endswith(f".{name}")


def test_needs_nothing_for_requests_in_flight() -> None:
    assert CallTarget(dict).start().workload(1, in_flight=64).batch_size == 1


def test_builtins_without_a_signature_can_be_called() -> None:
    CallTarget(dict).start().workload(1).call()


def test_starts_nothing_that_could_die() -> None:
    started = CallTarget(_Model()).start()
    started.check()
    assert started.server_times() is None
    started.stop()
    started.stop()
    started.check()


def test_a_callable_becomes_a_target_and_a_target_stays_one() -> None:
    target = as_target(_Model())
    assert target.name == "_Model"
    assert as_target(target) is target


def test_anything_else_is_refused_with_what_to_write_instead() -> None:
    @dataclass
    class Config:
        name: str = "no start method"

    for subject in (3, "model.onnx", None, Config()):
        with pytest.raises(OptionError, match=r"Pass a target .* or a callable"):
            as_target(subject)  # type: ignore[arg-type]


async def _awaited() -> None: ...


def _read() -> Iterator[int]:
    yield 1


async def _read_async() -> AsyncIterator[int]:
    yield 1


class _AsyncModel:
    async def __call__(self) -> None: ...

    def stream(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (_awaited, r"_awaited .*coroutine, .*write lambda: asyncio.run\(infer\(\)\)"),
        (functools.partial(functools.partial(_awaited)), "coroutine"),
        (_AsyncModel(), "_AsyncModel .*coroutine"),
        (functools.partial(_AsyncModel()), "coroutine"),
        (_read, r"_read .*generator, .*write lambda: list\(stream\(\)\)"),
        (_AsyncModel().stream, "generator"),
        (_read_async, "_read_async .*async generator"),
    ],
)
def test_functions_whose_calls_only_begin_the_work_are_refused(call: Callable[[], object], why: str) -> None:
    with pytest.raises(OptionError, match=why):
        as_target(call)
    with pytest.raises(OptionError, match=why):
        CallTarget(print, synchronize=call)


def test_a_function_that_waits_for_an_async_one_is_none_of_them() -> None:
    @functools.wraps(_awaited)
    def waits() -> None: ...

    assert as_target(waits).name == "_awaited"


def test_a_synchronized_call_keeps_its_result() -> None:
    target = CallTarget(lambda: (number for number in range(3)), synchronize=lambda: None)
    assert isinstance(target.start().workload(1).call(), types.GeneratorType)
