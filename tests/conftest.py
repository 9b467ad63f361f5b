"""For all tests of the project."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Here and not in the ini file, which the example suite shares: it runs without pytest-timeout."""
    for item in items:
        item.add_marker(pytest.mark.timeout(300))
