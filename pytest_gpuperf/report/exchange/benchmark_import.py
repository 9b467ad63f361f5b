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

#: No measured time is longer; a longer one is a mistake of whoever wrote the file.
_LONGEST_S = 1e9
_MACHINE = {"host": "node", "kernel": "release", "python": "python_version"}
#: Fields of a device's key that ``pytest --gpuperf`` adds to ``machine_info``.
_DEVICE = ("device", "device_count", "mig_profile", "power_limit_w", "clock_policy", "cores", "quota_cores")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of a file.

    Attributes:
        name: Node id of the test.
        rounds_s: Time of each round per iteration.
        iterations: Calls in each round.
    """

    name: str
    rounds_s: tuple[float, ...]
    iterations: int = 1


@dataclass(frozen=True)
class BenchmarkFile:
    """The content of a file: what one process measured.

    Attributes:
        device: What the comparison key says of the device; empty if the file names neither a device nor a CPU.
        commit: Hash of the commit; empty if the file has none.
        dirty: Whether there were uncommitted changes.
        machine: Other facts about the machine, for the environment.
        benchmarks: The benchmarks that were asked for. A name may occur several times.
        left_out: The benchmarks without usable rounds, each in a sentence.
    """

    path: Path
    device: PlainMapping
    commit: str
    dirty: bool
    machine: Mapping[str, Plain]
    benchmarks: tuple[Benchmark, ...]
    left_out: tuple[str, ...] = ()


class _UnusableError(Exception):
    """The rounds of a benchmark can't be used."""


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
        entries = [entry for entry in document["benchmarks"] if test in str(entry["fullname"])]
        known = {name: machine.get(key) for name, key in _MACHINE.items()}
        facts = {str(name): value for name, value in {**known, **gpuperf}.items() if isinstance(value, Plain)}
        commit_id = str(commit.get("id") or "").lower()
        benchmarks, left_out = [], []
        for entry in entries:
            try:
                benchmarks.append(_benchmark(entry))
            except _UnusableError as error:
                left_out.append(f"{path}: {entry['fullname']} {error}")
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
        tuple(benchmarks),
        tuple(left_out),
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
    """Return a benchmark.

    Raises:
        _UnusableError: Its rounds can't be used; the message continues a sentence that begins with its name.
    """
    stats = entry["stats"]
    data, iterations = stats.get("data"), stats.get("iterations", 1)
    if not data:
        raise _UnusableError(
            "has statistics, but not its rounds, which percentiles need. "
            "Write the file with pytest --benchmark-json FILE, or with --benchmark-save-data."
        )
    for round_s in data:
        is_number = isinstance(round_s, int | float) and not isinstance(round_s, bool)
        if not is_number or not 0 <= round_s <= _LONGEST_S:
            raise _UnusableError(f"has a round of {round_s!r}, which is not a time in seconds.")
    short = sum(not round_s for round_s in data)
    if short >= len(data) / 2:
        raise _UnusableError(
            f"took 0 s in {short} of its {len(data)} rounds: it is shorter than the clock's resolution. "
            "Give it more iterations per round, with --benchmark-min-time."
        )
    if not isinstance(iterations, int) or isinstance(iterations, bool) or not 1 <= iterations < 1 << 53:
        raise _UnusableError(f"has {iterations!r} iterations; expected 1 or more.")
    return Benchmark(str(entry["fullname"]), tuple(map(float, data)), iterations)
