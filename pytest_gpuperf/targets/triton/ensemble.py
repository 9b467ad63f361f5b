"""How the steps of an ensemble are joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.payload import TensorSpec
from pytest_gpuperf.targets.triton.resolved_model import ResolvedModel
from pytest_gpuperf.targets.triton.step import Step


@dataclass(frozen=True)
class EnsembleStep:
    """One step: where its inputs come from and what its outputs are called."""

    model: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Ensemble:
    """A model that is made of others.

    Attributes:
        inputs, outputs: with the batch dimension first, also where ``max_batch_size`` is 0.
    """

    name: str
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    steps: tuple[EnsembleStep, ...]


def join_steps(name: str, steps: Sequence[Step], models: Sequence[ResolvedModel]) -> Ensemble:
    """Join the steps, in order; the outputs of the last are those of the whole.

    An ensemble takes batches if all its steps do, as large as the smallest limit among them.

    Raises:
        OptionError: an input has no source, or one of another type; a name occurs twice.
    """
    _check_names(name, models)
    made: dict[str, dict[str, TensorSpec]] = {}
    inputs: dict[str, TensorSpec] = {}
    sources: list[dict[str, str]] = []
    for step, model in zip(steps, models, strict=True):
        assert model.signature is not None
        _check_feed(step, model)
        sources.append({})
        for spec in model.signature.inputs:
            source = step.feed.get(spec.name) or _default_source(spec, model, made)
            there = _find_output(made, source)
            if there is None and step.feed.get(spec.name) and "." in source and source.partition(".")[0] in made:
                step_name, _, wanted = source.partition(".")
                raise OptionError(
                    f"{model.name}: feed takes {spec.name!r} from {source!r}, and {step_name!r} has no output "
                    f"{wanted!r}; it has {', '.join(made[step_name])}."
                )
            before = there or inputs.setdefault(source, replace(spec, name=source))
            if before.datatype != spec.datatype:
                raise OptionError(
                    f"{model.name}: input {spec.name!r} is {spec.datatype}, and what it is given, {source!r}, is "
                    f"{before.datatype}."
                )
            sources[-1][spec.name] = source
        made[model.name] = {spec.name: spec for spec in model.signature.outputs}
    batched = all(model.batched for model in models)
    last = models[-1]
    assert last.signature is not None
    return Ensemble(
        name,
        min(model.max_batch_size or 0 for model in models) if batched else 0,
        tuple(inputs.values()),
        last.signature.outputs,
        tuple(
            EnsembleStep(
                model.name,
                source,
                {output: output if model is last else f"{model.name}.{output}" for output in made[model.name]},
            )
            for model, source in zip(models, sources, strict=True)
        ),
    )


def _default_source(spec: TensorSpec, model: ResolvedModel, made: Mapping[str, Mapping[str, TensorSpec]]) -> str:
    """Where an input comes from that nothing is said about."""
    for name, outputs in reversed(list(made.items())):
        if spec.name in outputs:
            return f"{name}.{spec.name}"
    assert model.signature is not None
    if made and len(model.signature.inputs) == 1:
        name, outputs = list(made.items())[-1]
        if len(outputs) == 1:
            return f"{name}.{next(iter(outputs))}"
    return spec.name


def _find_output(made: Mapping[str, Mapping[str, TensorSpec]], source: str) -> TensorSpec | None:
    return next(
        (spec for name, outputs in made.items() for output, spec in outputs.items() if source == f"{name}.{output}"),
        None,
    )


def _check_feed(step: Step, model: ResolvedModel) -> None:
    assert model.signature is not None
    own = [spec.name for spec in model.signature.inputs]
    for name in step.feed:
        if name not in own:
            raise OptionError(f"{model.name}: feed speaks of an input {name!r}; it has {', '.join(own)}.")


def _check_names(name: str, models: Sequence[ResolvedModel]) -> None:
    names = [name, *(model.name for model in models)]
    for one in names:
        if names.count(one) > 1:
            raise OptionError(f"Two models of the ensemble are called {one!r}: give one of the steps another name=.")
    for model in models:
        if model.signature is None:
            raise OptionError(
                f"{model.source.name} is a step of an ensemble, which must know its tensors: declare them with "
                "Step(..., input_tensors=, output_tensors=)."
            )
