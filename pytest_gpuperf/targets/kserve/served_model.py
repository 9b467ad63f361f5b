"""A model as described by its server."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.targets.kserve.sequences import INTEGER_ID, STRING_ID
from pytest_gpuperf.targets.payload import TensorSpec, first_is_batch


@dataclass(frozen=True)
class ServedModel:
    """A server's description of a model.

    Attributes:
        metadata: Inputs, outputs and versions in the protocol's form.
        config: Triton's model configuration; None if the server does not provide it.
    """

    metadata: dict[str, Any]
    config: dict[str, Any] | None

    def check(self, address: str) -> None:
        """Check that the description has the protocol's form.

        Raises:
            TargetError: It hasn't.
        """
        try:
            _ = self.inputs, self.outputs, self.batched, self.decoupled, self.steps, self.correlation_type
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
            raise TargetError(f"The server at {address} describes the model in an unknown form: {error!r}.") from error

    @property
    def max_batch_size(self) -> int | None:
        """Largest batch size, 0 for none; None if the server does not provide it."""
        return None if self.config is None else int(self.config.get("max_batch_size", 0))

    @property
    def decoupled(self) -> bool:
        """True if the model may send any number of answers to a request."""
        return bool((self.config or {}).get("model_transaction_policy", {}).get("decoupled", False))

    @property
    def correlation_type(self) -> str:
        """Triton's type of the correlation ids that a stateful model needs; empty for others."""
        batching = (self.config or {}).get("sequence_batching")
        if batching is None:
            return ""
        controls = [control for tensor in batching.get("control_input", ()) for control in tensor.get("control", ())]
        types = [control.get("data_type") for control in controls if control.get("kind") == "CONTROL_SEQUENCE_CORRID"]
        return STRING_ID if STRING_ID in types else INTEGER_ID

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        optional = {tensor["name"] for tensor in (self.config or {}).get("input", ()) if tensor.get("optional")}
        return self._specs("inputs", optional)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._specs("outputs", set())

    def _specs(self, kind: str, optional: set[str]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(tensor["name"], tensor["datatype"], tuple(map(int, tensor["shape"])), tensor["name"] in optional)
            for tensor in self.metadata[kind]
        )

    @property
    def batched(self) -> bool:
        """True if the first dimension is the batch; inferred from the shapes if the server does not provide it."""
        if self.max_batch_size is not None:
            return self.max_batch_size > 0
        return first_is_batch(self.inputs)

    @property
    def steps(self) -> tuple[str, ...]:
        """The models that an ensemble consists of, in order; empty for other models."""
        steps = (self.config or {}).get("ensemble_scheduling", {}).get("step", ())
        return tuple(dict.fromkeys(str(step["model_name"]) for step in steps))

    @property
    def digest(self) -> str | None:
        """First half of the SHA-256 of the configuration; None without a configuration."""
        if self.config is None:
            return None
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()[:32]
