"""Optimisation profiles: the shapes that an engine is built for, and the choice of the profile for a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.payload import TensorSpec, resolve_item_shape

Shape = tuple[int, ...]
#: A batch size, or (smallest, tuned for, largest).
BatchSize = int | Sequence[int]


@dataclass(frozen=True)
class ShapeRange:
    """The shapes of an input in a profile, including the batch."""

    lowest: Shape
    tuned: Shape
    highest: Shape

    def contains(self, shape: Shape) -> bool:
        """Return whether the shape is within the range."""
        return len(shape) == len(self.lowest) and all(
            low <= size <= high for low, size, high in zip(self.lowest, shape, self.highest, strict=True)
        )

    @property
    def exact(self) -> bool:
        """True if the range contains only a single shape."""
        return self.lowest == self.highest

    def __str__(self) -> str:
        return str(list(self.tuned)) if self.exact else f"{list(self.lowest)} to {list(self.highest)}"


Profile = Mapping[str, ShapeRange]


def batch_range(batch: BatchSize) -> tuple[int, int, int]:
    """Return the smallest, tuned-for and largest batch size of an entry of ``batch_sizes``."""
    sizes = (batch,) * 3 if isinstance(batch, int) else tuple(batch)
    if len(sizes) != 3 or not all(isinstance(size, int) for size in sizes) or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
        raise OptionError(
            f"batch_sizes: {batch!r} must be a batch size, such as 8, or (smallest, tuned for, largest), such as "
            "(1, 8, 32)."
        )
    return sizes[0], sizes[1], sizes[2]


def size_range(name: str, sizes: Sequence[Any]) -> ShapeRange:
    """Return the range, without the batch, of an entry of ``shapes``."""
    triple = [sizes] * 3 if all(isinstance(size, int) for size in sizes) else list(sizes)
    try:
        low, tuned, high = (tuple(int(size) for size in shape) for shape in triple)
    except (TypeError, ValueError):
        low = tuned = high = ()
    ordered = len(low) == len(tuned) == len(high) and all(
        1 <= a <= b <= c for a, b, c in zip(low, tuned, high, strict=True)
    )
    if not ordered or (not low and triple[0] is not sizes):
        raise OptionError(
            f"shapes={{{name!r}: {sizes!r}}} must be a shape without the batch, such as [128], or (smallest, tuned "
            "for, largest), such as ([1], [128], [512])."
        )
    return ShapeRange(low, tuned, high)


def make_profiles(
    inputs: Sequence[TensorSpec],
    *,
    batched: bool,
    batch_sizes: Sequence[BatchSize],
    shapes: Mapping[str, Sequence[Any]],
) -> tuple[Profile, ...]:
    """Return the profiles of an engine, in the order of ``batch_sizes``; none if no dimension is free.

    Args:
        batched: Whether the first dimension of all inputs is the batch.
    """
    names = [spec.name for spec in inputs]
    for name in shapes:
        if name not in names:
            raise OptionError(f"shapes: the model has no input {name!r}; its inputs are {', '.join(names)}.")
    items = {spec.name: _item_range(spec, shapes.get(spec.name), batched) for spec in inputs}
    batches = [batch_range(batch) for batch in batch_sizes]
    if not batched:
        if any(batch != (1, 1, 1) for batch in batches):
            raise OptionError(
                f"batch_sizes={tuple(batch_sizes)} can't be built, since the model's first dimension is fixed; leave "
                "batch_sizes out."
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
    if sizes is None:
        if -1 in declared:
            without = " (without the batch)" if batched else ""
            example = [size if size > 0 else 128 for size in declared]
            raise OptionError(
                f"Input {spec.name!r} has free dimensions {list(declared)}{without}. Set the sizes to build for: "
                f"shapes={{{spec.name!r}: {example}}}, or a (smallest, tuned for, largest) of such shapes."
            )
        return ShapeRange(declared, declared, declared)
    sizes_range = size_range(spec.name, sizes)
    for shape in (sizes_range.lowest, sizes_range.tuned, sizes_range.highest):
        resolve_item_shape(spec, shape, batched=batched)  # raises if it contradicts the model
    return sizes_range


def choose_profile(profiles: Sequence[Profile], shapes: Mapping[str, Shape]) -> int:
    """Return the index of the profile for a request: built for exactly its shapes, else the first to contain them."""
    matching = [
        number
        for number, profile in enumerate(profiles)
        if all(profile[name].contains(shape) for name, shape in shapes.items())
    ]
    if matching:
        return min(matching, key=lambda number: not all(sizes.exact for sizes in profiles[number].values()))
    wanted = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    built = "\n".join(
        f"  profile {number}: " + ", ".join(f"{name} {sizes}" for name, sizes in profile.items())
        for number, profile in enumerate(profiles)
    )
    raise OptionError(
        f"The engine was not built for {wanted}, but for\n{built}\nAdd the batch size to batch_sizes=, or the sizes to "
        "shapes=."
    )
