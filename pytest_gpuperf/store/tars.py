"""Tars of a store's files."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: A record of a hundred load points and eight runs is below 10 MB; what is far above is none.
_LARGEST_BYTES = 256 << 20
#: What reading a tar raises; a compressed one may also be damaged where its contents are.
DAMAGED = (OSError, EOFError, tarfile.TarError, zlib.error)


def is_tar(destination: str) -> bool:
    """Whether a name is one of a tar, by its ending."""
    return destination.endswith((".tar", ".tar.gz", ".tgz"))


class TarSink:
    """Files into a tar."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, compressed: bool) -> Iterator[TarSink]:
        """A new tar, whole when this ends."""
        with tarfile.open(path, "w:gz" if compressed else "w") as tar:
            yield cls(tar)

    def put(self, path: str, content: bytes) -> bool:
        """Add a file; always True."""
        info = tarfile.TarInfo(path)
        info.size = len(content)
        self._tar.addfile(info, io.BytesIO(content))
        return True


class TarSource:
    """The files of a tar.

    Raises:
        OSError, EOFError, tarfile.TarError, zlib.error: it is damaged (``DAMAGED``).
    """

    def __init__(self, source: str, tar: tarfile.TarFile) -> None:
        self._source, self._tar = source, tar
        self._members = {member.name.removeprefix("./"): member for member in tar.getmembers() if member.isfile()}
        # A member that is none ends the list as the archive's end does, which is nothing but zeros. What is compressed
        # has its checksum behind them.
        assert tar.fileobj is not None
        tar.fileobj.seek(tar.offset)
        while rest := tar.fileobj.read(1 << 20):
            if rest.strip(b"\0"):
                raise tarfile.ReadError(f"what is at byte {tar.offset} of its contents is no member")

    @classmethod
    @contextmanager
    def open(cls, source: str) -> Iterator[TarSource]:
        """A tar, compressed or not, open meanwhile."""
        with tarfile.open(Path(source).expanduser()) as tar:
            yield cls(source, tar)

    def paths(self) -> Iterable[str]:
        """Their names."""
        return self._members

    def read(self, path: str) -> bytes:
        """What is in one of them.

        Raises:
            ValueError: more than a record can have.
        """
        member = self._members[path]
        if member.size > _LARGEST_BYTES:
            raise ValueError(f"it has {member.size} bytes, which no record has")
        file = self._tar.extractfile(member)
        assert file is not None
        return file.read()

    def describe(self, path: str) -> str:
        """A name for messages."""
        return f"{self._source}: {path}"
