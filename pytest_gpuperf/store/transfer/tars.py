"""Tars of a store's files."""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.safe_text import printable
from pytest_gpuperf.store.layout import LARGEST_BYTES
from pytest_gpuperf.user_path import user_path

#: Errors of reading a damaged tar; of a compressed one also while its contents are read. tarfile raises ValueErrors and
#: others for some headers.
DAMAGED = (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, ArithmeticError, LookupError, struct.error)
#: Members of a tar: the records of a hundred tests that run three times a day for nearly two years.
_MOST_MEMBERS = 200_000
#: gzip makes records ten times smaller; a compression bomb is a thousand times smaller than its contents.
_MOST_EXPANSION = 200
#: A small archive may have a large share of zeros.
_SMALL_BYTES = 1 << 20


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
    """Reads the files of a tar, and refuses links, absurd sizes and compression bombs."""

    def __init__(self, source: str, tar: tarfile.TarFile) -> None:
        self._source, self._tar = source, tar
        self._members: dict[str, tarfile.TarInfo] = {}
        self._twice: set[str] = set()
        for number, member in enumerate(tar):
            if number >= _MOST_MEMBERS:
                raise tarfile.ReadError(f"it has more than {_MOST_MEMBERS} members")
            name = member.name.removeprefix("./")
            if not member.isdir():
                self._twice |= {name} & self._members.keys()
                self._members[name] = member
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
        """Open a tar, compressed with gzip or not.

        Raises:
            StoreError: The tar is damaged.
        """
        with ExitStack() as stack:
            try:
                contents = stack.enter_context(_BoundedFile.open(user_path(source)))
                files = cls(source, stack.enter_context(tarfile.open(fileobj=contents, mode="r:")))
            except DAMAGED as error:
                raise StoreError(f"{printable(source)} can't be read as a tar: {error}") from error
            yield files

    def paths(self) -> Iterable[str]:
        """Return the names of the files."""
        return self._members

    def content(self, path: str, remedy: str) -> bytes:
        """Return the content of a file.

        Raises:
            UnreadableRecord: The file is damaged or too large, is a link, or has the same name as another.
        """
        member, why = self._members[path], ""
        if not member.isreg() or member.issparse():
            why = "is a link or another special file"
        elif path in self._twice:
            why = "is in the tar twice"
        elif member.size > LARGEST_BYTES:
            why = f"has {member.size} bytes, more than any record"
        try:
            if not why and (file := self._tar.extractfile(member)):
                return file.read()
        except DAMAGED as error:
            why = f"can't be read: {error}"
        raise UnreadableRecord(self.describe(path), why, remedy)

    def describe(self, path: str) -> str:
        """Return the name of a file for messages."""
        return f"{printable(self._source)}: {printable(path)}"


class _BoundedFile(io.RawIOBase):
    """The contents of a tar. A header can't make tarfile read more at once, nor unpack more, than a store can have."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, most_bytes: float) -> None:
        self._file, self._most_bytes = file, most_bytes

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[_BoundedFile]:
        with path.open("rb") as packed:
            if packed.read(2) != b"\x1f\x8b":
                packed.seek(0)
                yield cls(packed, math.inf)
                return
            packed.seek(0)
            with gzip.GzipFile(fileobj=packed) as unpacked:
                yield cls(unpacked, _SMALL_BYTES + _MOST_EXPANSION * path.stat().st_size)

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= LARGEST_BYTES:
            raise tarfile.ReadError("a member is larger than any record")
        self._check(self._file.tell() + size)
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check(offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def _check(self, end: int) -> None:
        if end > self._most_bytes:
            raise tarfile.ReadError(f"it unpacks to more than {_MOST_EXPANSION} times its size, as no store does")
