"""A tritonserver on this machine: at a given path, on PATH, or where NVIDIA's containers have it."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.targets.triton import bundle
from pytest_gpuperf.targets.triton.launchers.launcher import Command, Launch

_PYTHON = "python"
_UTILITIES = "triton_python_backend_utils.py"
#: Makes the bundled Python backend, which was built against NumPy 1, right under NumPy 2.
_CORRECTION = Path(__file__).parent.parent / "python_backend" / "gpuperf_numpy2.py"


@dataclass(frozen=True)
class LocalLauncher:
    """Launcher of a binary, with the backends beside it.

    Attributes:
        binary: Path of the form ``ROOT/bin/tritonserver``.
        name: Display name; the path when empty.
    """

    binary: Path
    name: str = ""

    @property
    def label(self) -> str:
        return self.name or str(self.binary)

    @property
    def _root(self) -> Path:
        return self.binary.resolve().parent.parent

    @property
    def _bundled(self) -> bundle.TritonServer | None:
        """The server, if it is laid out like the bundled server: stubs for several Pythons."""
        return bundle.TritonServer(self._root) if (self._root / "python_backend_stubs").is_dir() else None

    @property
    def built_for_numpy1(self) -> bool:
        return self._bundled is not None

    def backends(self) -> frozenset[str]:
        folder = self._root / "backends"
        if not folder.is_dir():
            raise TargetError(
                f"{self.binary} has no backends: {folder} does not exist.\n"
                "Use the tritonserver of a complete installation (ROOT/bin/tritonserver beside ROOT/backends)."
            )
        return frozenset(path.name for path in folder.iterdir() if any(path.glob("*.so")) or any(path.glob("model.py")))

    def command(self, launch: Launch) -> Command:
        backends = self._root / "backends"
        env = {**os.environ}
        if launch.visible is not None:
            env["CUDA_VISIBLE_DEVICES"] = launch.visible
            env.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # so that indices are those of nvidia-smi
        server = self._bundled
        if server is not None:
            backends = self._assemble_backends(server, launch.scratch / "backends")
            libraries = [str(bundle.python_library_directory()), str(server.libraries), env.get("LD_LIBRARY_PATH", "")]
            env["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
            env["PATH"] = os.pathsep.join([str(Path(sys.executable).absolute().parent), env.get("PATH", "")])
        arguments = [str(self.binary), f"--backend-directory={backends}", *launch.arguments]
        return Command(arguments, env, launch.cpus)

    def _assemble_backends(self, server: bundle.TritonServer, target: Path) -> Path:
        """Link the backends into a folder: Triton expects the stub for this interpreter in the Python backend's."""
        if target.is_dir():
            return target  # from an earlier try
        target.mkdir()
        for backend in (self._root / "backends").iterdir():
            if backend.name != _PYTHON:
                (target / backend.name).symlink_to(backend)
                continue
            (target / _PYTHON).mkdir()
            for file in (*backend.iterdir(), server.python_stub()):
                if file.name == _UTILITIES and int(np.__version__.partition(".")[0]) > 1:
                    shutil.copy(_CORRECTION, target / _PYTHON)
                    text = f"{file.read_text()}\n\nimport {_CORRECTION.stem}  # noqa\n"
                    (target / _PYTHON / file.name).write_text(text)
                else:
                    (target / _PYTHON / file.name).symlink_to(file)
        return target

    def processes(self, launch: Launch, supervisor: int) -> tuple[int, ...]:  # noqa: ARG002 - the server descends from it
        return (supervisor,)
