"""A callable as a target: PyTorch, CuPy, JAX, or any function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from types import AsyncGeneratorType, CoroutineType, GeneratorType

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import UNSTARTED_RESULTS, CallWorkload, PlainMapping
from pytest_gpuperf.targets.target import StartedInProcess, Target


@dataclass(frozen=True)
class CallTarget:
    """A callable that does an inference.

    Attributes:
        call: Callable that serves a request; receives ``batch_size=`` if it has a parameter of that name.
        synchronize: Callable that runs after ``call`` and is timed with it, for work that is only queued when ``call``
            returns (``torch.cuda.synchronize``).
        label: Name of the target; the callable's name when empty.

    Raises:
        OptionError: ``call`` or ``synchronize`` is an ``async def`` or generator function, whose calls do no work.
    """

    call: Callable[..., object]
    synchronize: Callable[[], object] | None = None
    label: str = field(default="")

    def __post_init__(self) -> None:
        for function in (self.call, self.synchronize):
            if function is not None and (kind := _unstarted_result(function)) is not None:
                name = getattr(function, "__name__", repr(function))
                raise OptionError(f"{name} can't be measured: it returns {UNSTARTED_RESULTS[kind]}.")

    @property
    def name(self) -> str:
        return self.label or getattr(self.call, "__name__", type(self.call).__name__)

    def start(self) -> _StartedCall:
        return _StartedCall(self)


class _StartedCall(StartedInProcess):
    #: A callable is not started.
    start_times = None

    def __init__(self, target: CallTarget) -> None:
        self._target = target

    def workload(self, batch_size: int, in_flight: int = 1) -> CallWorkload:  # noqa: ARG002 - calls need no memory
        call, synchronize = self._target.call, self._target.synchronize
        if _takes_batch_size(call):
            call = functools.partial(call, batch_size=batch_size)
        elif batch_size != 1:
            raise OptionError(
                f"{self._target.name} is swept with batch_size={batch_size}, but has no parameter named batch_size.\n"
                "Add the parameter, or leave batch_size out of the sweep."
            )
        if synchronize is None:
            return CallWorkload(call, batch_size)

        def synchronized() -> object:
            result = call()
            synchronize()
            return result

        return CallWorkload(synchronized, batch_size)

    def under_test(self) -> PlainMapping:
        return {"callable": f"{getattr(self._target.call, '__module__', '?')}.{self._target.name}"}


def _takes_batch_size(call: Callable[..., object]) -> bool:
    try:
        return "batch_size" in inspect.signature(call).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return False


def _unstarted_result(call: Callable[..., object]) -> type | None:
    """Return the key of ``UNSTARTED_RESULTS`` that the callable is declared to return; None if it does its work."""
    while isinstance(call, functools.partial):
        call = call.func
    for function in (call, type(call).__call__):
        if inspect.iscoroutinefunction(function):
            return CoroutineType
        if inspect.isgeneratorfunction(function):
            return GeneratorType
        if inspect.isasyncgenfunction(function):
            return AsyncGeneratorType
    return None


def as_target(subject: Target | Callable[..., object]) -> Target:
    """Return a target as it is, and a callable as a ``CallTarget``."""
    if hasattr(subject, "start") and hasattr(subject, "name"):
        return subject
    if callable(subject):
        return CallTarget(subject)
    raise OptionError(
        f"{subject!r} can't be measured. Pass a target (triton_endpoint(...), kserve_endpoint(...), "
        "tensorrt_engine(...), onnxruntime_engine(...)) or a callable."
    )
