"""A tritonserver in a container, by default of NVIDIA's image. The only module that uses the ``docker`` command."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.targets.triton.launchers.launcher import Command, Launch

#: The release with the bundled tritonserver's version, so that switching between the two changes least.
IMAGE = "nvcr.io/nvidia/tritonserver:24.10-py3"
_BACKENDS = "/opt/tritonserver/backends"
#: Limit for an answer of the daemon; short, since it is asked at the start of pytest.
_ANSWER_S = 5.0
#: Limit for a container that lists a directory; long, since the daemon may be busy with other containers.
_LIST_S = 60.0
#: Limit for the download of the image, about 20 GB.
_PULL_S = 3600.0


@dataclass(frozen=True)
class DockerLauncher:
    """Launcher through ``docker run``, which stays in the foreground and forwards signals.

    The container shares the host's network, since a bridge adds latency, and its shared memory. It runs as the user of
    this process, which can therefore remove that memory.
    """

    image: str = IMAGE

    built_for_numpy1 = False

    @property
    def label(self) -> str:
        return f"docker {self.image}"

    def backends(self) -> frozenset[str]:
        self._pull_if_missing()
        listing = _docker(["run", "--rm", "--entrypoint", "ls", self.image, _BACKENDS], _LIST_S)
        if listing.returncode:
            raise TargetError(
                f"{self.image} has no tritonserver: {_last_line(listing.stderr)}\n"
                f"Use an image with {_BACKENDS}, such as {IMAGE}."
            )
        return frozenset(listing.stdout.split())

    def _pull_if_missing(self) -> None:
        if has_image(self.image):
            return
        pulled = _docker(["pull", "--quiet", self.image], _PULL_S)
        if pulled.returncode:
            raise TargetError(
                f"docker can't pull the image {self.image}: {_last_line(pulled.stderr)}\nTry: docker pull {self.image}"
            )

    def command(self, launch: Launch) -> Command:
        arguments = ["docker", "run", "--rm", "--name", launch.name, "--network=host", "--ipc=host"]
        arguments += [f"--user={os.getuid()}:{os.getgid()}", "--ulimit=memlock=-1", "--ulimit=stack=67108864"]
        if launch.gpu:
            arguments += ["--gpus", _gpus(launch.visible)]
        if launch.cpus is not None:
            arguments.append(f"--cpuset-cpus={','.join(map(str, launch.cpus))}")
        for folder in _outermost_folders([launch.scratch, *launch.extra_directories]):
            arguments.append(f"--volume={folder}:{folder}:ro")
        arguments += [self.image, "tritonserver", *launch.arguments]
        return Command(arguments, dict(os.environ), None, ("docker", "rm", "--force", launch.name))

    def processes(self, launch: Launch, supervisor: int) -> tuple[int, ...]:  # noqa: ARG002 - its descendant is only docker's client
        answer = _docker(["inspect", "--format", "{{.State.Pid}}", launch.name], _ANSWER_S)
        pid = answer.stdout.strip()
        return (int(pid),) if answer.returncode == 0 and pid.isdigit() and pid != "0" else ()


@cache
def unavailable_reason() -> str:
    """Return why docker can't be used here; empty if it can. Determined once."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    answer = _docker(["info", "--format", "{{.ServerVersion}}"], _ANSWER_S)
    return "" if answer.returncode == 0 else _last_line(answer.stderr) or "docker info fails"


def has_image(image: str) -> bool:
    """Return whether an image is on this machine."""
    return _docker(["image", "inspect", "--format", "{{.Id}}", image], _ANSWER_S).returncode == 0


def _docker(arguments: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run docker; a timeout is returned as exit status 124."""
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(arguments, 124, "", f"docker did not answer within {timeout_s:g} s")


def _gpus(visible: str | None) -> str:
    """Return the value of ``--gpus``, which docker parses as CSV: several devices need inner quotes."""
    if visible is None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return f'"device={visible}"' if visible else "all"


def _outermost_folders(folders: Sequence[Path]) -> list[Path]:
    """Return the folders that lie in no other of them, whose mount would include them."""
    resolved = sorted({folder.resolve() for folder in folders})
    return [folder for folder in resolved if not set(folder.parents) & set(resolved)]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
