"""Import of the JSON of pytest-benchmark, the counterpart of ``benchmark_export``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Plain, PlainMapping

_MACHINE = {"host": "node", "kernel": "release", "python": "python_version"}
#: Fields of a device's key that ``pytest --gpuperf`` adds to ``machine_info``.
_DEVICE = ("device", "device_count", "mig_profile", "power_limit_w", "clock_policy", "cores", "quota_cores")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of a file.

    Attributes:
        name: Node id of the test.
        rounds_s: Time of each round per call, as the file has it; empty if it only has statistics.
        iterations: Calls in each round, as the file has them.
    """

    name: str
    rounds_s: tuple[Any, ...]
    iterations: Any = 1


@dataclass(frozen=True)
class BenchmarkFile:
    """The content of a file: what one process measured.

    Attributes:
        device: What the comparison key says of the device; empty if the file names neither a device nor a CPU.
        commit: Hash of the commit; empty if the file has none.
        dirty: Whether there were uncommitted changes.
        machine: Other facts about the machine, for the environment.
        benchmarks: The benchmarks that were asked for. A name may occur several times.
    """

    path: Path
    device: PlainMapping
    commit: str
    dirty: bool
    machine: Mapping[str, Plain]
    benchmarks: tuple[Benchmark, ...]


def is_benchmark_file(path: Path) -> bool:
    """Return whether a file is one of pytest-benchmark.

    Raises:
        OptionError: The file can't be read, or is not JSON.
    """
    document = _document(path)
    return isinstance(document, dict) and "benchmarks" in document and "machine_info" in document


def read_benchmarks(path: Path, test: str = "") -> BenchmarkFile:
    """Read the benchmarks of a file.

    Args:
        test: Text that the names of the benchmarks contain; others are not looked at.

    Raises:
        OptionError: The file can't be read or has another format.
    """
    document = _document(path)
    try:
        machine, commit = document["machine_info"], document.get("commit_info") or {}
        gpuperf = machine.get("gpuperf") or {}
        benchmarks = tuple(_benchmark(entry) for entry in document["benchmarks"] if test in str(entry["fullname"]))
        known = {name: machine.get(key) for name, key in _MACHINE.items()}
        facts = {str(name): value for name, value in {**known, **gpuperf}.items() if isinstance(value, Plain)}
        commit_id = str(commit.get("id") or "").lower()
    except (KeyError, TypeError, AttributeError) as error:
        raise OptionError(
            f"{path} is not a pytest-benchmark file: {error!r}.\nWrite one with: pytest --benchmark-json {path.name}"
        ) from error
    return BenchmarkFile(
        path,
        _device(machine, gpuperf),
        commit_id if _COMMIT.fullmatch(commit_id) else "",  # "unversioned" and "unknown" are not commits
        bool(commit.get("dirty")),
        facts,
        benchmarks,
    )


def _device(machine: Mapping[str, Any], gpuperf: Mapping[str, Any]) -> PlainMapping:
    """Return the device of a file: as our plugin describes it, or else the CPU as pytest-benchmark does."""
    if gpuperf.get("device"):
        return {name: gpuperf[name] for name in _DEVICE if name in gpuperf and isinstance(gpuperf[name], Plain)}
    cpu = machine.get("cpu")
    cpu = cpu if isinstance(cpu, dict) else {}
    # Without py-cpuinfo, pytest-benchmark knows no more than the architecture.
    names = (cpu.get("brand_raw"), cpu.get("brand"), machine.get("processor"), machine.get("machine"))
    model = next((str(name) for name in names if name), "")
    if not model:
        return {}
    cores = cpu.get("count")
    return {"device": f"CPU {' '.join(model.split())}", **({"cores": cores} if isinstance(cores, int) else {})}


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{path} is not complete JSON ({error}).") from error


def _benchmark(entry: Mapping[str, Any]) -> Benchmark:
    stats = entry["stats"]
    return Benchmark(str(entry["fullname"]), tuple(stats.get("data") or ()), stats.get("iterations", 1))
