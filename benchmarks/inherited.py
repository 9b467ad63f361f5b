"""How often a change on a regressed main branch is judged as it should be, in simulation::

    python -m benchmarks.inherited

The baseline has 20 records of 3 runs at 4 load points, and the merge base one record, which is slower. Records and runs
spread by the same standard deviation. Of the innocent changes as many as possible should inherit the regression, of
those that add as much again as many as possible should be red, and a change that alone is slower never inherits.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from pytest_gpuperf.analysis.priors import Prior
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.values import RecordValues, values_from_numbers
from pytest_gpuperf.publish.comparison import RecordToJudge, compare_alone
from pytest_gpuperf.publish.inherited import MergeBaseValues

POINTS, RECORDS, RUNS, REPETITIONS = 4, 20, 3, 200


def record(name: str, level: float, sd: float, rng: np.random.Generator) -> RecordValues:
    """Return a record whose points are all slower by a factor."""
    moved = math.log(level) + sd * rng.standard_normal()
    noise = np.exp(moved + sd * rng.standard_normal((RUNS, POINTS)))
    return values_from_numbers(
        name,
        [{f"concurrency {point}": {"p50": 1e6 * noise[run, point]} for point in range(POINTS)} for run in range(RUNS)],
    )


def verdicts(main: float, change: float, sd: float, tests: int) -> Counter[str]:
    """Count the verdicts about a change, where the main branch and the change are slower by these factors."""
    rng, rule = np.random.default_rng(1), Rule(prior=Prior(0.05, 8), tests=tests)
    count: Counter[str] = Counter()
    for _ in range(REPETITIONS):
        baseline = tuple(record(f"b{number}", 1.0, sd, rng) for number in range(RECORDS))
        merge_base = MergeBaseValues((record("m", main, sd, rng),))
        candidate = record("c", change, sd, rng)
        count[compare_alone(RecordToJudge("test", candidate, baseline, rule, merge_base=merge_base)).verdict] += 1
    return count


def main() -> None:
    print("main   change  spread  tests  verdicts")
    for tests in (1, 10):
        for sd in (0.01, 0.02, 0.03):
            for level, change in ((1.2, 1.2), (1.2, 1.44), (1.0, 1.2)):
                shares = verdicts(level, change, sd, tests)
                texts = (f"{verdict} {times / REPETITIONS:.1%}" for verdict, times in shares.most_common())
                print(f"{level - 1:+.0%}   {change - 1:+.0%}    {sd:.0%}      {tests:<5}  {', '.join(texts)}")


if __name__ == "__main__":
    main()
