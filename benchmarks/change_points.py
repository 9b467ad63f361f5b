"""False marks and power of ``gpuperf history``'s change points on simulated series::

python benchmarks/change_points.py
"""

from __future__ import annotations

import argparse

import numpy as np

from pytest_gpuperf.analysis.changepoint import change_points
from pytest_gpuperf.analysis.robust import FloatArray

KINDS = ("normal", "heavy tails (t3)", "two modes", "correlated (0.3)")
#: Number of records, size of the step in standard deviations, number of records before the step.
STEPS = ((20, 2.0, 10), (30, 3.0, 25), (30, 3.0, 27), (30, 2.0, 20), (60, 1.5, 40), (60, 1.0, 30))


def noise(kind: str, size: int, generator: np.random.Generator) -> FloatArray:
    """Return a series without a change."""
    values = generator.standard_normal(size)
    if kind == "heavy tails (t3)":
        return generator.standard_t(3, size)
    if kind == "two modes":
        return 0.3 * values + 2 * (generator.random(size) < 0.3)
    if kind == "correlated (0.3)":
        for index in range(1, size):
            values[index] += 0.3 * values[index - 1]
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description="False marks and power of the change points.")
    parser.add_argument("--series", type=int, default=1000)
    count = parser.parse_args().series
    generator = np.random.default_rng(1)
    print("| records | " + " | ".join(KINDS) + " |")
    print("|---:|" + "---:|" * len(KINDS))
    for size in (20, 60, 200):
        shares = []
        for kind in KINDS:
            marked = sum(bool(change_points(noise(kind, size, generator).tolist(), seed=seed)) for seed in range(count))
            shares.append(f"{marked / count:.1%}")
        print(f"| {size} | " + " | ".join(shares) + " |")
    print("\n| step | detected | within two records of its place |")
    print("|---|---:|---:|")
    for size, step, at in STEPS:
        marked = near = 0
        for seed in range(count // 4):
            values = noise("normal", size, generator)
            values[at:] += step
            changes = change_points(values.tolist(), seed=seed)
            marked += bool(changes)
            near += any(abs(change.index - at) <= 2 for change in changes)
        share = [f"{hits / (count // 4):.0%}" for hits in (marked, near)]
        print(f"| {step:g} sd after {at} of {size} | {share[0]} | {share[1]} |")


if __name__ == "__main__":
    main()
