"""Send a signal to a process of a running ``pytest --gpuperf``, and check what is left.

What every fault must leave: an end within a bound, a message instead of a traceback, the records of what was measured,
and no process, shared memory or file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PHASES = ("start", "warm-up", "window", "stop")
SIGNALS = ("KILL", "TERM", "STOP", "INT")
#: Ctrl-C, and again after a moment.
TWICE = "INT twice"
SERVER, STUB, WORKER, SUPERVISOR, PYTEST = "server", "stub", "worker", "supervisor", "pytest"
#: pytest and the supervisor together: what they leave is removed by the next start.
BOTH = "pytest and supervisor"
#: Words of a command line, by the process that they belong to; the first match counts.
_ROLES = {
    "supervisor.py": SUPERVISOR,
    "pytest_gpuperf.load.worker": WORKER,
    "triton_python_backend_stub": STUB,
    "/tritonserver": SERVER,
    "-m pytest": PYTEST,
}
#: Longest time from a fault to the end of pytest: the deadline (60 s) of a request before the window and of one in it,
#: the longest window (5 s), control calls (10 s each), and the stop of the server (13 s), on a busy machine.
LIMIT_S = 200.0
#: How long processes may take to go after pytest has ended, and how long a stopped pytest is left alone.
_GONE_S, _STOPPED_S = 25.0, 1.5
#: Time between the first and the second Ctrl-C.
_AGAIN_S = 0.15
_TAG = "GPUPERF_FAULT"
_SUITE = """
import time

def test_before(gpuperf):
    gpuperf.sweep(lambda: time.sleep(0.001), name="call", window_s=0.05)

def test_served(gpuperf, triton_endpoint):
    tensors = dict(input_tensors={"x": "FP32[8]"}, output_tensors={"y": "FP32[8]"})
    endpoint = triton_endpoint("echo.py", max_batch_size=8, start_timeout_s=20, **tensors)
    gpuperf.sweep(endpoint, window_s=0.3)
"""
_MODEL = """
import time

def run(x):
    time.sleep(0.002)
    return {"y": x + 0}
