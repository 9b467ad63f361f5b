"""Runs of the targets, in several processes, with a table that is printed again every minute."""

from __future__ import annotations

import base64
import itertools
import multiprocessing
import resource
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz.mutate import Mutator
from tests.fuzz.targets import Target, targets

#: Inputs of a target before the next one's turn.
_BATCH = 20_000
#: A slow target's turn is over after this time.
_BATCH_S = 2.0
_PRINT_S = 60.0
#: An input that takes longer is a failure: time that grows with the square of the length, or worse.
SLOWEST_S = 2.0
#: Crashes of a target that are kept.
_KEPT = 5


@dataclass
class Counts:
    """Result of fuzzing a target."""

    inputs: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    slowest: bytes = b""
    crashes: dict[str, bytes] = field(default_factory=dict)

    def add(self, batch: Counts) -> None:
        self.inputs += batch.inputs
        self.seconds += batch.seconds
        if batch.slowest_s > self.slowest_s:
            self.slowest_s, self.slowest = batch.slowest_s, batch.slowest
        for place, data in batch.crashes.items():
            if place not in self.crashes and len(self.crashes) < _KEPT:
                self.crashes[place] = data


class Fuzzer:
    """A target with its endless inputs."""

    def __init__(self, target: Target, seed: int) -> None:
        self._run = target.make()
        self._inputs = itertools.chain(target.corpus, Mutator(target.corpus, target.words, seed).inputs())

    def batch(self, size: int, limit_s: float = float("inf")) -> Counts:
        """Run further inputs, but no longer than that."""
        counts, run, clock = Counts(), self._run, time.perf_counter
        begin = last = clock()
        for data in itertools.islice(self._inputs, size):
            try:
                run(data)
            except Exception as error:  # noqa: BLE001 - every exception is a crash, and the run goes on
                frame = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
                counts.crashes.setdefault(place[:300], data)
            now = clock()
            counts.inputs += 1
            if now - last > counts.slowest_s:
                counts.slowest_s, counts.slowest = now - last, data
            last = now
            if now - begin > limit_s:
                break
        counts.seconds = last - begin
        return counts


def fuzz(names: Sequence[str], inputs: int, minutes: float | None, processes: int, seed: int) -> int:
    """Fuzz targets in turns; return 1 if any crashed or was slow, else 0."""
    chosen = [target.name for target in targets() if not names or target.name in names]
    if unknown := set(names) - set(chosen):
        sys.stdout.write(f"no target {', '.join(sorted(unknown))}; there are {', '.join(t.name for t in targets())}\n")
        return 2
    end_s = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    total = {name: Counts() for name in chosen}
    peak_mib, printed_s, begin_s = 0.0, time.monotonic(), time.monotonic()
    batch = min(_BATCH, max(inputs // len(chosen), 1))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        work = ((name, seed + turn, batch) for turn in range(inputs) for name in chosen)
        pending: list[Any] = []
        done = 0
        while (done < inputs and time.monotonic() < end_s) or pending:
            while len(pending) < 2 * processes and done + batch * len(pending) < inputs and time.monotonic() < end_s:
                pending.append(pool.apply_async(_batch, (next(work),)))
            name, counts, mib = pending.pop(0).get()
            total[name].add(counts)
            done, peak_mib = done + counts.inputs, max(peak_mib, mib)
            if time.monotonic() - printed_s > _PRINT_S:
                printed_s = time.monotonic()
                _print(total, peak_mib, printed_s - begin_s)
    return _print(total, peak_mib, time.monotonic() - begin_s)


_fuzzers: dict[str, Fuzzer] = {}


def _batch(work: tuple[str, int, int]) -> tuple[str, Counts, float]:
    name, seed, size = work
    if name not in _fuzzers:
        (target,) = (target for target in targets() if target.name == name)
        _fuzzers[name] = Fuzzer(target, seed)
    counts = _fuzzers[name].batch(size, _BATCH_S)
    return name, counts, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _print(total: dict[str, Counts], peak_mib: float, seconds: float) -> int:
    inputs = sum(counts.inputs for counts in total.values())
    lines = [f"{inputs:,} inputs in {seconds / 60:.1f} min; peak memory of a process {peak_mib:.0f} MiB"]
    for name, counts in total.items():
        rate = counts.inputs / counts.seconds if counts.seconds else 0.0
        slow = f"slowest {counts.slowest_s * 1000:.1f} ms"
        lines.append(f"  {name:20} {counts.inputs:>12,}  {rate:>7,.0f}/s  {slow:>18}  {len(counts.crashes)} crashes")
        for place, data in counts.crashes.items():
            lines.append(f"    {place}\n      {base64.b64encode(data[:3000]).decode()}")
        if counts.slowest_s > SLOWEST_S:
            lines.append(f"    slow: {base64.b64encode(counts.slowest[:3000]).decode()}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    return int(any(counts.crashes or counts.slowest_s > SLOWEST_S for counts in total.values()))


def guided(name: str, arguments: Sequence[str]) -> int:
    """Run a target under atheris, with its corpus; does not return before it crashes or the arguments end it."""
    import atheris

    (target,) = (target for target in targets() if target.name == name)
    run = target.make()
    atheris.instrument_all()
    for data in target.corpus:
        run(data)
    atheris.Setup([sys.argv[0], *arguments], run)
    atheris.Fuzz()
    return 0
