"""The time that the installed but unused plugin adds to ``pytest -q`` on one empty test.

Runs pytest in turns: with neither plugin, with pytest-gpuperf, with pytest-benchmark; prints medians and ratios::

    python benchmarks/plugin_overhead.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLUGINS = {"neither": "", "pytest-gpuperf": "pytest_gpuperf.plugin", "pytest-benchmark": "pytest_benchmark.plugin"}


def start_s(folder: Path, plugin: str) -> float:
    """Return the seconds of a pytest process that loads no plugin but the given one."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(("-p", plugin) if plugin else ())]
    begin = time.perf_counter()
    subprocess.run(
        command,
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description="What the unused plugin adds to pytest's start.")
    parser.add_argument("--turns", type=int, default=30)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_empty.py").write_text("def test_empty():\n    pass\n")
        times: dict[str, list[float]] = {name: [] for name in PLUGINS}
        for _ in range(turns):
            for name, plugin in PLUGINS.items():
                times[name].append(start_s(Path(folder), plugin))
    middle = {name: statistics.median(seconds) for name, seconds in times.items()}
    print("| plugin | median ms | beside none |")
    print("|---|---:|---:|")
    for name, median in middle.items():
        print(f"| {name} | {median * 1e3:.0f} | {median / middle['neither'] - 1:+.1%} |")


if __name__ == "__main__":
    main()
