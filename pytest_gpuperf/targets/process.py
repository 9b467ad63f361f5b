"""A server process under the supervisor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
#: How long the supervisor may take beyond the server's grace before it is killed too: without a cleanup command, and
#: with such a command, to which it gives 10 s.
_MARGIN_S, _CLEANUP_MARGIN_S = 5.0, 15.0


class SupervisedProcess:
    """A command that never outlives this process; see ``supervisor``.

    Args:
        log: File for the command's standard output and error.
        grace_s, shm_prefix, scratch, cpus, cleanup: Arguments of the supervisor.
        directory: Working directory; this process's when None.
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
        cleanup: Sequence[str] = (),
    ) -> None:
        self._log = log
        self._limit_s = grace_s + (_CLEANUP_MARGIN_S if cleanup else _MARGIN_S)
        supervisor = [
            sys.executable,
            "-I",
            "-S",
            str(_SUPERVISOR),
            str(os.getpid()),
            str(grace_s),
            shm_prefix,
            str(scratch or ""),
            ",".join(map(str, cpus or ())),
            json.dumps(list(cleanup)),
        ]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*supervisor, "--", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=directory,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """PID of the supervisor, from which the command descends."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """The command's exit status; None while it runs."""
        return self._process.poll()

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of the command's output, indented."""
        return "\n".join(f"  {line}" for line in self.log_text().splitlines()[-lines:])

    def log_text(self) -> str:
        """Return the command's output."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def stop(self) -> None:
        """End the command and wait until it has ended. May be called twice."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(self._limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
