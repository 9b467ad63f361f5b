"""Launchers: the ways to run a tritonserver, behind a protocol."""

from pytest_gpuperf.targets.triton.launchers.docker import DockerLauncher
from pytest_gpuperf.targets.triton.launchers.launcher import Command, Launch, Launcher
from pytest_gpuperf.targets.triton.launchers.local import LocalLauncher
from pytest_gpuperf.targets.triton.launchers.selection import choose_launcher

__all__ = ["Command", "DockerLauncher", "Launch", "Launcher", "LocalLauncher", "choose_launcher"]
