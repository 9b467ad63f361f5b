"""Records from pytest-benchmark's files, for ``gpuperf import``.

A file is one run: one process measured it, so all its rounds share one start. Several files of the same suite are
several runs, and only these show how starts differ.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pytest_gpuperf.analysis.window import rounds_problem, rounds_window
from pytest_gpuperf.cli.imports.imported_record import UNKNOWN, imported_record, imported_run
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import ROUNDS, PlainMapping, Record, Run
from pytest_gpuperf.report.exchange.benchmark_import import Benchmark, BenchmarkFile, read_benchmarks


def records_of(
    files: Sequence[Path],
    test: str = "",
    *,
    gpu: str = "",
    commit: str = "",
    on_left_out: Callable[[str], None] = lambda _: None,
) -> list[Record]:
    """Return a record for each benchmark, with a run for each file that contains it.

    Args:
        test: Text that the benchmark's name contains.
        gpu, commit: Device and commit, instead of those that the files state.
        on_left_out: Called with a sentence about each benchmark whose rounds can't be used.

    Raises:
        OptionError: A file can't be read or has another format, the files have different devices or commits, no
            benchmark matches, or none of those that match can be used.
    """
    read = [read_benchmarks(path, test) for path in files]
    if not gpu:
        _require_equal("devices", read, [_words(file.device) for file in read], "--gpu")
    if not commit:
        _require_equal("commits", read, [file.commit for file in read], "--commit")
    if not any(file.benchmarks for file in read):
        raise OptionError(f"No benchmark in {', '.join(map(str, files))} has a name that contains {test!r}.")
    left_out = []
    for index, file in enumerate(read):
        problems = [(benchmark, _problem(benchmark)) for benchmark in file.benchmarks]
        left_out += [f"{file.path}: {benchmark.name} {problem}" for benchmark, problem in problems if problem]
        usable = tuple(benchmark for benchmark, problem in problems if not problem)
        read[index] = replace(file, benchmarks=usable)
    names = dict.fromkeys(benchmark.name for file in read for benchmark in file.benchmarks)
    if not names:
        raise OptionError("\n".join(left_out))
    for sentence in left_out:
        on_left_out(sentence)
    invocation, device = uuid.uuid4().hex, {"device": gpu} if gpu else read[0].device or {"device": UNKNOWN}
    return [_record(name, read, invocation, device, commit) for name in names]


def _require_equal(what: str, files: Sequence[BenchmarkFile], values: Sequence[str], option: str) -> None:
    """Check that the files can be runs of one record.

    Raises:
        OptionError: Their devices or commits differ.
    """
    if len(set(values)) > 1:
        listed = ", ".join(f"{file.path} {value!r}" for file, value in zip(files, values, strict=True))
        raise OptionError(
            f"The files are of several {what}: {listed}.\n"
            f"Import the files of each separately, or state {option} if all of them are of the same."
        )


def _words(device: PlainMapping) -> str:
    return ", ".join(str(value) if name == "device" else f"{name} {value}" for name, value in device.items())


def _problem(benchmark: Benchmark) -> str:
    """Return why a benchmark can't be used, as the end of a sentence that begins with its name; empty if it can be."""
    iterations = benchmark.iterations
    if not benchmark.rounds_s:
        return (
            "has statistics, but not its rounds, which percentiles need. "
            "Write the file with pytest --benchmark-json FILE, or with --benchmark-save-data."
        )
    if not isinstance(iterations, int) or isinstance(iterations, bool) or not 1 <= iterations < 1 << 53:
        return f"has {iterations!r} iterations in each round; expected 1 or more."
    return rounds_problem(benchmark.rounds_s)


def _record(name: str, files: Sequence[BenchmarkFile], invocation: str, device: PlainMapping, commit: str) -> Record:
    runs: list[Run] = []
    measuring = []
    for file in files:
        # A name that occurs twice, as after a rerun, was measured twice by the same process: two windows of one run.
        same = [benchmark for benchmark in file.benchmarks if benchmark.name == name]
        windows = [
            rounds_window(ROUNDS, benchmark.rounds_s, benchmark.iterations, visit)
            for visit, benchmark in enumerate(same)
        ]
        if windows:
            runs.append(imported_run(ROUNDS, len(runs), windows))
            measuring.append(file)
    first = measuring[0]
    facts = {fact: value for fact, value in first.machine.items() if fact not in (*device, "test")}
    return imported_record(
        ROUNDS,
        name,
        device,
        runs,
        invocation=invocation,
        commit=commit or first.commit,
        environment={"uncommitted_changes": any(file.dirty for file in measuring), **facts},
    )
