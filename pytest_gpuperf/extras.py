"""Imports of optional libraries."""

from __future__ import annotations

import importlib
from typing import Any

from pytest_gpuperf.errors import MissingExtra


def import_extra(module: str, library: str, extra: str, purpose: str) -> Any:
    """Import and return an optional module.

    Args:
        library, extra, purpose: See ``MissingExtra``.

    Raises:
        MissingExtra: The module, or a module that it needs, can't be imported.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # tritonclient raises RuntimeError where grpc is missing
        raise MissingExtra(library, extra, purpose) from error
