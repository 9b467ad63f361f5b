"""Import of the JSON of pytest-benchmark, the counterpart of ``benchmark_export``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Plain


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of a file.

    Attributes:
        name: Node id of the test.
        rounds_s: Time of each round per iteration.
    """

    name: str
    rounds_s: tuple[float, ...]


@dataclass(frozen=True)
class BenchmarkFile:
    """The content of a file: what one process measured.

    Attributes:
        device: Device in the ``gpuperf`` part of ``machine_info``; empty if there is none.
        machine: Other facts about the machine, for the environment.
    """

    device: str
    commit: str
    machine: Mapping[str, Plain]
    benchmarks: tuple[Benchmark, ...]


def is_benchmark_file(path: Path) -> bool:
    """Return whether a file looks like one of pytest-benchmark."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "benchmarks" in document and "machine_info" in document


def read_benchmarks(path: Path) -> BenchmarkFile:
    """Read the benchmarks of a file.

    Raises:
        OptionError: The file cannot be read, has another format, or lacks the rounds.
    """
    try:
        document = json.loads(path.read_bytes())
        machine, commit = document["machine_info"], document.get("commit_info") or {}
        gpuperf = machine.get("gpuperf") or {}
        benchmarks = tuple(_benchmark(benchmark, path) for benchmark in document["benchmarks"])
        known = {name: machine.get(key) for name, key in _MACHINE.items()}
        facts = {str(name): value for name, value in {**known, **gpuperf}.items() if isinstance(value, Plain)}
        return BenchmarkFile(str(gpuperf.get("device") or ""), str(commit.get("id") or ""), facts, benchmarks)
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{path} is not complete JSON ({error}).") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise OptionError(
            f"{path} is not a pytest-benchmark file: {error!r}.\nWrite one with: pytest --benchmark-json {path.name}"
        ) from error


_MACHINE = {"host": "node", "kernel": "release", "python": "python_version"}


def _benchmark(benchmark: Mapping[str, Any], path: Path) -> Benchmark:
    name, data = str(benchmark["fullname"]), benchmark["stats"].get("data")
    if not data:
        raise OptionError(
            f"{path} has the statistics of {name}, but not its rounds, which percentiles need.\n"
            "Write it with pytest --benchmark-json FILE, or with --benchmark-save-data."
        )
    rounds_s = tuple(map(float, data))
    if not all(0 < round_s < math.inf for round_s in rounds_s):
        raise OptionError(f"{path}: a round of {name} is not a positive number of seconds.")
    return Benchmark(name, rounds_s)
