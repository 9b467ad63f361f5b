"""Small files under any fsspec URL: listed, read, put whole, deleted."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import MissingExtra, OptionError, StoreError

_ELSEWHERE = "Choose another with --gpuperf-store (on the gpuperf command: --store)."
#: Protocols whose library is an extra of ours: the module, and the extra.
_EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gs"), "gcs": ("gcsfs", "gs")}


class Files:
    """The files under one URL.

    Args:
        url: a directory, or any URL that fsspec knows (``s3://bucket/path``, ``memory://name``).

    Raises:
        OptionError: fsspec knows no such URL.
        MissingExtra: the protocol's library isn't installed.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url
        protocol = url.partition("://")[0] if "://" in url else "file"
        try:
            fs, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            if protocol in _EXTRAS:
                raise MissingExtra(*_EXTRAS[protocol], f"use the store {url}") from error
            raise OptionError(f"The store {url!r} can't be used: {error}") from error
        except ValueError as error:
            raise OptionError(
                f"The store {url!r} can't be used: {error}. Write a directory or an fsspec URL."
            ) from error
        self._fs: Any = fs
        self.root = str(root).rstrip("/")
        self._local = protocol in ("file", "local")

    def describe(self, path: str) -> str:
        """The path as people type it: relative to the working directory where it lies below it."""
        if not self._local:
            return str(self._fs.unstrip_protocol(path))
        relative = os.path.relpath(path)
        return path if relative.startswith("..") else relative

    def names(self, folder: str) -> list[str]:
        """The names in a folder, in no order; none where there is no such folder.

        Raises:
            StoreError: it can't be listed.
        """
        try:
            if self._local:  # fsspec makes a path of every name, which takes longer than the listing
                with os.scandir(folder) as found:
                    return [one.name for one in found]
            return [str(path).rstrip("/").rpartition("/")[2] for path in self._fs.ls(folder, detail=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreError(f"The store {self.url} can't be listed: {error}\n{_ELSEWHERE}") from error

    def read(self, path: str) -> bytes:
        """A file's content.

        Raises:
            OSError: it can't be read.
        """
        return bytes(self._fs.cat_file(path))

    def put(self, path: str, content: bytes) -> None:
        """Write beside and rename, so that no reader ever sees half a file.

        Raises:
            StoreError: it can't be written.
        """
        parent, _, name = path.rpartition("/")
        try:
            self._fs.makedirs(parent, exist_ok=True)
            if not self._local:  # object stores put whole objects
                self._fs.pipe_file(path, content)
                return
            beside = Path(parent) / f".{name}.{uuid.uuid4().hex[:8]}"
            try:
                with beside.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                beside.rename(path)
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"The store {self.url} can't be written: {error}\nChoose another with --gpuperf-store."
            ) from error

    def delete(self, path: str) -> None:
        """Delete a file; nothing happens where there is none.

        Raises:
            StoreError: it can't be deleted.
        """
        try:
            self._fs.rm_file(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{self.describe(path)} can't be deleted: {error}") from error

    def remove_if_empty(self, folder: str) -> None:
        """Delete a folder that has nothing in it. Buckets have no folders to delete."""
        if self._local:
            try:
                Path(folder).rmdir()
            except OSError:
                return
