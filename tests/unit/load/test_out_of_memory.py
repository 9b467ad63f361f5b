"""The kernel ends a load generator for lack of memory, in a control group of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.load.process import WorkerProcesses
from tests.unit.load.hostile import Server, answers, response
from tests.unit.load.wire import workload

#: Hierarchies of control groups, version 1 and 2, with the file of the limit.
HIERARCHIES = ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max"))
LIMIT_BYTES = 48 << 20


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group with little memory."""
    for top, limit in HIERARCHIES:
        group = top / f"gpuperf-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(LIMIT_BYTES))
        except OSError:
            group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("no control group of memory may be made here")


def test_a_worker_without_memory_is_named_with_the_cause(small_group: Path) -> None:
    with Server(answers(response())) as server, closing(WorkerProcesses()) as generator:
        load = workload(server)
        generator.window(load, WindowSpec(1, 0.05))
        (small_group / "cgroup.procs").write_text(str(generator._workers[0].process.pid))
        with pytest.raises(LoadError, match=r"SIGKILL.*lack of memory"):
            generator.window(workload(server, body=bytes(4 * LIMIT_BYTES)), WindowSpec(1, 0.05))
