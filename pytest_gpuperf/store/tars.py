"""Tars of a store's files."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_gpuperf.store.layout import LARGEST_BYTES

#: Errors of reading a damaged tar; of a compressed one also while its contents are read.
DAMAGED = (OSError, EOFError, tarfile.TarError, zlib.error)


def is_tar(destination: str) -> bool:
    """Return whether a path is one of a tar, by its ending."""
    return destination.endswith((".tar", ".tar.gz", ".tgz"))


class TarSink:
    """Writes files into a tar."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, compressed: bool) -> Iterator[TarSink]:
        """Create a tar; it is complete when the context ends."""
        with tarfile.open(path, "w:gz" if compressed else "w") as tar:
            yield cls(tar)

    def put(self, path: str, content: bytes) -> bool:
        """Add a file. Always True: a new tar has no other file of this name."""
        info = tarfile.TarInfo(path)
        info.size = len(content)
        self._tar.addfile(info, io.BytesIO(content))
        return True


class TarSource:
    """Reads the files of a tar.

    Raises:
        OSError, EOFError, tarfile.TarError, zlib.error: The tar is damaged (``DAMAGED``).
    """

    def __init__(self, source: str, tar: tarfile.TarFile) -> None:
        self._source, self._tar = source, tar
        self._members = {member.name.removeprefix("./"): member for member in tar.getmembers() if member.isfile()}
        # A damaged member ends the list of members as the end of the archive does, but only zeros follow the end.
        # Reading them also verifies the checksum of a compressed tar.
        assert tar.fileobj is not None
        tar.fileobj.seek(tar.offset)
        while rest := tar.fileobj.read(1 << 20):
            if rest.strip(b"\0"):
                raise tarfile.ReadError(f"there is no member at byte {tar.offset} of its contents")

    @classmethod
    @contextmanager
    def open(cls, source: str) -> Iterator[TarSource]:
        """Open a tar, compressed or not."""
        with tarfile.open(Path(source).expanduser()) as tar:
            yield cls(source, tar)

    def paths(self) -> Iterable[str]:
        """Return the names of the files."""
        return self._members

    def read(self, path: str) -> bytes:
        """Return the content of a file.

        Raises:
            ValueError: The file is larger than any record.
        """
        member = self._members[path]
        if member.size > LARGEST_BYTES:
            raise ValueError(f"it has {member.size} bytes, more than any record")
        file = self._tar.extractfile(member)
        assert file is not None
        return file.read()

    def describe(self, path: str) -> str:
        """Return the name of a file for messages."""
        return f"{self._source}: {path}"
