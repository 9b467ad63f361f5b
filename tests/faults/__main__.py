"""Inject every fault of the table, again and again: ``python -m tests.faults --rounds N``.

Each injection is a line that begins with ``ok``, ``missed`` (the process had ended already; not counted) or ``BAD``,
followed by the reasons. The last line counts them, and so does a line after every round. Exit status 1 if any is BAD.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from tests.faults.injection import Fault, Result, inject, table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="times that the table is gone through (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, help="injections at the same time (default: 1)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin none after so many minutes")
    parser.add_argument("--only", default="", metavar="TEXT", help="only faults whose line contains TEXT")
    options = parser.parse_args()
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):  # started by a shell in the background; pytest would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    counts = Counter[str]()
    end = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory(prefix="gpuperf-faults-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        # A store is used again and again: what one fault leaves, the next run must be able to use.
        suites: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.jobs):
            suites.put(Path(folder, f"suite{number}"))

        def run(fault: Fault) -> Result | None:
            if time.monotonic() > end:
                return None
            suite = suites.get()
            try:
                suite.mkdir(exist_ok=True)
                return inject(fault, suite)
            finally:
                suites.put(suite)

        for turn in range(options.rounds):
            faults = [fault for fault in table() if options.only in str(fault)]
            random.Random(turn).shuffle(faults)
            for future in as_completed([pool.submit(run, fault) for fault in faults]):
                if (result := future.result()) is not None:
                    counts[_report(result)] += 1
            sys.stdout.write(f"after round {turn + 1}: {_summary(counts)}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{_summary(counts)}\n")
    return 1 if counts["BAD"] else 0


def _report(result: Result) -> str:
    word = "BAD" if result.problems else "ok" if result.hit else "missed"
    sys.stdout.write(f"{word} {result.fault}: exit status {result.status} after {result.took_s:.1f} s\n")
    for problem in result.problems:
        sys.stdout.write("".join(f"    {line}\n" for line in problem.splitlines()))
    sys.stdout.flush()
    return word


def _summary(counts: Counter[str]) -> str:
    injected = counts["ok"] + counts["BAD"]
    return f"{injected} faults injected: {counts['ok']} ok, {counts['BAD']} bad; {counts['missed']} missed"


if __name__ == "__main__":
    sys.exit(main())
