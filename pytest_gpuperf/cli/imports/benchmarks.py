"""Records from pytest-benchmark's files, for ``gpuperf import``.

A file is what one process measured, so it is one run: its rounds share one start, as the requests of one of our runs
do. Several files of the same suite are several runs, and only they can tell how starts differ.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pytest_gpuperf import __version__
from pytest_gpuperf.cli.stored_records import UNKNOWN
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Histogram, LoadPoint, Record, Run, Window, bucket_of
from pytest_gpuperf.report.exchange.benchmark_import import Benchmark, BenchmarkFile, read_benchmarks
from pytest_gpuperf.store.store import utc_now

#: The sweep that imported benchmarks belong to.
SWEEP = "pytest-benchmark"
#: Its rounds are not our requests: a record of ours must never be compared with one that was imported.
_METHOD_VERSION = "pytest-benchmark 1"


def records_of(files: Sequence[Path], test: str = "", *, gpu: str = "", commit: str = "") -> list[Record]:
    """A record of each benchmark, with a run of each file that has it.

    Args:
        test: only benchmarks whose name contains this.
        gpu, commit: instead of what the files say.

    Raises:
        OptionError: a file can't be read or is none, the files are of different devices, or no benchmark fits.
    """
    read = [read_benchmarks(path) for path in files]
    devices = {one.device for one in read}
    if len(devices) > 1 and not gpu:
        raise OptionError(
            f"The files are of several devices: {', '.join(sorted(map(repr, devices)))}. Import each apart."
        )
    names = dict.fromkeys(one.name for file in read for one in file.benchmarks if test in one.name)
    if not names:
        raise OptionError(f"No benchmark in {', '.join(map(str, files))} has a name that contains {test!r}.")
    invocation, device = uuid.uuid4().hex, gpu or read[0].device or UNKNOWN
    return [_record(name, read, invocation, device, commit) for name in names]


def _record(name: str, files: Sequence[BenchmarkFile], invocation: str, device: str, commit: str) -> Record:
    found = [(file, one) for file in files for one in file.benchmarks if one.name == name]
    first = found[0][0]
    return Record(
        id=uuid.uuid4().hex[:12],
        invocation=invocation,
        test=name,
        created_utc=utc_now(),
        key={"device": device, "test": name, "version": 1, "method_version": _METHOD_VERSION},
        status="complete",
        gate="open",
        runs=tuple(_run(one, index) for index, (_, one) in enumerate(found)),
        commit=commit or first.commit,
        environment={fact: value for fact, value in first.machine.items() if fact not in ("device", "test")},
        settings={"imported_by": f"pytest-gpuperf {__version__}", "files": len(found)},
    )


def _run(one: Benchmark, index: int) -> Run:
    total_s = sum(one.rounds_s)
    counts = sorted(Counter(bucket_of(seconds * 1e9) for seconds in one.rounds_s).items())
    window = Window(
        sweep=SWEEP,
        point=LoadPoint(),
        visit=0,
        window_s=total_s,
        requests=len(one.rounds_s),
        throughput=len(one.rounds_s) / total_s,
        latency_mean_ns=total_s / len(one.rounds_s) * 1e9,
        latency=Histogram(tuple(bucket for bucket, _ in counts), tuple(count for _, count in counts)),
    )
    return Run(SWEEP, index, startup_s=0.0, warmup_s=0.0, warmed_up=True, windows=(window,))
