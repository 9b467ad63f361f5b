"""A server process under the supervisor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_gpuperf.limits import LOG_BYTES
from pytest_gpuperf.targets.scratch import Scratch
from pytest_gpuperf.targets.supervisor import CLEANUP_S, MARK, marked_processes, remove_traces

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
#: How long the supervisor may take beyond the server's grace before it is killed too; with a cleanup command, to which
#: it gives ``CLEANUP_S``, that much longer.
_MARGIN_S = 5.0


class SupervisedProcess:
    """A command that never outlives this process; see ``supervisor``.

    Args:
        log: File for the command's standard output and error; those of this process when None.
        scratch: Files of the command, which are removed when it is stopped; or a directory that is removed if this
            process dies.
        grace_s, cpus, cleanup: Arguments of the supervisor.
        directory: Working directory; this process's when None.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path | None,
        grace_s: float,
        scratch: Scratch | Path | None = None,
        directory: Path | None = None,
        cpus: Sequence[int] | None = None,
        cleanup: Sequence[str] = (),
    ) -> None:
        self._log, self._cleanup = log, cleanup
        files = scratch if isinstance(scratch, Scratch) else None
        self._prefix = files.prefix if files is not None else ""
        self._limit_s = grace_s + _MARGIN_S + (CLEANUP_S if cleanup else 0.0)
        supervisor = [
            sys.executable,
            "-I",
            "-S",
            str(_SUPERVISOR),
            str(os.getpid()),
            str(grace_s),
            self._prefix,
            str((files.path if files is not None else scratch) or ""),
            ",".join(map(str, cpus or ())),
            json.dumps(list(cleanup)),
        ]
        if files is not None:
            files.describe(cleanup)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600) if log is not None else None
        try:
            self._process = subprocess.Popen(
                [*supervisor, "--", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT if output is not None else None,
                env={**env, MARK: self._prefix},
                cwd=directory,
                start_new_session=True,
                # The supervisor keeps the owner file locked until the server has ended.
                pass_fds=[files.lock] if files is not None else (),
            )
        finally:
            if output is not None:
                os.close(output)

    @property
    def pid(self) -> int:
        """PID of the supervisor, from which the command descends."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """The command's exit status; None while it runs. Negative if a signal ended the supervisor."""
        return self._process.poll()

    @property
    def ending(self) -> str:
        """How the command ended, as a predicate."""
        status = self.exit_status or 0
        if status < 0:
            return f"was ended because its supervisor, process {self.pid}, was ended by {_signal_name(-status)}"
        return f"was killed by {_signal_name(status - 128)}" if status > 128 else f"ended with status {status}"

    def stopped_processes(self) -> tuple[int, ...]:
        """Return the command's processes that are stopped, as by SIGSTOP."""
        return tuple(pid for pid in marked_processes(self._prefix) if _state(pid) == "T") if self._prefix else ()

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of the command's output, indented."""
        return "\n".join(f"  {line}" for line in self.log_text().splitlines()[-lines:])

    def log_text(self, last_bytes: int | None = LOG_BYTES) -> str:
        """Return the end of the command's output; all of it for None."""
        if self._log is None or not self._log.exists():
            return ""
        with self._log.open("rb") as file:
            if last_bytes is not None:
                file.seek(max(file.seek(0, os.SEEK_END) - last_bytes, 0))
            return file.read().decode(errors="replace")

    def stop(self) -> None:
        """End the command and wait until it has ended. May be called twice."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(self._limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.returncode < 0:  # the supervisor was killed, so that it could not clean up
            remove_traces(self._prefix, self._cleanup)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
