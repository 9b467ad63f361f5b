"""Reading pytest-benchmark's JSON: the counterpart of ``benchmark_export``."""

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
        name: pytest's node id.
        rounds_s: how long each round took, for one iteration.
    """

    name: str
    rounds_s: tuple[float, ...]


@dataclass(frozen=True)
class BenchmarkFile:
    """One file: what one process measured.

    Attributes:
        device: as the ``gpuperf`` part of ``machine_info`` has it; empty without one.
        machine: what else that file says of its machine, for the environment.
    """

    device: str
    commit: str
    machine: Mapping[str, Plain]
    benchmarks: tuple[Benchmark, ...]


def is_benchmark_file(path: Path) -> bool:
    """Whether a file is pytest-benchmark's, as far as can be told before it is read in earnest."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "benchmarks" in document and "machine_info" in document


def read_benchmarks(path: Path) -> BenchmarkFile:
    """The benchmarks of a file.

    Raises:
        OptionError: the file can't be read, is none, or lacks the single rounds; the message says what is wrong.
    """
    try:
        document = json.loads(path.read_bytes())
        machine, commit = document["machine_info"], document.get("commit_info") or {}
        own = machine.get("gpuperf") or {}
        benchmarks = tuple(_benchmark(one, path) for one in document["benchmarks"])
        known = {name: machine.get(key) for name, key in _MACHINE.items()}
        facts = {str(name): value for name, value in {**known, **own}.items() if isinstance(value, Plain)}
        return BenchmarkFile(str(own.get("device") or ""), str(commit.get("id") or ""), facts, benchmarks)
    except OSError as error:
        raise OptionError(f"{path} can't be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{path} is not complete JSON ({error}).") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise OptionError(
            f"{path} is not a pytest-benchmark file: {error!r}.\nWrite one with: pytest --benchmark-json {path.name}"
        ) from error


_MACHINE = {"host": "node", "kernel": "release", "python": "python_version"}


def _benchmark(one: Mapping[str, Any], path: Path) -> Benchmark:
    name, data = str(one["fullname"]), one["stats"].get("data")
    if not data:
        raise OptionError(
            f"{path} has the statistics of {name}, but not its rounds, which percentiles need.\n"
            "Write it with pytest --benchmark-json FILE, or with --benchmark-save-data."
        )
    rounds_s = tuple(map(float, data))
    if not all(0 < one_s < math.inf for one_s in rounds_s):
        raise OptionError(f"{path}: a round of {name} is not a positive number of seconds.")
    return Benchmark(name, rounds_s)
