"""The load generator in a process of its own, so that measuring doesn't compete for pytest's interpreter lock."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing import Pipe

from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.load.generator import Recording, WindowSpec
from pytest_gpuperf.model import HttpWorkload, Workload

_STOP_S = 5.0


class WorkerProcess:
    """A ``LoadGenerator`` for HTTP workloads."""

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        # A session of its own: Ctrl-C is for pytest, which then ends the worker in order.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest_gpuperf.load.worker", str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        theirs.close()
        self._wires: list[bytes] = []

    def window(self, workload: Workload, spec: WindowSpec) -> Recording:
        assert isinstance(workload, HttpWorkload)
        try:
            self._pipe.send(("window", workload.host, workload.port, self._number(workload.wire), spec))
            recording = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise LoadError(f"The load generator's process ended unexpectedly.\n{self._last_words()}") from error
        assert isinstance(recording, Recording)
        return recording

    def _number(self, wire: bytes) -> int:
        """Large requests cross the pipe once."""
        for number, known in enumerate(self._wires):
            if known is wire or known == wire:
                return number
        self._wires.append(wire)
        self._pipe.send(("wire", len(self._wires) - 1, wire))
        return len(self._wires) - 1

    def _last_words(self) -> str:
        self._process.kill()
        _, stderr = self._process.communicate()
        return f"Exit status {self._process.returncode}. {stderr.decode('utf-8', 'replace')[-2000:]}".rstrip()

    def close(self) -> None:
        self._pipe.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
