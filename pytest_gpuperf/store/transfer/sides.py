"""The two sides of a transfer: where files are read, and where they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from posixpath import basename, dirname
from typing import Protocol

from pytest_gpuperf.errors import OptionError, StoreError, UnreadableRecord
from pytest_gpuperf.store.layout import may_differ
from pytest_gpuperf.store.store import Store
from pytest_gpuperf.store.transfer.tars import TarSource, is_tar


class Source(Protocol):
    """A store, or a tar of one."""

    def paths(self) -> Iterable[str]:
        """Return the names of the files."""
        ...

    def content(self, path: str, remedy: str) -> bytes:
        """Return the content of a file.

        Raises:
            UnreadableRecord: The file can't be read.
        """
        ...

    def describe(self, path: str) -> str:
        """Return the name of a file for messages."""
        ...


class StoreSource:
    """The files of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def paths(self) -> Iterable[str]:
        return self._store.paths()

    def content(self, path: str, remedy: str) -> bytes:
        try:
            return self._store.files.read(f"{self._store.files.root}/{path}")
        except OSError as error:
            raise UnreadableRecord(self.describe(path), f"can't be read: {error}", remedy) from error

    def describe(self, path: str) -> str:
        return self._store.describe(f"{self._store.files.root}/{path}")


@contextmanager
def open_source(source: str) -> Iterator[Source]:
    """Open a tar or a store.

    Raises:
        StoreError: The tar can't be read.
        OptionError, MissingExtra: The URL can't be used.
    """
    if not is_tar(source):
        yield StoreSource(Store(source))
        return
    if "://" in source:
        raise OptionError(f"A tar is read from this machine, not from {source}. Download it, and name the file.")
    with TarSource.open(source) as files:
        yield files


class StoreSink:
    """Writes files into a store, and never over others."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._names: dict[str, set[str]] = {}

    def put(self, path: str, content: bytes) -> bool:
        """Write a file unless it exists; return whether it was written.

        Raises:
            StoreError: The file can't be written, or exists with another content.
        """
        if problem := self.conflict(path, content):
            raise StoreError(f"{path}\n  {problem}")
        if self.has(path):
            return False
        self._store.files.put(f"{self._store.files.root}/{path}", content)
        self._names[dirname(path)].add(basename(path))
        return True

    def has(self, path: str) -> bool:
        """Return whether a file exists. Each folder is listed once."""
        parent = dirname(path)
        if parent not in self._names:
            self._names[parent] = set(self._store.files.names(f"{self._store.files.root}/{parent}"))
        return basename(path) in self._names[parent]

    def conflict(self, path: str, content: bytes) -> str:
        """Return why a file can't be written: one with the same name and another content exists; empty if it can.

        An existing acceptance or unpin is no conflict and stays: two people may have decided the same.
        """
        stored = f"{self._store.files.root}/{path}"
        if not self.has(path) or may_differ(path):
            return ""
        where = self._store.describe(stored)
        try:
            if self._store.files.read(stored) == content:
                return ""
        except OSError as error:
            return f"can't be compared with {where}: {error}"
        return f"differs from {where}; records never change, so one of the two was edited. Delete the wrong one."
