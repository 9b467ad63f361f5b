"""The protocol of launchers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Launch:
    """A start of a tritonserver.

    Attributes:
        name: Name that is unique on this machine.
        arguments: Arguments of tritonserver, without the directory of its backends.
        scratch, extra_directories: Directories that the server reads, under their paths on this machine.
        visible, cpus: See ``TritonEndpoint``.
        gpu: Whether a GPU will be visible to the server.
    """

    name: str
    arguments: Sequence[str]
    scratch: Path
    extra_directories: Sequence[Path]
    visible: str | None
    gpu: bool
    cpus: Sequence[int] | None


@dataclass(frozen=True)
class Command:
    """A command for the supervisor.

    Attributes:
        cpus: Cores that the supervisor binds the command to.
        cleanup: Second command, which removes anything the first may leave.
    """

    arguments: Sequence[str]
    env: Mapping[str, str]
    cpus: Sequence[int] | None = None
    cleanup: Sequence[str] = ()


class Launcher(Protocol):
    """A tritonserver that can be run."""

    @property
    def built_for_numpy1(self) -> bool:
        """True if its Python backend was built against NumPy 1, so that strings crash it under NumPy 2."""

    @property
    def label(self) -> str:
        """Display name; stored with every record."""

    def backends(self) -> frozenset[str]:
        """Return the names of the server's backends.

        Raises:
            TargetError: They can't be listed.
        """

    def command(self, launch: Launch) -> Command:
        """Return the command that starts the server.

        Raises:
            TargetError: The server can't be started.
        """

    def processes(self, launch: Launch, supervisor: int) -> tuple[int, ...]:
        """Return the PIDs of the roots of a running server's process trees on this machine."""
