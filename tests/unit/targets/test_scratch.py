"""What a killed process left is removed at the next start, and what a living one uses is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.targets import scratch as scratch_module
from pytest_gpuperf.targets.process import SupervisedProcess
from pytest_gpuperf.targets.scratch import Scratch, sweep
from tests.processes import ended

#: Starts a command that ignores SIGINT, with shared memory; prints its prefix, directory and PIDs.
OWNER = """
import os, sys, time
from pathlib import Path
from pytest_gpuperf.targets.process import SupervisedProcess
from pytest_gpuperf.targets.scratch import Scratch

scratch = Scratch("triton")
memory = Path("/dev/shm", f"{scratch.prefix}region")
memory.touch()
code = "import os, subprocess, sys, time; print(os.getpid(), flush=True); time.sleep(100)"
command = [sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])", code]
process = SupervisedProcess(command, env=os.environ, log=scratch.path / "log", grace_s=1, scratch=scratch)
while not process.log_text().endswith("\\n"):
    time.sleep(0.02)
print(scratch.prefix, scratch.path, process.pid, process.log_text().strip(), flush=True)
sys.stdin.read()
"""


class Owner:
    """A process that owns a server."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.prefix, path, supervisor, server = self.process.stdout.readline().split()
        self.path, self.supervisor, self.server = Path(path), int(supervisor), int(server)

    @property
    def shared_memory(self) -> list[str]:
        return sorted(path.name.removeprefix(self.prefix) for path in Path("/dev/shm").glob(f"{self.prefix}*"))

    def kill(self, *, supervisor: bool) -> None:
        """Kill the owner, first its supervisor if wanted."""
        if supervisor:
            os.kill(self.supervisor, signal.SIGKILL)
            assert ended(self.supervisor)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def owner() -> Iterator[Owner]:
    started = Owner()
    yield started
    for stream in (started.process.stdin, started.process.stdout):
        assert stream is not None
        stream.close()
    started.process.kill()
    started.process.wait()
    sweep()


class TestSweep:
    def test_removes_what_a_killed_owner_and_supervisor_left(self, owner: Owner) -> None:
        owner.kill(supervisor=True)
        assert owner.path.exists()
        assert psutil.pid_exists(owner.server), "its parent was killed with the supervisor, it was not"
        assert owner.shared_memory == ["owner", "region"]
        Scratch().remove()  # of any other start
        assert ended(owner.server)
        assert not owner.path.exists()
        assert owner.shared_memory == []

    def test_leaves_a_living_owner_alone(self, owner: Owner) -> None:
        sweep()
        os.kill(owner.process.pid, signal.SIGSTOP)
        sweep()
        os.kill(owner.process.pid, signal.SIGCONT)
        assert psutil.pid_exists(owner.server)
        assert (owner.path / "log").exists()
        assert owner.shared_memory == ["owner", "region"]

    def test_leaves_the_supervisor_of_a_killed_owner_its_time(self, owner: Owner) -> None:
        os.kill(owner.supervisor, signal.SIGSTOP)
        owner.kill(supervisor=False)
        sweep()
        assert psutil.pid_exists(owner.server)
        os.kill(owner.supervisor, signal.SIGCONT)
        assert ended(owner.server)
        assert ended(owner.supervisor)
        assert not owner.path.exists()
        assert owner.shared_memory == []

    def test_removes_no_directory_that_is_not_the_servers(self, tmp_path: Path) -> None:
        victim = tmp_path / "gpuperf-triton-0123456789ab"
        victim.mkdir()
        owner = Path("/dev/shm/gpuperf-ba9876543210-owner")
        owner.write_text(json.dumps({"scratch": str(victim), "cleanup": []}))
        sweep()
        assert victim.exists()
        assert not owner.exists()

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"scratch": 3, "cleanup": null}', b"\xff"])
    def test_owner_files_cut_short(self, content: bytes) -> None:
        owner = Path("/dev/shm/gpuperf-ba9876543210-owner")
        owner.write_bytes(content)
        sweep()
        assert not owner.exists()

    def test_runs_the_cleanup_command_of_a_killed_owner(self, tmp_path: Path) -> None:
        owner = Path("/dev/shm/gpuperf-ba9876543210-owner")
        owner.write_text(json.dumps({"scratch": "", "cleanup": ["touch", str(tmp_path / "removed")]}))
        sweep()
        assert (tmp_path / "removed").exists()


class TestScratch:
    def test_a_killed_supervisor_is_cleaned_up_after_and_named(self, tmp_path: Path) -> None:
        scratch = Scratch("triton")
        assert scratch.path is not None
        code = "import os, subprocess, sys; subprocess.run(['sh', '-c', 'echo $$; exec sleep 100'])"
        command = [sys.executable, "-c", code]
        process = SupervisedProcess(command, env=os.environ, log=tmp_path / "log", grace_s=1, scratch=scratch)
        while not process.log_text().endswith("\n"):
            assert process.exit_status is None
        grandchild = int(process.log_text())
        Path("/dev/shm", f"{scratch.prefix}region").touch()
        assert process.stopped_processes() == ()
        os.kill(grandchild, signal.SIGSTOP)
        while process.stopped_processes() != (grandchild,):  # a signal takes a moment
            assert process.exit_status is None
        os.kill(process.pid, signal.SIGKILL)
        process.stop()
        assert process.ending == f"was ended because its supervisor, process {process.pid}, was ended by SIGKILL"
        assert ended(grandchild)
        scratch.remove()
        assert not list(Path("/dev/shm").glob(f"{scratch.prefix}*"))
        assert not scratch.path.exists()

    def test_goes_with_a_process_that_ends_without_stopping_it(self) -> None:
        code = "from pytest_gpuperf.targets.scratch import Scratch; s = Scratch('triton'); print(s.path, s.prefix)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        path, prefix = done.stdout.split()
        assert not Path(path).exists()
        assert not list(Path("/dev/shm").glob(f"{prefix}*"))

    def test_outlives_a_fork_of_its_owner(self) -> None:
        scratch = Scratch("triton")
        assert scratch.path is not None
        if os.fork() == 0:
            scratch.remove()
            os._exit(0)
        os.wait()
        assert scratch.path.exists()
        scratch.remove()

    @pytest.mark.parametrize("name", ["a b", "a'b", 'a"b', "a;b", "$(id)", "a&b", "é", "a\\b", "a\nb"])
    def test_avoids_paths_that_triton_can_not_use(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / name).mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
        scratch = Scratch("triton")
        assert scratch.path is not None
        assert scratch.path.parent == Path("/tmp")
        scratch.remove()
        monkeypatch.setattr(scratch_module, "_FALLBACKS", ("/no/such", "/proc/1/fd/none"))
        with pytest.raises(TargetError, match=r"can't use the temporary directory .*\n.*Set TMPDIR to a directory"):
            Scratch("triton")

    def test_that_can_not_be_created(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scratch_module, "SHARED_MEMORY", str(tmp_path / "none"))
        with pytest.raises(TargetError, match=r"files of a server can't be created: .*none.*\n.*TMPDIR"):
            Scratch("triton")
