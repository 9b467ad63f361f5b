"""The model under test. GPUPERF_EXAMPLE_SLOWDOWN=0.5 makes it 50% slower, 2 three times as slow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def resnet50_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet-50 with random weights, the same bytes every time."""
    try:
        from example_suite import resnet50
    except ImportError as error:  # a suite that skips itself measures nothing and stays green
        pytest.fail(
            f"{error}: the example builds its model with onnx. Install it: pip install -e '.[examples]'", pytrace=False
        )
    text = os.environ.get("GPUPERF_EXAMPLE_SLOWDOWN", "0")
    try:
        extra = float(text)
    except ValueError:
        extra = -1.0
    if not 0 <= extra <= 10:
        pytest.exit(
            f"GPUPERF_EXAMPLE_SLOWDOWN={text}: write a share from 0 to 10, for example 0.5 for 50%", returncode=4
        )
    return resnet50.build(tmp_path_factory.mktemp("model") / "resnet50.onnx", extra=extra)
