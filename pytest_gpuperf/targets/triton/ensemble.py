"""The connections between the steps of an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.payload import TensorSpec
from pytest_gpuperf.targets.triton.resolved_model import ResolvedModel
from pytest_gpuperf.targets.triton.step import Step


@dataclass(frozen=True)
class EnsembleStep:
    """A step of an ensemble.

    Attributes:
        inputs: Source of each input: an output as ``step.output``, or an input of the ensemble.
        outputs: Name of each output in the ensemble.
    """

    model: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Ensemble:
    """A model that consists of others.

    Attributes:
        inputs, outputs: Tensors of the ensemble, with the batch dimension first even if ``max_batch_size`` is 0.
    """

    name: str
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    steps: tuple[EnsembleStep, ...]


def join_steps(name: str, steps: Sequence[Step], models: Sequence[ResolvedModel]) -> Ensemble:
    """Connect the steps in order; the outputs of the last step are those of the ensemble.

    An ensemble accepts batches if all its steps do, up to the smallest limit among them.
    """
    _check_names(name, models)
    outputs: dict[str, dict[str, TensorSpec]] = {}
    by_source: dict[str, TensorSpec] = {}
    inputs: dict[str, TensorSpec] = {}
    sources: list[dict[str, str]] = []
    for step, model in zip(steps, models, strict=True):
        assert model.signature is not None
        _check_feed(step, model)
        sources.append({})
        for spec in model.signature.inputs:
            source = step.feed.get(spec.name) or _default_source(spec, model, outputs)
            output = by_source.get(source)
            if output is None and step.feed.get(spec.name) and "." in source and source.partition(".")[0] in outputs:
                step_name, _, wanted = source.partition(".")
                raise OptionError(
                    f"{model.name}: feed connects {spec.name!r} to {source!r}, but {step_name!r} has no output "
                    f"{wanted!r}; it has {', '.join(outputs[step_name])}."
                )
            tensor = output or inputs.setdefault(source, replace(spec, name=source))
            if tensor.datatype != spec.datatype:
                raise OptionError(
                    f"{model.name}: input {spec.name!r} is {spec.datatype}, but its source {source!r} is "
                    f"{tensor.datatype}."
                )
            sources[-1][spec.name] = source
        outputs[model.name] = {spec.name: spec for spec in model.signature.outputs}
        by_source |= {f"{model.name}.{name}": spec for name, spec in outputs[model.name].items()}
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
                {name: name if model is last else f"{model.name}.{name}" for name in outputs[model.name]},
            )
            for model, source in zip(models, sources, strict=True)
        ),
    )


def _default_source(spec: TensorSpec, model: ResolvedModel, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str:
    """Return the source of an input that ``feed`` does not name; see ``Step``."""
    for name, tensors in reversed(list(outputs.items())):
        if spec.name in tensors:
            return f"{name}.{spec.name}"
    assert model.signature is not None
    if outputs and len(model.signature.inputs) == 1:
        name, tensors = list(outputs.items())[-1]
        if len(tensors) == 1:
            return f"{name}.{next(iter(tensors))}"
    return spec.name


def _check_feed(step: Step, model: ResolvedModel) -> None:
    assert model.signature is not None
    inputs = [spec.name for spec in model.signature.inputs]
    for name in step.feed:
        if name not in inputs:
            raise OptionError(f"{model.name}: feed names the unknown input {name!r}; inputs are {', '.join(inputs)}.")


def _check_names(name: str, models: Sequence[ResolvedModel]) -> None:
    names = [name, *(model.name for model in models)]
    for model_name in names:
        if names.count(model_name) > 1:
            raise OptionError(f"Two models of the ensemble are called {model_name!r}: rename a step with name=.")
    for model in models:
        if model.signature is None:
            raise OptionError(
                f"{model.source.name} is a step of an ensemble, which needs its tensors: declare them with "
                "Step(..., input_tensors=, output_tensors=)."
            )