"""
_COMMAND = (
    *(sys.executable, "-m", "pytest", "-v", "--gpuperf", "--gpuperf-device=cpu", "--gpuperf-runs=2"),
    *("-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:randomly"),
)
#: What a message about a fault is about.
_NAMED = re.compile(r"tritonserver|load generator|server at|supervisor|gives no correct answers|interrupted|disturbed")


@dataclass(frozen=True)
class Fault:
    """A signal to a process in a phase of a run."""

    process: str
    signal: str
    phase: str

    def __str__(self) -> str:
        return f"{self.process} {self.signal} in {self.phase}"


@dataclass
class Result:
    """Result of a fault.

    Attributes:
        hit: Whether the process was there to be signalled.
        status: Exit status of pytest; None if it did not end within the limit.
        took_s: Time from the fault to pytest's end.
        problems: What should not have been; empty if all promises were kept.
    """

    fault: Fault
    hit: bool = False
    status: int | None = None
    took_s: float = 0.0
    problems: list[str] = field(default_factory=list)


def table() -> list[Fault]:
    """Return every fault that there is."""
    processes = (SERVER, STUB, WORKER, SUPERVISOR, PYTEST)
    faults = [Fault(process, number, phase) for phase in PHASES for process in processes for number in SIGNALS]
    faults = [fault for fault in faults if (fault.process, fault.phase) != (WORKER, "stop")]
    faults += [Fault(PYTEST, number, phase) for phase in PHASES for number in ("HUP", TWICE)]
    return faults + [Fault(BOTH, "KILL", phase) for phase in PHASES]


def inject(fault: Fault, directory: Path) -> Result:
    """Run the suite in a directory, which keeps its store, and inject a fault."""
    started = _StartedSuite(directory)
    result = Result(fault)
    try:
        if not started.reach(fault):
            result.status = started.wait(LIMIT_S)
            if result.status != 0:
                result.problems.append(f"it ended with {result.status} before the fault:\n{started.output()[-1500:]}")
            return result
        began = time.monotonic()
        result.hit = started.send(fault)
        if fault == Fault(PYTEST, "STOP", fault.phase):
            time.sleep(_STOPPED_S)
            os.kill(started.process.pid, signal.SIGCONT)
        result.status = started.wait(LIMIT_S)
        result.took_s = time.monotonic() - began
        result.problems = list(_problems(fault, result.status, started))
        return result
    finally:
        started.close()


def _problems(fault: Fault, status: int | None, started: _StartedSuite) -> Iterator[str]:
    output = started.output()
    if status is None:
        yield f"pytest did not end within {LIMIT_S:g} s:\n{output[-1500:]}"
        return
    for word in ("INTERNALERROR", "Traceback (most recent call last)"):
        if word in output and fault.process != PYTEST:
            yield f"{word} in:\n{output[-3000:]}"
    if status not in _statuses(fault):
        yield f"exit status {status}:\n{output[-1500:]}"
    if status == 1 and not _NAMED.search(output):
        yield f"nothing names the fault:\n{output[-1500:]}"
    runs = started.stored_runs()
    if "test_before" not in runs:
        yield f"the record of the test before is lost: {runs}"
    measured = output.count("run 1 of 2 done") > 1
    if measured and status in (0, 1, 2) and runs.get("test_served", 0) < 1:
        yield f"a complete run of the served test is lost: {runs}"
    if fault.process == BOTH:
        subprocess.run(
            [sys.executable, "-c", "from pytest_gpuperf.targets.scratch import sweep; sweep()"],
            env=started.env,
            check=True,
        )
    yield from started.left()


def _statuses(fault: Fault) -> tuple[int, ...]:
    """Return the exit statuses that a fault may lead to; 0 if it did no harm, as in a server that ends anyway."""
    if fault.process in (PYTEST, BOTH) and fault.signal != "STOP":
        number = int(_number(fault))
        return (-number, 2) if number == signal.SIGINT else (-number,)
    return (0, 1)


def _number(fault: Fault) -> signal.Signals:
    return signal.Signals[f"SIG{fault.signal.partition(' ')[0]}"]


class _StartedSuite:
    """A pytest that measures, whose processes are known by a variable in their environment."""

    def __init__(self, directory: Path) -> None:
        (directory / "test_suite.py").write_text(_SUITE)
        (directory / "echo.py").write_text(_MODEL)
        self._temporary = tempfile.TemporaryDirectory(prefix="gpuperf-fault-", ignore_cleanup_errors=True)
        self._directory, self._tag = directory, uuid.uuid4().hex
        self._before = self._records()
        self._prefixes: set[str] = set()
        self._log = Path(self._temporary.name, "output.txt")
        scratch = Path(self._temporary.name, "tmp")
        scratch.mkdir()
        self._scratch = scratch
        # Of its own: another fault may hold or wait for the device's lock.
        self.env = {**os.environ, "TMPDIR": str(scratch), _TAG: self._tag, "PYTHONDONTWRITEBYTECODE": "1"}
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                _COMMAND,
                cwd=directory,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait(self, timeout_s: float) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout_s)
        return None

    def reach(self, fault: Fault) -> bool:
        """Wait for the fault's phase: the start and warm-up of the first run, the windows and the end of the second."""
        awaited = {SERVER: SERVER, STUB: STUB, WORKER: WORKER}.get(fault.process, SERVER)
        if fault.phase == "start":
            return self._wait_for(lambda: awaited in self.roles().values())
        if fault.phase == "warm-up":
            reached = self._wait_for(lambda: WORKER in self.roles().values())
            time.sleep(0.4)
            return reached
        served = self._wait_for(lambda: self.output().count("run 1 of 2 done") > 1)
        reached = served and self._wait_for(lambda: WORKER in self.roles().values())
        if fault.phase == "stop":
            return reached and self._wait_for(lambda: WORKER not in self.roles().values())
        time.sleep(1.2)
        return reached

    def _wait_for(self, condition: object, timeout_s: float = 90.0) -> bool:
        assert callable(condition)
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end or self.process.poll() is not None:
                return False
            time.sleep(0.01)
        return True

    def send(self, fault: Fault) -> bool:
        """Send the signal to all processes of the kind, for a pair to pytest last; return whether there was one."""
        kinds = (SUPERVISOR, PYTEST) if fault.process == BOTH else (fault.process,)
        hit = False
        for kind in kinds:
            for pid, role in self.roles().items():
                if role == kind:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, _number(fault))
                        hit = True
                        if fault.signal == TWICE:
                            time.sleep(_AGAIN_S)
                            os.kill(pid, _number(fault))
        return hit

    def roles(self) -> dict[int, str]:
        """Return the kinds of the processes that run, and note the prefixes of their shared memory."""
        mark, roles = f"{_TAG}={self._tag}".encode(), {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                if mark not in (folder / "environ").read_bytes().split(b"\0"):
                    continue
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            self._prefixes |= set(re.findall(r"gpuperf-[0-9a-f]{12}-", command))
            role = next((role for words, role in _ROLES.items() if words in command), "")
            if command:  # else it has ended
                roles[int(folder.name)] = role or command
        return roles

    def left(self) -> Iterator[str]:
        """Yield what has not gone some time after the end."""
        end = time.monotonic() + _GONE_S
        while (roles := self.roles()) and time.monotonic() < end:
            time.sleep(0.1)
        if roles:
            yield f"processes are left: {roles}"
        time.sleep(0.3)  # a supervisor's last step
        memory = [path.name for path in Path("/dev/shm").iterdir() if path.name.startswith(tuple(self._prefixes))]
        if self._prefixes and memory:
            yield f"shared memory is left: {memory}"
        files = [path.name for path in self._scratch.iterdir() if not path.name.endswith(".lock")]
        if files:
            yield f"temporary files are left: {files}"

    def stored_runs(self) -> dict[str, int]:
        """Return the number of complete runs in each test's record of this invocation."""
        runs = {}
        for path in self._records() - self._before:
            record = json.loads(path.read_bytes())["record"]
            runs[record["test"].rpartition("::")[2]] = sum(run["complete"] for run in record["runs"])
        return runs

    def _records(self) -> set[Path]:
        return {path for path in (self._directory / ".gpuperf").rglob("*.json") if b'"runs"' in path.read_bytes()}

    def close(self) -> None:
        """End what still runs; only processes of this suite."""
        for pid in self.roles():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._temporary.cleanup()
