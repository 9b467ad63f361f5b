"""Writer of model repositories."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pytest_gpuperf.targets.triton.config import ensemble_config, model_config
from pytest_gpuperf.targets.triton.ensemble import Ensemble
from pytest_gpuperf.targets.triton.resolved_model import ONNXRUNTIME, PYTHON_BACKEND, TENSORRT, ResolvedModel

_TEMPLATES = Path(__file__).with_name("python_backend")
#: Name of the model file, by backend.
_FILES = {TENSORRT: "model.plan", ONNXRUNTIME: "model.onnx"}
#: Module that the models of the Python backend import.
_SHARED = "gpuperf_requests.py"
#: Suffixes of files with the external weights of an ONNX model.
_EXTERNAL = (".data", "_data")


def write_repository(root: Path, models: Sequence[ResolvedModel], ensemble: Ensemble | None = None) -> None:
    """Write ``root/NAME/config.pbtxt`` and ``root/NAME/1/...`` of every model.

    Files that the Python backend runs stay where they are. Other backends read only the repository: their files are
    hard links, or copies if the file systems differ.
    """
    for model in models:
        folder = root / model.name
        version = folder / "1"
        version.mkdir(parents=True)
        (folder / "config.pbtxt").write_text(model_config(model))
        if model.backend == PYTHON_BACKEND:
            _write_python(version, model)
        else:
            name = _FILES[model.backend]
            _link_or_copy(model.source, version / name)
            for part in (model.source.with_name(model.source.name + suffix) for suffix in _EXTERNAL):
                if part.is_file():
                    _link_or_copy(part, version / part.name)
    if ensemble is not None:
        (root / ensemble.name / "1").mkdir(parents=True)  # Triton requires a version, which stays empty
        (root / ensemble.name / "config.pbtxt").write_text(ensemble_config(ensemble))


def _write_python(version: Path, model: ResolvedModel) -> None:
    if not model.function and not model.providers:
        shutil.copyfile(model.source, version / "model.py")
        return
    shutil.copyfile(_TEMPLATES / ("function_model.py" if model.function else "onnx_model.py"), version / "model.py")
    shutil.copyfile(_TEMPLATES / _SHARED, version / _SHARED)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
