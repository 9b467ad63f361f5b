"""NVIDIA's image of tritonserver, or another one, in a container. The only module that knows the ``docker`` command."""

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

#: The release whose tritonserver is the bundled one's version, so that changing from one to the other changes least.
IMAGE = "nvcr.io/nvidia/tritonserver:24.10-py3"
_BACKENDS = "/opt/tritonserver/backends"
#: Within which a daemon answers that is there. It is asked at the start of a session, so nobody should notice.
_ANSWER_S = 5.0
#: A container that only lists a directory; the daemon may be busy with other ones.
_LIST_S = 60.0
#: The image has about 20 GB.
_PULL_S = 3600.0


@dataclass(frozen=True)
class DockerLauncher:
    """Runs ``docker run``, which stays in the foreground and passes signals on.

    The container shares the host's network, since a bridge costs latency, and its shared memory. It runs as the user
    of this process, so that what it shares can be removed by us.
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
                f"docker can't get the image {self.image}: {_last_line(pulled.stderr)}\n"
                f"Try it by hand: docker pull {self.image}"
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

    def processes(self, launch: Launch, supervisor: int) -> tuple[int, ...]:  # noqa: ARG002 - it only has the client
        asked = _docker(["inspect", "--format", "{{.State.Pid}}", launch.name], _ANSWER_S)
        pid = asked.stdout.strip()
        return (int(pid),) if asked.returncode == 0 and pid.isdigit() and pid != "0" else ()


@cache
def unavailable_reason() -> str:
    """Why docker can't be used here; empty when it can. Asked once."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    asked = _docker(["info", "--format", "{{.ServerVersion}}"], _ANSWER_S)
    return "" if asked.returncode == 0 else _last_line(asked.stderr) or "docker info fails"


def has_image(image: str) -> bool:
    """Whether it is on this machine already."""
    return _docker(["image", "inspect", "--format", "{{.Id}}", image], _ANSWER_S).returncode == 0


def _docker(arguments: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run docker; a daemon that does not answer in time is a failure like any other."""
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(arguments, 124, "", f"docker did not answer within {timeout_s:g} s")


def _gpus(visible: str | None) -> str:
    """What ``--gpus`` is to be given: docker parses it as CSV, so several devices are quoted within."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
    return f'"device={chosen}"' if chosen else "all"


def _outermost_folders(folders: Sequence[Path]) -> list[Path]:
    """Without those that lie inside another: one mount shows both."""
    whole = sorted({folder.resolve() for folder in folders})
    return [one for one in whole if not any(other in one.parents for other in whole)]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
