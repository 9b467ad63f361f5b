"""A model as its server describes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pytest_gpuperf.targets.payload import TensorSpec


@dataclass(frozen=True)
class ServedModel:
    """What a server says about a model.

    Attributes:
        metadata: inputs, outputs and versions, as the protocol has them.
        config: None where the server doesn't tell.
    """

    metadata: dict[str, Any]
    config: dict[str, Any] | None

    @property
    def max_batch_size(self) -> int | None:
        """None where the server doesn't say."""
        return None if self.config is None else int(self.config.get("max_batch_size", 0))

    @property
    def decoupled(self) -> bool:
        """It may give any number of answers to a request."""
        return bool((self.config or {}).get("model_transaction_policy", {}).get("decoupled", False))

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        optional = {tensor["name"] for tensor in (self.config or {}).get("input", ()) if tensor.get("optional")}
        return self._specs("inputs", optional)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._specs("outputs", set())

    def _specs(self, kind: str, optional: set[str]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(
                tensor["name"],
                tensor["datatype"],
                tuple(int(size) for size in tensor["shape"]),
                tensor["name"] in optional,
            )
            for tensor in self.metadata[kind]
        )

    @property
    def batched(self) -> bool:
        """The first dimension is the batch; a guess where the server doesn't say."""
        if self.max_batch_size is not None:
            return self.max_batch_size > 0
        return all(spec.shape and spec.shape[0] == -1 for spec in self.inputs)

    @property
    def steps(self) -> tuple[str, ...]:
        """Of an ensemble: the models that it is made of, in order."""
        steps = (self.config or {}).get("ensemble_scheduling", {}).get("step", ())
        return tuple(dict.fromkeys(str(step["model_name"]) for step in steps))

    @property
    def digest(self) -> str | None:
        if self.config is None:
            return None
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()[:32]
