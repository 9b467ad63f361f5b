"""The environments of .ci/compat are those that pyproject.toml promises."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def compat() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / ".ci" / "compat"))


def test_every_python_that_is_promised_is_tried(compat: dict[str, Any]) -> None:
    promised = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT)
    assert promised
    assert set(promised) <= set(compat["PYTHONS"])


def test_every_extra_for_machines_without_a_gpu_is_tried(compat: dict[str, Any]) -> None:
    section = PROJECT.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = re.findall(r"^([\w-]+) = \[", section, re.MULTILINE)
    assert set(extras) - {"tensorrt", "tensorrt-rtx"} == set(compat["EXTRAS"])


def test_names_are_distinct_and_every_bound_has_a_row(compat: dict[str, Any]) -> None:
    names = [environment.name for environment in compat["environments"]("3.12")]
    assert len(names) == len(set(names))
    for wanted in ("lowest, Python 3.10", "newest, pytest 8", "extra grpc, lowest", "beside pytest-randomly, pytest 9"):
        assert wanted in names
    assert all((ROOT / path).exists() for path in compat["UNIT"])
