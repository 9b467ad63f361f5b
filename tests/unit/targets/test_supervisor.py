"""The supervisor is run as the script that it is; what it supervises are small commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from pytest_gpuperf.targets import process as process_module
from pytest_gpuperf.targets import supervisor
from pytest_gpuperf.targets.process import SupervisedProcess
from tests.processes import ended

PYTHON = [sys.executable, "-I", "-S", "-c"]
#: Writes its pid, and then does what is said.
SAY = "import os, signal, sys, time; open(sys.argv[1], 'w').write(str(os.getpid()) + '\\n'); "
SLEEP = SAY + "time.sleep(60)"
IGNORE = SAY.replace("; open", "; signal.signal(signal.SIGINT, signal.SIG_IGN); open") + "time.sleep(60)"
HANDLE = SAY.replace("; open", "; signal.signal(signal.SIGINT, lambda *_: sys.exit(5)); open") + "time.sleep(60)"


def pid_in(path: Path) -> int:
    """The pid that a command wrote into its file, as soon as it is there."""
    deadline = time.monotonic() + 20
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(path.read_text())


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the supervisor as a child of this process."""
    started = []

    def begin(
        *command: str,
        grace_s: float = 5.0,
        shm: str = "",
        scratch: Path | str = "",
        parent: int | None = None,
        cpus: str = "",
        cleanup: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        own = [
            sys.executable,
            "-I",
            "-S",
            supervisor.__file__,
            str(parent or os.getpid()),
            str(grace_s),
            shm,
            str(scratch),
            cpus,
            json.dumps(list(cleanup)),
        ]
        process = subprocess.Popen([*own, "--", *command], stdin=subprocess.PIPE, start_new_session=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
        process.kill()
        process.wait()


def close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


class TestEnd:
    @pytest.mark.parametrize("status", [0, 1, 7])
    def test_passes_on_the_commands_exit_status(self, start: Start, status: int) -> None:
        assert start(*PYTHON, f"raise SystemExit({status})").wait(10) == status

    def test_a_command_killed_by_a_signal(self, start: Start, tmp_path: Path) -> None:
        process = start(*PYTHON, SLEEP, str(tmp_path / "pid"))
        os.kill(pid_in(tmp_path / "pid"), signal.SIGSEGV)
        assert process.wait(10) == 128 + signal.SIGSEGV

    def test_the_end_of_its_input_ends_the_command(self, start: Start, tmp_path: Path) -> None:
        process = start(*PYTHON, SLEEP, str(tmp_path / "pid"))
        pid = pid_in(tmp_path / "pid")
        close(process)
        assert process.wait(5) != 0
        assert ended(pid)

    def test_input_that_does_not_end_does_not(self, start: Start) -> None:
        process = start("sleep", "60")
        assert process.stdin is not None
        process.stdin.write(b"anything")
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_ends_the_command_and_is_its_end(
        self, start: Start, tmp_path: Path, number: signal.Signals
    ) -> None:
        process = start(*PYTHON, SLEEP, str(tmp_path / "pid"))
        pid = pid_in(tmp_path / "pid")
        process.send_signal(number)
        assert process.wait(5) == -number
        assert ended(pid)

    def test_the_command_may_end_in_its_own_way(self, start: Start, tmp_path: Path) -> None:
        process = start(*PYTHON, HANDLE, str(tmp_path / "pid"))
        pid_in(tmp_path / "pid")
        close(process)
        assert process.wait(5) == 5

    def test_but_not_take_longer_than_the_grace(self, start: Start, tmp_path: Path) -> None:
        process = start(*PYTHON, IGNORE, str(tmp_path / "pid"), grace_s=0.4)
        pid = pid_in(tmp_path / "pid")
        begin = time.monotonic()
        close(process)
        assert process.wait(5) == 128 + signal.SIGKILL
        assert 0.4 <= time.monotonic() - begin < 3
        assert ended(pid)

    @pytest.mark.parametrize("then", ["time.sleep(60)", "sys.exit(0)"])
    def test_nothing_of_the_commands_group_is_left(self, start: Start, tmp_path: Path, then: str) -> None:
        # The command itself stays or goes; its grandchild stays in either case, and ignores SIGINT.
        code = (
            "import os, signal, sys, time\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
            "    open(sys.argv[1], 'w').write(f'{os.getpid()}\\n')\n"
            "    time.sleep(60)\n"
            "while not os.path.exists(sys.argv[1]) or not os.path.getsize(sys.argv[1]):\n"
            "    time.sleep(0.01)\n"
            f"{then}\n"
        )
        process = start(*PYTHON, code, str(tmp_path / "pid"))
        grandchild = pid_in(tmp_path / "pid")
        if "sleep" in then:
            close(process)
        process.wait(10)
        assert ended(grandchild)

    def test_the_command_does_not_outlive_a_killed_supervisor(self, start: Start, tmp_path: Path) -> None:
        process = start(*PYTHON, IGNORE, str(tmp_path / "pid"))
        pid = pid_in(tmp_path / "pid")
        process.kill()
        assert ended(pid)

    def test_the_command_has_a_session_of_its_own_and_no_input(self, start: Start, tmp_path: Path) -> None:
        code = SAY + "sys.exit(0 if os.getsid(0) == os.getpid() and sys.stdin.read() == '' else 1)"
        assert start(*PYTHON, code, str(tmp_path / "pid")).wait(10) == 0

    def test_a_supervisor_with_another_parent_than_it_was_told_ends_at_once(self, start: Start) -> None:
        begin = time.monotonic()
        process = start("sleep", "60", parent=1)
        process.wait(5)
        assert time.monotonic() - begin < 3

    def test_runs_on_the_cores_that_it_was_told(self, start: Start, tmp_path: Path) -> None:
        core = max(os.sched_getaffinity(0))
        start(*PYTHON, SLEEP, str(tmp_path / "pid"), cpus=str(core))
        status = Path(f"/proc/{pid_in(tmp_path / 'pid')}/status").read_text()
        assert f"Cpus_allowed_list:\t{core}\n" in status


class TestTraces:
    @pytest.fixture
    def scratch(self, tmp_path: Path) -> Path:
        folder = tmp_path / "scratch"
        (folder / "repository").mkdir(parents=True)
        (folder / "server.log").touch()
        return folder

    def test_shared_memory_of_its_prefix_goes_and_no_other(self, start: Start) -> None:
        prefix = f"gpuperf-test-{uuid.uuid4().hex}-"
        mine, other = Path("/dev/shm", f"{prefix}region"), Path("/dev/shm", f"x{prefix}region")
        try:
            for region in (mine, other):
                region.touch()
            assert start("true", shm=prefix).wait(10) == 0
            assert not mine.exists()
            assert other.exists()
        finally:
            for region in (mine, other):
                region.unlink(missing_ok=True)

    def test_no_prefix_removes_nothing(self, start: Start) -> None:
        region = Path("/dev/shm", f"gpuperf-test-{uuid.uuid4().hex}")
        try:
            region.touch()
            assert start("true").wait(10) == 0
            assert region.exists()
        finally:
            region.unlink(missing_ok=True)

    @pytest.mark.parametrize("command", [["sleep", "60"], ["true"], ["false"]])
    def test_what_is_run_afterwards_sees_the_end_of_the_command(
        self, start: Start, tmp_path: Path, command: list[str]
    ) -> None:
        code = "import sys; open(sys.argv[1], 'a').write('done ')"
        process = start(*command, cleanup=[*PYTHON, code, str(tmp_path / "done")])
        close(process)
        process.wait(10)
        assert (tmp_path / "done").read_text() == "done "

    @pytest.mark.parametrize("cleanup", ["false", "/no/such/program"])
    def test_what_fails_afterwards_changes_nothing(self, start: Start, cleanup: str) -> None:
        assert start(*PYTHON, "raise SystemExit(7)", cleanup=[cleanup]).wait(10) == 7

    @pytest.mark.parametrize("shm", ["", f"gpuperf-test-{uuid.uuid4().hex}-"], ids=["no shared memory", "a prefix"])
    def test_scratch_of_a_server_goes_with_a_requested_end(self, start: Start, scratch: Path, shm: str) -> None:
        process = start("sleep", "60", scratch=scratch, shm=shm)
        close(process)
        process.wait(5)
        assert scratch.exists() == (not shm)

    @pytest.mark.parametrize("number", [None, signal.SIGTERM])
    def test_scratch_with_the_log_stays_after_any_other_end(
        self, start: Start, scratch: Path, tmp_path: Path, number: signal.Signals | None
    ) -> None:
        process = start(*PYTHON, SAY if number is None else SLEEP, str(tmp_path / "pid"), scratch=scratch)
        pid_in(tmp_path / "pid")
        if number is not None:
            process.send_signal(number)
        process.wait(5)
        assert (scratch / "server.log").exists()

    def test_marked_processes_go_wherever_they_are(self, start: Start, tmp_path: Path) -> None:
        prefix = f"gpuperf-test-{uuid.uuid4().hex}-"
        code = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"
        child = [*PYTHON, SLEEP, str(tmp_path / "pid")]
        env = {**os.environ, "GPUPERF_SERVER": prefix}
        assert start("env", f"GPUPERF_SERVER={prefix}", *PYTHON, f"{code}.wait(0.5)", *child, shm=prefix).wait(10) != 0
        assert ended(pid_in(tmp_path / "pid"))
        bystander = subprocess.Popen([*PYTHON, "import time; time.sleep(60)"], env={**env, "GPUPERF_SERVER": "another"})
        assert bystander.poll() is None
        bystander.kill()
        bystander.wait()

    @pytest.mark.parametrize("held", [True, False], ids=["input stays open", "input ends with the parent"])
    def test_a_killed_parent_takes_the_command_and_scratch_along(
        self, tmp_path: Path, scratch: Path, held: bool
    ) -> None:
        ours, theirs = os.pipe()
        parent = subprocess.Popen(
            [
                *PYTHON,
                "import os, subprocess, sys\n"
                "own = [sys.executable, '-I', '-S', sys.argv[1], str(os.getpid()), '5', '', sys.argv[2], '', '[]']\n"
                "command = [*own, '--', *sys.argv[4:]]\n"
                "subprocess.Popen(command, stdin=int(sys.argv[3]), start_new_session=True).wait()\n",
                supervisor.__file__,
                str(scratch),
                str(ours) if held else str(subprocess.PIPE),
                *PYTHON,
                SLEEP,
                str(tmp_path / "pid"),
            ],
            pass_fds=[ours],
        )
        try:
            pid = pid_in(tmp_path / "pid")
            supervisor_pid = psutil.Process(pid).ppid()
            parent.kill()
            parent.wait()
            assert ended(pid)
            assert ended(supervisor_pid)
            assert not scratch.exists()
        finally:
            os.close(ours)
            os.close(theirs)


class TestSupervisedProcess:
    def wait(self, process: SupervisedProcess) -> int:
        deadline = time.monotonic() + 20
        while process.exit_status is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process.exit_status

    def launch(self, tmp_path: Path, *command: str, grace_s: float = 5.0) -> SupervisedProcess:
        return SupervisedProcess(command, env=os.environ, log=tmp_path / "log", grace_s=grace_s)

    def test_runs_until_it_is_stopped(self, tmp_path: Path) -> None:
        process = self.launch(tmp_path, *PYTHON, SLEEP, str(tmp_path / "pid"))
        pid = pid_in(tmp_path / "pid")
        assert process.exit_status is None
        process.stop()
        process.stop()
        assert process.exit_status is not None
        assert ended(pid)

    def test_keeps_its_log_and_exit_status(self, tmp_path: Path) -> None:
        code = "import sys; [print(i) for i in range(50)]; sys.stdout.flush(); sys.exit('no GPU')"
        process = self.launch(tmp_path, *PYTHON, code)
        assert self.wait(process) == 1
        assert process.log_tail(lines=3) == "  48\n  49\n  no GPU"
        assert process.log_text().startswith("0\n1\n")
        process.stop()
        assert process.exit_status == 1

    def test_has_the_environment_that_it_was_given(self, tmp_path: Path) -> None:
        process = SupervisedProcess(
            [*PYTHON, "import os; print(os.environ['ANSWER'], 'HOME' in os.environ)"],
            env={"ANSWER": "42"},
            log=tmp_path / "log",
            grace_s=1,
        )
        self.wait(process)
        process.stop()
        assert process.log_text() == "42 False\n"

    def test_a_command_that_will_not_end_is_killed(self, tmp_path: Path) -> None:
        process = self.launch(tmp_path, *PYTHON, IGNORE, str(tmp_path / "pid"), grace_s=0.3)
        pid = pid_in(tmp_path / "pid")
        process.stop()
        assert process.exit_status == 128 + signal.SIGKILL
        assert ended(pid)

    def test_a_stuck_supervisor_is_killed_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process_module, "_MARGIN_S", 0.3)
        process = self.launch(tmp_path, *PYTHON, SLEEP, str(tmp_path / "pid"), grace_s=0.2)
        pid = pid_in(tmp_path / "pid")
        os.kill(psutil.Process(pid).ppid(), signal.SIGSTOP)
        begin = time.monotonic()
        process.stop()
        assert time.monotonic() - begin < 4
        assert ended(pid)

    def test_a_command_that_is_not_there_ends_at_once_and_says_so(self, tmp_path: Path) -> None:
        process = self.launch(tmp_path, str(tmp_path / "no-such-server"))
        assert self.wait(process) != 0
        assert "no-such-server" in process.log_text()
        process.stop()
