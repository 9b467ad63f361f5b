"""Fixtures and settings of all tests."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from tests.nvml import MockNvml, build

# A shell that starts pytest in the background makes it ignore Ctrl-C, and all its children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# pytest-xdist's workers have a width, which commands would take for that of a terminal.
os.environ.pop("COLUMNS", None)

# How long an example takes says more about what else the machine does.
hypothesis.settings.register_profile("any speed", deadline=None)
hypothesis.settings.load_profile("any speed")


@pytest.fixture(scope="session")
def mock_nvml(tmp_path_factory: pytest.TempPathFactory) -> MockNvml:
    """The mock of libnvidia-ml.so.1."""
    return build(tmp_path_factory.mktemp("nvml"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the timeout here, not in the ini file: the example suite shares that, and runs without pytest-timeout."""
    for item in items:
        item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(autouse=True, scope="session")
def private_device_lock() -> Iterator[None]:
    """Give each xdist worker a device lock: these tests check behaviour, not times, and may measure in parallel.

    The lock lies in the temporary directory.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="gpuperf-tests-") as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", directory)
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """Sets the largest size of the files that this process writes: as a full disk does, a write then fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
