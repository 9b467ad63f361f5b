"""The choice of the tritonserver to run."""

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
from pytest_gpuperf.user_path import user_path

#: Default of ``--gpuperf-triton`` and ``server=``.
VARIABLE = "GPUPERF_TRITON"
BUNDLED, DOCKER = "bundled", "docker"
#: Path of tritonserver in NVIDIA's containers.
NGC = Path("/opt/tritonserver/bin/tritonserver")


def choose_launcher(wanted: str | os.PathLike[str] | None = None) -> Launcher:
    """Return the requested server, else the first available: on PATH, NVIDIA's path, docker, the bundled server.

    Docker is a default only if it has the image, since running pytest should not download 20 GB.

    Args:
        wanted: Path of a tritonserver, ``docker``, ``docker:IMAGE`` or ``bundled``; $GPUPERF_TRITON when None or empty.

    Raises:
        OptionError: ``wanted`` is not one of these.
        TargetError: The requested server, or any server, is not available.
    """
    requested = str(wanted or "") or os.environ.get(VARIABLE, "")
    if requested:
        return _requested_launcher(requested)
    on_path = shutil.which("tritonserver")
    if on_path is not None:
        return LocalLauncher(Path(on_path))
    if os.access(NGC, os.X_OK):
        return LocalLauncher(NGC)
    if not docker.unavailable_reason() and docker.has_image(docker.IMAGE):
        return DockerLauncher()
    return _bundled()


def _requested_launcher(requested: str) -> Launcher:
    if requested == BUNDLED:
        return _bundled()
    if requested == DOCKER or requested.startswith(f"{DOCKER}:"):
        reason = docker.unavailable_reason()
        if reason:
            raise TargetError(
                f"{requested!r} was requested as the tritonserver, but docker is not available: {reason}.\n"
                "Start docker's daemon, or omit --gpuperf-triton to use another tritonserver."
            )
        return DockerLauncher(requested.partition(":")[2] or docker.IMAGE)
    path = user_path(requested)
    binary = path / "bin" / "tritonserver" if path.is_dir() else path
    if not (binary.is_file() and os.access(binary, os.X_OK)):
        raise OptionError(
            f"{requested!r} is not an executable tritonserver. Set --gpuperf-triton, server= or ${VARIABLE} to the "
            f"path of a tritonserver, {DOCKER}, {DOCKER}:IMAGE or {BUNDLED}."
        )
    return LocalLauncher(binary.absolute())


def _bundled() -> Launcher:
    return LocalLauncher(bundle.require().binary, f"bundled tritonserver {bundle.SERVER_VERSION}")
