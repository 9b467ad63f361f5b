from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from pytest_gpuperf.errors import TargetDied, TargetError
from pytest_gpuperf.targets.kserve.memory import ALIGNMENT, SharedMemory, SystemRegion, aligned, create_region
from tests.unit.targets.kserve.recorder import Recorder


@pytest.fixture
def prefix() -> str:
    return f"gpuperf-test-{uuid.uuid4().hex[:8]}-"


def left(prefix: str) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{prefix}*"))


@pytest.mark.parametrize(("size", "whole"), [(0, 256), (1, 256), (256, 256), (257, 512)])
def test_sizes_are_rounded_up(size: int, whole: int) -> None:
    assert aligned(size) == whole
    assert whole % ALIGNMENT == 0


class TestSystemRegion:
    def test_is_seen_by_others_until_it_is_removed(self, prefix: str) -> None:
        region = SystemRegion(prefix, 1000)
        region.write(b"hello")
        code = f"from pathlib import Path; print(Path('/dev/shm/{prefix}').read_bytes()[:5])"
        seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert seen.stdout == "b'hello'\n"
        assert region.reader().read(1, 4) == b"ello"
        region.remove()
        region.remove()
        assert left(prefix) == []

    def test_only_its_owner_may_read_it(self, prefix: str) -> None:
        region = SystemRegion(prefix, 10)
        assert Path("/dev/shm", prefix).stat().st_mode & 0o777 == 0o600
        region.remove()

    def test_is_removed_when_the_process_ends_without_doing_so(self, prefix: str) -> None:
        code = (
            "from pytest_gpuperf.targets.kserve.memory import SystemRegion\n"
            f"region = SystemRegion({prefix!r}, 10)\nraise SystemExit(3)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3
        assert left(prefix) == []

    def test_more_than_there_is(self, prefix: str) -> None:
        with pytest.raises(
            TargetError, match=rf"{1 << 50} bytes of shared memory can't be allocated.*(?s:.*)df /dev/shm"
        ):
            SystemRegion(prefix, 1 << 50)
        assert left(prefix) == []

    def test_somebody_elses_is_left_alone(self, prefix: str) -> None:
        theirs = Path("/dev/shm", prefix)
        theirs.write_bytes(b"theirs")
        try:
            with pytest.raises(TargetError, match="File exists"):
                SystemRegion(prefix, 10)
            assert theirs.read_bytes() == b"theirs"
        finally:
            theirs.unlink()

    @pytest.mark.parametrize(("offset", "size"), [(0, 11), (10, 1), (-1, 2)])
    def test_beyond_its_end(self, prefix: str, offset: int, size: int) -> None:
        region = SystemRegion(prefix, 10)
        with pytest.raises(ValueError, match="beyond the shared memory"):
            region.reader().read(offset, size)
        region.remove()


class TestSharedMemory:
    def test_is_registered_with_every_server(self, prefix: str) -> None:
        servers = [Recorder(), Recorder()]
        memory = SharedMemory("system", prefix, servers)
        names = [memory.region(100).name, memory.region(200).name]
        assert len(left(prefix)) == 2
        memory.release()
        memory.release()
        assert left(prefix) == []
        for server in servers:
            assert server.calls == [
                ("register_system_shared_memory", names[0], f"/{names[0]}", 100),
                ("register_system_shared_memory", names[1], f"/{names[1]}", 200),
                ("unregister_system_shared_memory", names[0]),
                ("unregister_system_shared_memory", names[1]),
            ]

    def test_a_server_elsewhere_refuses_it(self, prefix: str) -> None:
        servers = [Recorder(), Recorder(refuses="register")]
        memory = SharedMemory("system", prefix, servers)
        with pytest.raises(TargetError, match=r"refused\nShared memory needs a server on this host"):
            memory.region(100)
        memory.release()
        assert left(prefix) == []
        assert [call[0] for call in servers[0].calls] == [
            "register_system_shared_memory",
            "unregister_system_shared_memory",
        ]

    def test_is_removed_whatever_a_server_says(self, prefix: str) -> None:
        forgetful, dead = Recorder(refuses="unregister"), Recorder(refuses="unregister", error=TargetDied)
        dead.address = "dead:8000"
        memory = SharedMemory("system", prefix, [forgetful, dead])
        memory.region(100)
        memory.region(100)
        memory.release()
        assert left(prefix) == []
        assert len(forgetful.calls) == 4
        assert len(dead.calls) == 3, "it isn't asked twice: each call may take long"


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="there is a GPU here")  # noqa: PTH110
def test_cuda_without_a_gpu_says_what_to_do(prefix: str) -> None:
    with pytest.raises(TargetError, match="use shared_memory='system' or 'none'"):
        create_region("cuda", prefix, 100)


class Clinging(Recorder):
    """Triton holds on to a region for a moment after the answer of the request that used it."""

    def _call(self, method: str, *arguments: object) -> None:
        super()._call(method, *arguments)
        if method.startswith("unregister") and len(self.calls) < 4:
            raise TargetError("Cannot unregister shared memory region 'x', it is currently in use.")


def test_a_region_in_use_is_released_a_moment_later(prefix: str) -> None:
    server = Clinging()
    memory = SharedMemory("system", prefix, [server])
    memory.region(100)
    memory.release()
    asked = [method for method, *_ in server.calls if str(method).startswith("unregister")]
    assert len(asked) == 3
    assert left(prefix) == []
