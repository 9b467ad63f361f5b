"""Hooks that conftest files and other plugins can implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_gpuperf.model import PlainMapping


@pytest.hookspec
def pytest_gpuperf_environment(config: pytest.Config) -> PlainMapping | None:
    """Return facts to add to records (a node name, an image tag); reports show which of them changed.

    A conftest file adds them to the records of the tests in its directory and below; of equal names, the closest wins.
    """
