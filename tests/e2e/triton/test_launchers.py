"""Which server is run, and how: with the real bundled one, and a docker command that runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.targets.triton import TritonEndpoint, bundle
from pytest_gpuperf.targets.triton.launchers import DockerLauncher, Launch, LocalLauncher, choose_launcher, docker
from tests.processes import ended

Make = Callable[..., Path]
FAKE = Path(__file__).with_name("fake_docker.py")


@pytest.fixture(scope="module")
def plain_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This machine's programs, without docker and tritonserver."""
    folder = tmp_path_factory.mktemp("bin")
    for program in Path("/usr/bin").iterdir():
        if program.name not in ("docker", "tritonserver"):
            (folder / program.name).symlink_to(program)
    return folder


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plain_path: Path) -> None:
    """A machine with no tritonserver but the bundled one, and no docker."""
    monkeypatch.setenv("PATH", str(plain_path))
    monkeypatch.delenv("GPUPERF_TRITON", raising=False)
    monkeypatch.setattr("pytest_gpuperf.targets.triton.launchers.selection.NGC", tmp_path / "opt" / "tritonserver")
    docker.unavailable_reason.cache_clear()


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Docker answers, and has the pinned image."""
    folder, state = tmp_path / "docker-bin", tmp_path / "docker"
    folder.mkdir()
    state.mkdir()
    script = folder / "docker"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    script.chmod(0o755)
    root = Path(__file__).parents[3]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_DOCKER", str(state))
    (state / "images").write_text(docker.IMAGE)
    return state


def calls(state: Path) -> list[list[str]]:
    return [json.loads(line) for line in (state / "calls").read_text().splitlines()]


def executable(path: Path) -> Path:
    """The bundled server under another path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(bundle.require().binary)
    return path


