"""Writer of model repositories."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.targets.onnxruntime import external_files
from pytest_gpuperf.targets.triton.config import ensemble_config, model_config
from pytest_gpuperf.targets.triton.ensemble import Ensemble
from pytest_gpuperf.targets.triton.resolved_model import ONNXRUNTIME, PYTHON_BACKEND, TENSORRT, ResolvedModel

_TEMPLATES = Path(__file__).with_name("python_backend")
#: Name of the model file, by backend.
_FILES = {TENSORRT: "model.plan", ONNXRUNTIME: "model.onnx"}
#: Module that the models of the Python backend import.
_SHARED = "gpuperf_requests.py"


def write_repository(root: Path, models: Sequence[ResolvedModel], ensemble: Ensemble | None = None) -> None:
    """Write ``root/NAME/config.pbtxt`` and ``root/NAME/1/...`` of every model.

    Files that the Python backend runs stay where they are. Other backends read only the repository: their files are
    hard links, or copies if the file systems differ.

    Raises:
        TargetError: The files can't be written; the message names the reason and the free space.
    """
    try:
        _write_models(root, models, ensemble)
    except OSError as error:
        free_mib = shutil.disk_usage(root.parent).free >> 20
        raise TargetError(
            f"The model repository {root} can't be written: {error} ({free_mib} MiB are free there).\n"
            "Free space, or set TMPDIR to another directory."
        ) from error
    except UnicodeEncodeError as error:
        raise TargetError(f"Triton can't read the path {error.object!r}, which is not UTF-8: rename it.") from error


def _write_models(root: Path, models: Sequence[ResolvedModel], ensemble: Ensemble | None) -> None:
    for model in models:
        folder = root / model.name
        version = folder / "1"
        version.mkdir(parents=True)
        (folder / "config.pbtxt").write_text(model_config(model), encoding="utf-8")
        if model.backend == PYTHON_BACKEND:
            _write_python(version, model)
        else:
            name = _FILES[model.backend]
            _link_or_copy(model.source, version / name)
            for part in external_files(model.source):
                _link_or_copy(part, version / part.name)
    if ensemble is not None:
        (root / ensemble.name / "1").mkdir(parents=True)  # Triton requires a version, which stays empty
        (root / ensemble.name / "config.pbtxt").write_text(ensemble_config(ensemble), encoding="utf-8")


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
