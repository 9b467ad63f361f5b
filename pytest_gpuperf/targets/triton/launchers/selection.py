"""Which tritonserver is run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.targets.triton import bundle
from pytest_gpuperf.targets.triton.launchers import docker
from pytest_gpuperf.targets.triton.launchers.docker import DockerLauncher
from pytest_gpuperf.targets.triton.launchers.launcher import Launcher
from pytest_gpuperf.targets.triton.launchers.local import LocalLauncher

#: As ``--gpuperf-triton``, for everything that is not given to a test.
VARIABLE = "GPUPERF_TRITON"
BUNDLED, DOCKER = "bundled", "docker"
#: Where NVIDIA's containers have it.
NGC = Path("/opt/tritonserver/bin/tritonserver")


def choose_launcher(wanted: str | os.PathLike[str] | None = None) -> Launcher:
    """The server that was asked for, else the first there is: on PATH, NVIDIA's, docker's, the bundled one.

    Docker is only taken by itself if it has the image: nobody wants 20 GB downloaded who only ran pytest.

    Args:
        wanted: a tritonserver, ``docker``, ``docker:IMAGE`` or ``bundled``; $GPUPERF_TRITON when None or empty.

    Raises:
        OptionError: it is none of these.
        TargetError: it is not there, or none is.
    """
    asked = str(wanted or "") or os.environ.get(VARIABLE, "")
    if asked:
        return _requested_launcher(asked)
    on_path = shutil.which("tritonserver")
    if on_path is not None:
        return LocalLauncher(Path(on_path))
    if os.access(NGC, os.X_OK):
        return LocalLauncher(NGC)
    if not docker.unavailable_reason() and docker.has_image(docker.IMAGE):
        return DockerLauncher()
    return _bundled()


def _requested_launcher(asked: str) -> Launcher:
    if asked == BUNDLED:
        return _bundled()
    if asked == DOCKER or asked.startswith(f"{DOCKER}:"):
        why = docker.unavailable_reason()
        if why:
            raise TargetError(
                f"{asked!r} was asked for as the tritonserver, and docker does not answer here: {why}.\n"
                "Start its daemon, or leave the server to be found (without --gpuperf-triton)."
            )
        return DockerLauncher(asked.partition(":")[2] or docker.IMAGE)
    path = Path(asked).expanduser()
    binary = path / "bin" / "tritonserver" if path.is_dir() else path
    if not (binary.is_file() and os.access(binary, os.X_OK)):
        raise OptionError(
            f"{asked!r} is not a tritonserver that can be run: give the path of one, {DOCKER}, {DOCKER}:IMAGE or "
            f"{BUNDLED} (--gpuperf-triton, server= or ${VARIABLE})."
        )
    return LocalLauncher(binary.absolute())


def _bundled() -> Launcher:
    return LocalLauncher(bundle.require().binary, f"bundled tritonserver {bundle.SERVER_VERSION}")