class TestOrder:
    def test_what_is_asked_for_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, daemon: Path) -> None:
        mine = executable(tmp_path / "mine" / "tritonserver")
        on_path = executable(tmp_path / "bin" / "tritonserver")
        ngc = executable(tmp_path / "opt" / "tritonserver")
        monkeypatch.setenv("PATH", f"{on_path.parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("GPUPERF_TRITON", "bundled")
        assert choose_launcher(mine) == LocalLauncher(mine)
        assert choose_launcher("docker") == DockerLauncher()
        assert choose_launcher().label.startswith("bundled tritonserver 2.")
        monkeypatch.delenv("GPUPERF_TRITON")
        assert choose_launcher() == LocalLauncher(on_path)
        on_path.unlink()
        assert choose_launcher() == LocalLauncher(ngc)
        ngc.unlink()
        assert choose_launcher() == DockerLauncher()
        (daemon / "images").unlink()
        assert choose_launcher().label.startswith("bundled"), "nobody wants 20 GB downloaded unasked"

    def test_docker_that_does_not_answer_is_passed_over(self, daemon: Path) -> None:
        (daemon / "down").write_text("Cannot connect to the Docker daemon at unix:///x.sock. Is it running?")
        assert choose_launcher().label.startswith("bundled")

    @pytest.mark.usefixtures("daemon")
    def test_docker_that_hangs_is_passed_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path(os.environ["PATH"].split(os.pathsep)[0], "docker").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
        monkeypatch.setattr(docker, "_ANSWER_S", 0.3)
        begin = time.monotonic()
        assert choose_launcher().label.startswith("bundled")
        assert time.monotonic() - begin < 5

    def test_docker_is_asked_once_whether_it_answers(self, daemon: Path) -> None:
        for _ in range(3):
            choose_launcher()
        assert [call[0] for call in calls(daemon)].count("info") == 1

    def test_a_whole_installation_may_be_named(self) -> None:
        root = bundle.require().root
        assert choose_launcher(root) == choose_launcher(str(root / "bin" / "tritonserver"))

    @pytest.mark.parametrize("asked", ["/no/such/server", "dockers", "."])
    def test_something_else_is_refused(self, asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(
            OptionError, match=r"not an executable tritonserver\. .* the path of a tritonserver, docker"
        ):
            choose_launcher(asked)

    def test_a_file_that_can_not_be_run_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "tritonserver").touch()
        with pytest.raises(OptionError, match="is not an executable tritonserver"):
            choose_launcher(tmp_path / "tritonserver")

    def test_docker_that_is_not_there_says_why(self, daemon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (daemon / "down").write_text("Cannot connect to the Docker daemon")
        with pytest.raises(TargetError, match=r"docker is not available: Cannot connect(?s:.*)Start docker's daemon"):
            choose_launcher("docker:some/image")
        docker.unavailable_reason.cache_clear()
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(TargetError, match="there is no docker command"):
            choose_launcher("docker")


class TestLocal:
    def test_its_backends_are_those_beside_it(self, tmp_path: Path) -> None:
        assert choose_launcher("bundled").backends() == {"python"}
        root = tmp_path / "opt"
        for name in ("bin/tritonserver", "backends/tensorrt/libtriton_tensorrt.so", "backends/vllm/model.py"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        (root / "backends" / "empty").mkdir()
        (root / "bin" / "tritonserver").chmod(0o755)
        assert choose_launcher(root).backends() == {"tensorrt", "vllm"}

    def test_without_backends_beside_it(self, tmp_path: Path) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "tritonserver").touch(mode=0o755)
        with pytest.raises(TargetError, match=r"has no backends: .* does not exist"):
            choose_launcher(tmp_path).backends()

    def test_one_of_another_path_serves(self, doubling: Make, tmp_path: Path) -> None:
        server = executable(tmp_path / "bin" / "triton")
        started = TritonEndpoint(doubling(["N", 3]), threads=1, start_timeout_s=30, server=server).start()
        try:
            facts = started.under_test()
            assert facts["launcher"] == str(tmp_path / "bin" / "triton")
            assert facts["server"] == f"triton {bundle.SERVER_VERSION}"
        finally:
            started.stop()


def launch(folder: Path, **settings: Any) -> Launch:
    return Launch(
        **{
            "name": "gpuperf-1",
            "arguments": ["--http-port=1"],
            "scratch": folder,
            "extra_directories": [],
            "visible": None,
            "gpu": True,
            "cpus": None,
            **settings,
        }
    )


class TestDocker:
    def test_the_command(self, tmp_path: Path) -> None:
        models = tmp_path / "models"
        models.mkdir()
        command = DockerLauncher("i:1").command(
            launch(tmp_path, extra_directories=[models, Path("/opt")], cpus=[0, 2], visible="0")
        )
        assert list(command.arguments) == [
            *("docker", "run", "--rm", "--name", "gpuperf-1", "--network=host", "--ipc=host"),
            *(f"--user={os.getuid()}:{os.getgid()}", "--ulimit=memlock=-1", "--ulimit=stack=67108864"),
            *(
                "--gpus",
                '"device=0"',
                "--cpuset-cpus=0,2",
                "--volume=/opt:/opt:ro",
                f"--volume={tmp_path}:{tmp_path}:ro",
            ),
            *("i:1", "tritonserver", "--http-port=1"),
        ]
        assert command.cleanup == ("docker", "rm", "--force", "gpuperf-1")

    @pytest.mark.parametrize(
        ("visible", "here", "gpus"),
        [
            (None, None, "all"),
            (None, "1,2", '"device=1,2"'),
            ("MIG-a,MIG-b", "1,2", '"device=MIG-a,MIG-b"'),
        ],
    )
    def test_the_gpus_it_is_given(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, here: str | None, gpus: str
    ) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if here is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", here)
        arguments = list(DockerLauncher().command(launch(tmp_path, visible=visible)).arguments)
        assert arguments[arguments.index("--gpus") + 1] == gpus
        assert "--gpus" not in DockerLauncher().command(launch(tmp_path, visible=visible, gpu=False)).arguments

    def test_an_image_that_is_asked_for_is_pulled(self, daemon: Path) -> None:
        assert choose_launcher("docker:my/full:1").backends() == {"python", "onnxruntime"}
        assert ["pull", "--quiet", "my/full:1"] in calls(daemon)
        with pytest.raises(
            TargetError, match=r"can't pull the image missing:1: .*manifest unknown(?s:.*)docker pull miss"
        ):
            choose_launcher("docker:missing:1").backends()

    def test_serves_and_is_removed(self, daemon: Path, doubling: Make) -> None:
        started = TritonEndpoint(doubling(["N", 3]), threads=1, start_timeout_s=30, server="docker").start()
        try:
            (name,) = (path.stem for path in daemon.glob("*.pid"))
            (container,) = started.processes
            assert psutil.Process(container).name() == "tritonserver"
            assert psutil.Process(os.getpid()) not in psutil.Process(container).parents(), "as a container's"
            facts = started.under_test()
            assert (facts["launcher"], facts["model"]) == (f"docker {docker.IMAGE}", "double.onnx")
            run = next(call for call in calls(daemon) if "--name" in call)
            assert run[run.index("--name") + 1] == name
            assert "--gpus" not in run, "there is none here"
        finally:
            started.stop()
        assert ended(container, 0.1)
        assert ["rm", "--force", name] in calls(daemon)
        assert list(Path("/dev/shm").glob(f"{name}*")) == []

    @pytest.mark.usefixtures("daemon")
    def test_does_not_outlive_a_killed_pytest(self, doubling: Make, tmp_path: Path) -> None:
        code = (
            "import sys, time\n"
            "from pytest_gpuperf.targets.triton import TritonEndpoint\n"
            "started = TritonEndpoint(sys.argv[1], threads=1, start_timeout_s=30, server='docker').start()\n"
            "print(*started.processes, flush=True)\n"
            "time.sleep(60)\n"
        )
        command = [sys.executable, "-c", code, str(doubling(["N", 3]))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}) as parent:
            assert parent.stdout is not None
            container = int(parent.stdout.readline())
            parent.send_signal(signal.SIGKILL)
        assert ended(container, 20)
        deadline = time.monotonic() + 10
        while list(tmp_path.glob("gpuperf-triton-*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(tmp_path.glob("gpuperf-triton-*")) == []

    @pytest.mark.usefixtures("daemon")
    def test_a_killed_docker_command_takes_its_container_along(self, doubling: Make) -> None:
        started = TritonEndpoint(doubling(["N", 3]), threads=1, start_timeout_s=30, server="docker").start()
        try:
            (container,) = started.processes
            clients = [
                one for one in psutil.Process().children(recursive=True) if "fake_docker" in " ".join(one.cmdline())
            ]
            clients[0].kill()
            assert ended(container, 20)
            time.sleep(0.5)  # the supervisor looks every tenth of a second
            with pytest.raises(
                TargetError, match=r"tritonserver (ended with status \d+|was killed by SIGKILL) during the measurement"
            ):
                started.check()
        finally:
            started.stop()
