"""For all tests of the project."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator

import pytest

from tests.nvml import MockNvml, build

# A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mock_nvml(tmp_path_factory: pytest.TempPathFactory) -> MockNvml:
    """A libnvidia-ml.so.1 without a GPU."""
    return build(tmp_path_factory.mktemp("nvml"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Here and not in the ini file, which the example suite shares: it runs without pytest-timeout."""
    for item in items:
        item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(autouse=True, scope="session")
def own_device() -> Iterator[None]:
    """Under xdist the device's lock, which lies in the temporary directory, would have all workers take turns.

    Users' tests must; ours look at behaviour, not at times, and can measure side by side.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="gpuperf-tests-") as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", directory)
        patch.setattr(tempfile, "tempdir", None)
        yield
