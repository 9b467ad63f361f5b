"""Starting a server under the supervisor."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
#: How long the supervisor may take beyond the server's own grace before it is killed as well.
_MARGIN_S = 5.0


class SupervisedProcess:
    """A command that never outlives this process; see ``supervisor``.

    Args:
        command: program and arguments.
        log: a file for its standard output and error.
        grace_s: time between SIGINT and SIGKILL.
        shm_prefix: shared memory that is removed after it.
        scratch: a directory that is removed if this process dies before it can do so.
        directory: where it runs; here when None.
        cpus: the cores that it and its descendants may use; this thread's when None.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        grace_s: float,
        shm_prefix: str = "",
        scratch: Path | None = None,
        directory: Path | None = None,
        cpus: Sequence[int] | None = None,
    ) -> None:
        self._log = log
        self._grace_s = grace_s
        own = [
            sys.executable,
            "-I",
            "-S",
            str(_SUPERVISOR),
            str(os.getpid()),
            str(grace_s),
            shm_prefix,
            str(scratch or ""),
        ]
        with log.open("wb") as output, _pinned(cpus):
            self._process = subprocess.Popen(
                [*own, "--", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=directory,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the supervisor, from which the command descends."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def log_tail(self, wanted: Callable[[str], bool] = lambda _line: True, lines: int = 15) -> str:
        """The last lines of its output, or of those among them that are wanted, indented."""
        chosen = [line for line in self.log_text().splitlines() if wanted(line)]
        return "\n".join(f"  {line}" for line in chosen[-lines:])

    def log_text(self) -> str:
        """All of its output."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def stop(self) -> None:
        """End it and wait until it is gone. May be called twice."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(self._grace_s + _MARGIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def _pinned(cpus: Sequence[int] | None) -> Iterator[None]:
    """This thread, and so what it starts meanwhile, on these cores."""
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
