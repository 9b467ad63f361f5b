"""Optimisation profiles: which shapes an engine is built for, and which profile takes a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.payload import TensorSpec, shape_fits

Shape = tuple[int, ...]
#: One batch size, or the smallest, the one to tune for, and the largest.
BatchSize = int | Sequence[int]


@dataclass(frozen=True)
class ShapeRange:
    """The shapes of one input in one profile, the batch included."""

    lowest: Shape
    tuned: Shape
    highest: Shape

    def contains(self, shape: Shape) -> bool:
        """Whether an input of that shape is within it."""
        return len(shape) == len(self.lowest) and all(
            low <= size <= high for low, size, high in zip(self.lowest, shape, self.highest, strict=True)
        )

    @property
    def exact(self) -> bool:
        """It takes one shape only."""
        return self.lowest == self.highest

    def __str__(self) -> str:
        return str(list(self.tuned)) if self.exact else f"{list(self.lowest)} to {list(self.highest)}"


Profile = Mapping[str, ShapeRange]


def batch_range(batch: BatchSize) -> tuple[int, int, int]:
    """Smallest, tuned-for and largest batch size of an entry of ``batch_sizes``.

    Raises:
        OptionError: it is neither a number nor three that rise.
    """
    sizes = (batch,) * 3 if isinstance(batch, int) else tuple(batch)
    if len(sizes) != 3 or not all(isinstance(size, int) for size in sizes) or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
        raise OptionError(
            f"batch_sizes: {batch!r} is neither a batch size nor a (smallest, tuned for, largest) of such, as 8 or "
            "(1, 8, 32)."
        )
    return sizes[0], sizes[1], sizes[2]


def size_range(name: str, sizes: Sequence[Any]) -> ShapeRange:
    """An entry of ``shapes``, without the batch: one shape, or the smallest, tuned-for and largest.

    Raises:
        OptionError: it is neither.
    """
    given = [sizes] * 3 if all(isinstance(size, int) for size in sizes) else list(sizes)
    try:
        low, tuned, high = (tuple(int(size) for size in one) for one in given)
    except (TypeError, ValueError):
        low = tuned = high = ()
    ordered = len(low) == len(tuned) == len(high) and all(
        1 <= a <= b <= c for a, b, c in zip(low, tuned, high, strict=True)
    )
    if not ordered or (not low and given[0] is not sizes):
        raise OptionError(
            f"shapes={{{name!r}: {sizes!r}}} is neither a shape nor a (smallest, tuned for, largest) of such, without "
            "the batch: [128] or ([1], [128], [512])."
        )
    return ShapeRange(low, tuned, high)


def make_profiles(
    inputs: Sequence[TensorSpec],
    *,
    batched: bool,
    batch_sizes: Sequence[BatchSize],
    shapes: Mapping[str, Sequence[Any]],
) -> tuple[Profile, ...]:
    """The profiles of an engine: one for each entry of ``batch_sizes``; none where no dimension is free.

    Args:
        batched: the first dimension of all inputs is the batch.

    Raises:
        OptionError: sizes are missing, or contradict the model.
    """
    known = [spec.name for spec in inputs]
    for name in shapes:
        if name not in known:
            raise OptionError(f"shapes: the model has no input {name!r}; its inputs are {', '.join(known)}.")
    items = {spec.name: _item_range(spec, shapes.get(spec.name), batched) for spec in inputs}
    batches = [batch_range(batch) for batch in batch_sizes]
    if not batched:
        if any(batch != (1, 1, 1) for batch in batches):
            raise OptionError(
                f"batch_sizes={tuple(batch_sizes)}: the model's first dimension is fixed, so its batch size can't be "
                "chosen; leave batch_sizes out."
            )
        return (items,) if any(-1 in spec.shape for spec in inputs) else ()
    return tuple(
        {
            name: ShapeRange((low, *item.lowest), (tuned, *item.tuned), (high, *item.highest))
            for name, item in items.items()
        }
        for low, tuned, high in batches
    )


def _item_range(spec: TensorSpec, sizes: Sequence[Any] | None, batched: bool) -> ShapeRange:
    declared = spec.item_shape(batched=batched)
    without = " (without the batch)" if batched else ""
    if sizes is None:
        if -1 in declared:
            example = [size if size > 0 else 128 for size in declared]
            raise OptionError(
                f"Input {spec.name!r} has free dimensions {list(declared)}{without}; say for which sizes to build: "
                f"shapes={{{spec.name!r}: {example}}}, or a (smallest, tuned for, largest) of such."
            )
        return ShapeRange(declared, declared, declared)
    found = size_range(spec.name, sizes)
    for shape in (found.lowest, found.tuned, found.highest):
        if not shape_fits(shape, declared):
            raise OptionError(
                f"shapes={{{spec.name!r}: {list(shape)}}} contradicts the model, whose {spec.name!r} is "
                f"{list(declared)}{without}: only the dimensions that are -1 there can be chosen."
            )
    return found


def choose_profile(profiles: Sequence[Profile], shapes: Mapping[str, Shape]) -> int:
    """Number of the profile for a request: one built for exactly its shapes, else the first that takes them.

    Raises:
        OptionError: none takes them.
    """
    taking = [
        number
        for number, profile in enumerate(profiles)
        if all(profile[name].contains(shape) for name, shape in shapes.items())
    ]
    if taking:
        return min(taking, key=lambda number: not all(one.exact for one in profiles[number].values()))
    wanted = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    built = "\n".join(
        f"  profile {number}: " + ", ".join(f"{name} {one}" for name, one in profile.items())
        for number, profile in enumerate(profiles)
    )
    raise OptionError(
        f"The engine takes no {wanted}; it was built for\n{built}\nAdd the batch size to batch_sizes=, or the sizes to "
        "shapes=."
    )
