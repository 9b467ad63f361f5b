"""Model repositories of a server: generated for a start, or the user's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.model import Plain
from pytest_gpuperf.targets.kserve import StartedEndpoint
from pytest_gpuperf.targets.model_file import PORTABLE_NAME, check_folder, looked_for
from pytest_gpuperf.targets.onnxruntime import digest_of, import_onnxruntime
from pytest_gpuperf.targets.triton.ensemble import Ensemble, join_steps
from pytest_gpuperf.targets.triton.launchers import Launcher
from pytest_gpuperf.targets.triton.repository_writer import write_repository
from pytest_gpuperf.targets.triton.resolved_model import (
    PYTHON_BACKEND,
    TENSORRT,
    ResolvedModel,
    ServerCapabilities,
    resolve_model,
)
from pytest_gpuperf.targets.triton.step import Step

_CONFIG = "config.pbtxt"


class ModelRepository(Protocol):
    """A model repository of a server.

    Attributes:
        generated: Whether every start writes the model configurations.
        load: The model to load, with the models it consists of; all models of the repository when empty.
        complete_configs: Whether no configuration relies on Triton's auto-completion.
        extra_directories: Directories outside the repository that the server reads.
    """

    @property
    def generated(self) -> bool: ...

    @property
    def load(self) -> str: ...

    @property
    def complete_configs(self) -> bool: ...

    @property
    def extra_directories(self) -> Sequence[Path]: ...

    def check(self, launcher: Launcher) -> None:
        """Check that the server can serve the models.

        Raises:
            TargetError: The server would crash.
        """

    def prepare(self, scratch: Path) -> Path:
        """Return the path of the repository, which is written into ``scratch`` if it is generated."""

    def facts(self, started: StartedEndpoint) -> dict[str, Plain]:
        """Return the entries for ``under_test``."""


@dataclass(frozen=True)
class GeneratedRepository:
    """A repository that is written for every start."""

    models: tuple[ResolvedModel, ...]
    ensemble: Ensemble | None

    generated, load = True, ""

    @classmethod
    def resolve(cls, steps: Sequence[Step], server: ServerCapabilities, ensemble: str | None) -> GeneratedRepository:
        """Resolve the models for a server; the steps form an ensemble of that name, unless it is None."""
        models = tuple(resolve_model(step.model_name, step.path, step, server) for step in steps)
        return cls(models, join_steps(ensemble, steps, models) if ensemble is not None else None)

    @property
    def complete_configs(self) -> bool:
        return all(model.signature is not None for model in self.models)

    @property
    def extra_directories(self) -> Sequence[Path]:
        return [model.source.resolve().parent for model in self.models if model.backend == PYTHON_BACKEND]

    def check(self, launcher: Launcher) -> None:
        if not launcher.built_for_numpy1 or np.lib.NumpyVersion(np.__version__) < "2.0.0":
            return
        for model in self.models:
            if model.backend == PYTHON_BACKEND and any(spec.datatype == "BYTES" for spec in model.tensors):
                raise TargetError(
                    f"{model.source.name} has string tensors, which crash the bundled Triton's Python backend with "
                    f"NumPy {np.__version__}.\nRun: pip install 'numpy<2'"
                )

    def prepare(self, scratch: Path) -> Path:
        root = scratch / "repository"
        write_repository(root, self.models, self.ensemble)
        return root

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {model.name: digest_of(model.source) for model in self.models}

    def facts(self, started: StartedEndpoint) -> dict[str, Plain]:  # noqa: ARG002 - known without the server
        if self.ensemble is None:
            return self._facts(self.models[0])
        facts: dict[str, Plain] = {"model": self.ensemble.name}
        for model in self.models:
            batching = {"max_batch_size": model.max_batch_size, "dynamic_batching": model.dynamic_batching is not None}
            facts |= {f"{model.name}: {name}": value for name, value in {**self._facts(model), **batching}.items()}
        return facts

    def _facts(self, model: ResolvedModel) -> dict[str, Plain]:
        facts: dict[str, Plain] = {
            "model": model.source.name,
            "model_digest": self._digests[model.name],
            "backend": model.backend,
            "instances": model.instances,
            "device": model.kind.removeprefix("KIND_").lower(),
        }
        if model.gpus is not None:
            facts["gpus"] = ", ".join(map(str, model.gpus))
        if model.dynamic_batching is not None and model.dynamic_batching.preferred_batch_sizes:
            facts["preferred_batch_sizes"] = ", ".join(map(str, model.dynamic_batching.preferred_batch_sizes))
        if model.dynamic_batching is not None and model.dynamic_batching.max_queue_delay_us:
            facts["max_queue_delay_us"] = model.dynamic_batching.max_queue_delay_us
        if model.backend != TENSORRT and not model.function:
            facts["threads"] = model.threads
        if model.providers:
            facts["onnxruntime"] = import_onnxruntime("serve an ONNX model").__version__
            facts["providers"] = ", ".join(model.providers)
        return facts


@dataclass(frozen=True)
class UserRepository:
    """A model of the user's repository, which is served unchanged."""

    path: Path
    load: str

    generated, complete_configs = False, False
    extra_directories = ()

    def check(self, launcher: Launcher) -> None:
        """Do nothing: the user's models are not inspected."""

    def prepare(self, scratch: Path) -> Path:
        """Return a link to the repository: Triton's Python backend can't use a path with blanks."""
        folder = self.path / self.load
        if not folder.is_dir():
            models = sorted(path.name for path in self.path.iterdir() if path.is_dir()) if self.path.is_dir() else []
            reason = f"it has {', '.join(models)}" if models else f"it is not a model repository{looked_for(self.path)}"
            raise TargetError(f"There is no model {self.load!r} in {self.path}: {reason}.")
        check_folder(folder)
        if not PORTABLE_NAME.fullmatch(self.load) and _is_python(folder):
            raise TargetError(
                f"The Python backend can't serve a model named {self.load!r}: rename its folder in {self.path} to "
                "letters (A to Z), digits, and the characters _ . -"
            )
        link = scratch / "repository"
        link.symlink_to(self.path.resolve())
        return link

    def facts(self, started: StartedEndpoint) -> dict[str, Plain]:
        names = [stage.name for stage in started.stage.walk()]
        digest = hashlib.sha256()
        for name in dict.fromkeys(names):
            for file in sorted((self.path / name).rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    digest.update(f"{file.relative_to(self.path)} {digest_of(file)}\n".encode())
        return {"repository": self.path.name, "model_digest": digest.hexdigest()[:32]}


def _is_python(folder: Path) -> bool:
    try:
        return re.search(r'backend\s*:\s*"python"', (folder / _CONFIG).read_text(errors="replace")) is not None
    except OSError:
        return False
