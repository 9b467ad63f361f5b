from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.targets.triton import TritonEndpoint, bundle

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="the bundled Triton runs on Linux on x86_64 and aarch64",
)

STUB = f"python_backend_stubs/{sys.version_info.major}.{sys.version_info.minor}/triton_python_backend_stub"
FILES = {
    "pytriton/tritonserver/bin/tritonserver": b"#!/bin/sh\nexit 3\n",
    "pytriton/tritonserver/backends/python/libtriton_python.so": b"library",
    "pytriton/tritonserver/backends/python/triton_python_backend_utils.py": b"import json\n",
    f"pytriton/tritonserver/{STUB}": b"stub",
    "nvidia_pytriton.libs/libb64.so": b"b64",
    "nvidia_pytriton-0.7.0.dist-info/licenses/LICENSE": b"Apache",
    "nvidia_pytriton-0.7.0.dist-info/METADATA": b"Name: nvidia-pytriton",
    "pytriton/decorators.py": b"raise SystemExit",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's cache nor a package index is touched."""
    monkeypatch.delenv(bundle.WHEEL_VARIABLE, raising=False)
    monkeypatch.setenv(bundle.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def wheel_name() -> str:
    return f"nvidia_pytriton-0.7.0-py3-none-manylinux_2_35_{platform.machine()}.whl"


def make_wheel(path: Path, files: Mapping[str, bytes] = FILES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pytriton/tritonserver/backends/", b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small wheel of the same layout, which passes for the real one."""
    made = make_wheel(tmp_path / "wheels" / wheel_name())
    monkeypatch.setitem(bundle._DIGESTS, platform.machine(), hashlib.sha256(made.read_bytes()).hexdigest())
    return made


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


class TestInstall:
    def test_unpacks_the_server_and_nothing_else(self, wheel: Path, tmp_path: Path) -> None:
        server, fresh = bundle.install(wheel)
        assert fresh
        assert server.root.is_relative_to(tmp_path / "cache")
        assert server.binary.read_bytes() == b"#!/bin/sh\nexit 3\n"
        assert os.access(server.binary, os.X_OK)
        assert (server.libraries / "libb64.so").read_bytes() == b"b64"
        assert (server.root / "licenses" / "LICENSE").is_file()
        assert server.python_stub() == server.root / STUB
        assert os.access(server.python_stub(), os.X_OK)
        assert not list(server.root.rglob("decorators.py"))
        assert bundle.installed() == server == bundle.require()

    def test_twice_is_once(self, wheel: Path) -> None:
        first, _ = bundle.install(wheel)
        before = first.binary.stat()
        wheel.unlink()
        again, fresh = bundle.install(wheel)
        assert again == first
        assert not fresh
        assert first.binary.stat().st_mtime_ns == before.st_mtime_ns

    def test_takes_a_directory_that_has_the_wheel(self, wheel: Path) -> None:
        assert bundle.install(wheel.parent)[1]

    def test_leaves_nothing_beside_the_server(self, wheel: Path, tmp_path: Path) -> None:
        server, _ = bundle.install(wheel)
        assert leftovers(tmp_path / "cache") == [server.root.name]

    def test_a_half_finished_install_is_none(self, wheel: Path, tmp_path: Path) -> None:
        server, _ = bundle.install(wheel)
        (server.root / "installed-from.txt").unlink()
        assert bundle.installed() is None
        with pytest.raises(TargetError, match="gpuperf triton install"):
            bundle.require()
        (server.root / "stale").touch()
        repaired, fresh = bundle.install(wheel)
        assert fresh
        assert bundle.installed() == repaired
        assert not (server.root / "stale").exists()
        assert leftovers(tmp_path / "cache") == [server.root.name]

    def test_a_server_without_its_binary_is_none(self, wheel: Path) -> None:
        server, _ = bundle.install(wheel)
        server.binary.unlink()
        assert bundle.installed() is None
        assert bundle.install(wheel)[1]
        assert bundle.installed() is not None

    def test_an_unpacking_that_was_cut_short_leaves_none(self, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Path, "chmod", interrupted)
            with pytest.raises(KeyboardInterrupt):
                bundle.install(wheel)
        assert bundle.installed() is None
        assert not leftovers(bundle.cache_directory())
        assert bundle.install(wheel)[1]

    def test_the_given_cache_comes_before_the_variables(self, wheel: Path, tmp_path: Path) -> None:
        server, _ = bundle.install(wheel, tmp_path / "other")
        assert server.root.is_relative_to(tmp_path / "other")
        assert bundle.installed() is None
        assert bundle.installed(tmp_path / "other") == server


class TestRace:
    CODE = (
        "import pathlib, platform, sys\n"
        "from pytest_gpuperf.targets.triton import bundle\n"
        "bundle._DIGESTS[platform.machine()] = sys.argv[2]\n"
        "print(bundle.install(pathlib.Path(sys.argv[1]))[1])\n"
    )

    def start(self, wheel: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", self.CODE, str(wheel), bundle._digest()]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def test_installs_at_the_same_time_are_one_and_a_complete_server_stays(
        self, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        big = {**FILES, "pytriton/tritonserver/lib/big.so": os.urandom(30_000_000)}
        digest = hashlib.sha256(make_wheel(wheel, big).read_bytes()).hexdigest()
        monkeypatch.setitem(bundle._DIGESTS, platform.machine(), digest)
        processes = [self.start(wheel) for _ in range(4)]
        seen = lost = False
        while any(process.poll() is None for process in processes):
            here = bundle.installed() is not None
            lost = lost or (seen and not here)
            seen = seen or here
        fresh = [process.communicate()[0].strip() for process in processes]
        assert sorted(fresh) == ["False", "False", "False", "True"]
        assert not lost
        assert bundle.installed() is not None
        assert len(leftovers(tmp_path / "cache")) == 1

    def test_waits_for_another_and_says_for_whom(
        self, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bundle, "_WAIT_S", 0.3)
        (tmp_path / "cache").mkdir()
        holder = os.open(tmp_path / "cache", os.O_RDONLY)
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(TargetError, match=r"Another process has been installing into .*cache for(?s:.*)fuser"):
            bundle.install(wheel)
        os.close(holder)
        assert bundle.install(wheel)[1]

    def test_a_killed_install_leaves_nothing_after_the_next(self, wheel: Path, tmp_path: Path) -> None:
        (tmp_path / "cache" / ".installing-killed" / "server").mkdir(parents=True)
        bundle.install(wheel)
        assert len(leftovers(tmp_path / "cache")) == 1

    def test_a_cache_with_a_colon_is_refused(self, wheel: Path, tmp_path: Path) -> None:
        with pytest.raises(TargetError, match="has a colon"):
            bundle.install(wheel, tmp_path / "a:b")


class TestRefused:
    def test_a_wheel_with_another_digest(self, tmp_path: Path) -> None:
        other = make_wheel(tmp_path / wheel_name())
        digest = hashlib.sha256(other.read_bytes()).hexdigest()
        with pytest.raises(
            TargetError, match=rf"its SHA-256 is {digest}, not [0-9a-f]{{64}}(.|\n)*pip download"
        ) as caught:
            bundle.install(other)
        assert str(other) in str(caught.value)
        assert bundle.installed() is None
        assert not leftovers(tmp_path / "cache")

    def test_a_wheel_that_lost_its_end(self, wheel: Path) -> None:
        wheel.write_bytes(wheel.read_bytes()[:-1])
        with pytest.raises(TargetError, match="is not the tested wheel"):
            bundle.install(wheel)
        assert bundle.installed() is None

    @pytest.mark.parametrize("directory", [True, False])
    def test_a_missing_wheel_says_how_to_get_it(self, tmp_path: Path, directory: bool) -> None:
        source = tmp_path if directory else tmp_path / "absent.whl"
        with pytest.raises(
            TargetError, match=r"(?s)There is no .*pip download --no-deps nvidia-pytriton==0\.7\.0"
        ) as caught:
            bundle.install(source)
        assert str(source) in str(caught.value)
        assert wheel_name() in str(caught.value)

    def test_no_package_index_says_how_to_do_without(self, tmp_path: Path) -> None:
        with pytest.raises(TargetError, match=r"(?s)pip could not download nvidia-pytriton==0\.7\.0.*--path WHEEL"):
            bundle.install()
        assert bundle.installed() is None
        assert not leftovers(tmp_path / "cache")

    def test_a_cache_that_can_not_be_written_names_the_variable(self, wheel: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(TargetError, match=r"(?s)can't be unpacked into .*Set GPUPERF_CACHE"):
            bundle.install(wheel, tmp_path / "file")

    def test_an_interpreter_without_a_stub(self, wheel: Path) -> None:
        server, _ = bundle.install(wheel)
        server.python_stub().unlink()
        (server.root / "python_backend_stubs" / "3.8").mkdir()
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        with pytest.raises(TargetError, match=f"no Python backend for Python {version}, only for .*3.8"):
            server.python_stub()

    def test_another_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "machine", lambda: "riscv64")
        with pytest.raises(TargetError, match=r"not on linux riscv64(.|\n)*kserve_endpoint"):
            bundle.install()

    def test_an_old_c_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31"))
        with pytest.raises(TargetError, match=r"needs glibc 2\.35 or newer; this machine has 2\.31"):
            bundle.install()


class TestEnvironment:
    def test_the_wheel_variable(self, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(bundle.WHEEL_VARIABLE, str(wheel.parent))
        assert bundle.install()[1]

    def test_a_source_comes_before_the_wheel_variable(
        self, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(bundle.WHEEL_VARIABLE, str(tmp_path / "absent.whl"))
        assert bundle.install(wheel)[1]

    def test_the_cache_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(bundle.CACHE_VARIABLE, "~/models")
        assert bundle.cache_directory() == Path.home() / "models"

    def test_the_users_cache_directory_without_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(bundle.CACHE_VARIABLE)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert bundle.cache_directory() == tmp_path / "gpuperf"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert bundle.cache_directory() == Path.home() / ".cache" / "gpuperf"

    def test_both_may_begin_with_a_tilde(self, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(wheel.parent))
        monkeypatch.setenv(bundle.WHEEL_VARIABLE, f"~/{wheel.name}")
        assert bundle.install()[1]


def test_an_endpoint_without_a_server_names_the_command_that_installs_it(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"No tritonserver in (.|\n)*gpuperf triton install"):
        TritonEndpoint(tmp_path / "model.onnx").start()


def test_the_shared_library_of_this_interpreter_is_found_or_missed_by_name() -> None:
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    try:
        found: Path | str = bundle.python_library_directory()
    except TargetError as error:
        found = str(error)
    if isinstance(found, Path):
        assert (found / name).exists()
    else:
        assert name in found
        assert "apt-get install" in found
