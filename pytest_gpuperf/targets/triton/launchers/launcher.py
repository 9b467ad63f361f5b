"""The seam between a server and the ways to run one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Launch:
    """One start of a tritonserver.

    Attributes:
        name: unique on this machine.
        arguments: of tritonserver, without the directory of its backends.
        scratch: a directory of its own.
        extra_directories: directories that the server must find where they are.
        visible: its CUDA_VISIBLE_DEVICES; as in this process when None.
        gpu: it will see one.
        cpus: the cores that it may use; all of this process's when None.
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
    """What the supervisor runs.

    Attributes:
        cpus: the cores that the supervisor binds it to.
        cleanup: a command that removes what the first one may leave.
    """

    arguments: Sequence[str]
    env: Mapping[str, str]
    cpus: Sequence[int] | None = None
    cleanup: Sequence[str] = ()


class Launcher(Protocol):
    """A tritonserver that can be run."""

    @property
    def built_for_numpy1(self) -> bool:
        """Its Python backend was built against NumPy 1, and its strings crash under NumPy 2."""

    @property
    def label(self) -> str:
        """What people call it; recorded with every session."""

    def backends(self) -> frozenset[str]:
        """Those that it has.

        Raises:
            TargetError: it can't be asked.
        """

    def command(self, launch: Launch) -> Command:
        """How it is started.

        Raises:
            TargetError: it can't be.
        """

    def processes(self, launch: Launch, supervisor: int) -> tuple[int, ...]:
        """The roots of a running server's process trees on this machine."""
