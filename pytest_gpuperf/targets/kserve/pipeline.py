"""The models of an ensemble, and the time spent in each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_gpuperf.errors import Argument, OptionError, TargetDied, TargetError
from pytest_gpuperf.model import ServerTimes
from pytest_gpuperf.targets.kserve.client import KServeClient
from pytest_gpuperf.targets.kserve.served_model import ServedModel


@dataclass(frozen=True)
class Stage:
    """A model with the digest of its configuration and, for an ensemble, the stages that it consists of.

    Attributes:
        calls_stages: Whether the model calls its stages itself (BLS): its own times include theirs.
        correlation_type: Triton's type of the correlation ids of a stateful model; empty for others.
    """

    name: str
    digest: str
    stages: tuple[Stage, ...] = ()
    correlation_type: str = ""
    calls_stages: bool = False

    def walk(self) -> Iterator[Stage]:
        """Yield this stage and all below it."""
        yield self
        for stage in self.stages:
            yield from stage.walk()

    @property
    def tree_correlation_type(self) -> str:
        """Type of the correlation ids that this stage or one below it needs; empty if none is stateful."""
        if self.calls_stages:
            return self.correlation_type
        return next((stage.correlation_type for stage in self.walk() if stage.correlation_type), "")

    @property
    def tree_digest(self) -> str:
        """Digest over the configurations of this stage and all below it."""
        if not self.stages:
            return self.digest
        return hashlib.sha256(" ".join(stage.digest for stage in self.walk()).encode()).hexdigest()[:32]


def stage_tree(
    name: str,
    model: ServedModel,
    client: KServeClient,
    above: tuple[str, ...] = (),
    composing: Sequence[str] = (),
) -> Stage:
    """Return the tree of an ensemble, or of a model that calls others; a single stage for any other model.

    Args:
        above: The ensembles that it is a step of.
        composing: The models that a model calls by itself; those of an ensemble are known.

    Raises:
        TargetError: An ensemble is a step of itself.
        OptionError: The server has no such composing model.
    """
    if name in above:
        raise TargetError(f"The server at {client.address} says that the ensemble {name!r} is a step of itself.")
    for model_called in composing if not model.steps else ():
        try:
            client.config(model_called)
        except TargetDied:
            raise
        except TargetError as error:
            raise OptionError(Argument("composing_models", model_called), f": {error}") from error
    stages = tuple(
        stage_tree(step, ServedModel({}, client.config(step)), client, (*above, name))
        for step in model.steps or dict.fromkeys(composing)
    )
    return Stage(name, model.digest or "", stages, model.correlation_type, bool(stages) and not model.steps)


def ensemble_times(stage: Stage, times: Mapping[str, ServerTimes]) -> ServerTimes:
    """Return the times of a stage's requests, with those of its steps.

    Triton's statistics of an ensemble include the computation of all steps, but only the ensemble's queue, which is
    nearly empty; this function adds the queues of the steps.
    """
    total = times.get(stage.name, ServerTimes(0, 0, 0, 0, 0, 0))
    if not stage.stages:
        return total
    steps = {step.name: ensemble_times(step, times) for step in stage.stages}
    if stage.calls_stages:
        return replace(total, stages=steps)
    return replace(total, queue_ns=total.queue_ns + sum(step.queue_ns for step in steps.values()), stages=steps)
