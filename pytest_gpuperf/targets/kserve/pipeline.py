"""What an ensemble is made of, and where its time goes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pytest_gpuperf.model import ServerTimes
from pytest_gpuperf.targets.kserve.client import KServeClient
from pytest_gpuperf.targets.kserve.served_model import ServedModel


@dataclass(frozen=True)
class Stage:
    """A model, with the stages it is made of where it is an ensemble.

    Attributes:
        digest: of its configuration.
    """

    name: str
    digest: str
    stages: tuple[Stage, ...] = ()

    def walk(self) -> Iterator[Stage]:
        """It and all below it."""
        yield self
        for stage in self.stages:
            yield from stage.walk()

    @property
    def tree_digest(self) -> str:
        """Of its configuration and of all below it."""
        if not self.stages:
            return self.digest
        return hashlib.sha256(" ".join(stage.digest for stage in self.walk()).encode()).hexdigest()[:32]


def stage_tree(name: str, model: ServedModel, client: KServeClient) -> Stage:
    """The tree of an ensemble; a stage alone for any other model.

    Raises:
        TargetError: the server doesn't tell of a model that it is made of.
    """
    below = tuple(stage_tree(step, ServedModel({}, client.config(step)), client) for step in model.steps)
    return Stage(name, model.digest or "", below)


def ensemble_times(stage: Stage, times: Mapping[str, ServerTimes]) -> ServerTimes:
    """What an ensemble's requests took, step by step.

    Triton's own entry for an ensemble has the computation of all steps in it, but only the ensemble's own queue, which
    is next to nothing: the queues of the steps are added here.
    """
    own = times.get(stage.name, ServerTimes(0, 0, 0, 0, 0, 0))
    if not stage.stages:
        return own
    below = {one.name: ensemble_times(one, times) for one in stage.stages}
    return replace(own, queue_ns=own.queue_ns + sum(one.queue_ns for one in below.values()), stages=below)
