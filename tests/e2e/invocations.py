"""Invocations of pytest and of the command line tool in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

#: A suite whose speed is set by a variable. It sleeps, which takes no CPU and repeats well on a busy machine.
CALLABLES = """
    import os
    import time

    DELAY_S = 0.004 * float(os.environ.get("SLOWER", "1"))

    def test_slow(gpuperf):
        gpuperf.sweep(lambda: time.sleep(DELAY_S), concurrency=[1, 2], name="sleep", window_s=0.1)

    def test_other(gpuperf):
        gpuperf.sweep(lambda: time.sleep(0.004), name="sleep", window_s=0.1)
"""

COMMON = ("--gpuperf", "--gpuperf-device=cpu", "--gpuperf-runs=2", "-p", "no:benchmark")

#: The command line tool; works in an environment that is not activated, too.
GPUPERF = (sys.executable, "-m", "pytest_gpuperf.cli.main")

Run = Callable[..., pytest.RunResult]
Start = Callable[..., "StartedPytest"]


def record_files(directory: Path) -> list[Path]:
    """Return the record files of the directory's store, oldest first, without notes and caches."""
    files = (directory / ".gpuperf").glob("[!.]*/*/*/*/*Z-*.json")
    return sorted((path for path in files if path.stem.count(".json") == 0), key=lambda path: path.name)


class StartedPytest:
    """A ``pytest --gpuperf`` that runs beside the test."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "pytest", *COMMON, *arguments]
        self._output = directory / "started.txt"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=directory, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.children: list[psutil.Process] = []

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_for(self, text: str, timeout_s: float = 60) -> None:
        """Wait until the output contains the text."""
        end = time.monotonic() + timeout_s
        while text not in self.output:
            assert time.monotonic() < end, f"no {text!r} in:\n{self.output}"
            assert self.process.poll() is None, self.output
            time.sleep(0.05)
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def wait(self, timeout_s: float = 60) -> int:
        return self.process.wait(timeout_s)
