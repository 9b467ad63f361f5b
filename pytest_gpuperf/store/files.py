"""Small files under any fsspec URL: listed, read, put whole, deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from pytest_gpuperf.atomic_write import atomic_write
from pytest_gpuperf.errors import MissingExtra, OptionError, StoreError

_ELSEWHERE = "Choose another with --gpuperf-store (on the gpuperf command: --store)."
#: Protocols whose library is an extra of ours: the module, and the extra.
_EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gs"), "gcs": ("gcsfs", "gs")}
#: Errors of a bucket's library that are no OSError: no credentials, no connection, refused by the service.
_FOREIGN = {
    "s3": (("botocore.exceptions", "BotoCoreError"),),
    "s3a": (("botocore.exceptions", "BotoCoreError"),),
    "gs": (("google.auth.exceptions", "GoogleAuthError"), ("gcsfs.retry", "HttpError"), ("aiohttp", "ClientError")),
    "gcs": (("google.auth.exceptions", "GoogleAuthError"), ("gcsfs.retry", "HttpError"), ("aiohttp", "ClientError")),
}


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
            # Another runner's files have to be seen by a process that has listed the folder before.
            uncached = {"use_listings_cache": False} if protocol in _FOREIGN else {}
            fs, root = fsspec.core.url_to_fs(url, **uncached)
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
        # A bucket has no folders to make; s3fs would make the bucket instead, of a mistyped name, too.
        self._bucket = protocol in _FOREIGN
        self._foreign = tuple(getattr(import_module(module), name) for module, name in _FOREIGN.get(protocol, ()))

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
            with self._translated():
                found_paths = self._fs.ls(folder, detail=False)
            return [str(path).rstrip("/").rpartition("/")[2] for path in found_paths]
        except (FileNotFoundError, NotADirectoryError) as error:
            if _is_no_bucket(error):
                raise StoreError(f"The store {self.url} can't be listed: {error}\n{_ELSEWHERE}") from error
            return []
        except OSError as error:
            raise StoreError(f"The store {self.url} can't be listed: {error}\n{_ELSEWHERE}") from error

    def read(self, path: str) -> bytes:
        """A file's content.

        Raises:
            OSError: it can't be read.
        """
        with self._translated():
            return bytes(self._fs.cat_file(path))

    def put(self, path: str, content: bytes) -> None:
        """Write beside and rename, so that no reader ever sees half a file.

        Raises:
            StoreError: it can't be written.
        """
        parent = path.rpartition("/")[0]
        try:
            if not self._bucket:
                self._fs.makedirs(parent, exist_ok=True)
            if not self._local:  # object stores put whole objects
                with self._translated():
                    self._fs.pipe_file(path, content)
                return
            with atomic_write(Path(path)) as beside, beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"The store {self.url} can't be written: {error}\n{_ELSEWHERE}") from error

    def delete(self, path: str) -> None:
        """Delete a file; nothing happens where there is none.

        Raises:
            StoreError: it can't be deleted.
        """
        try:
            with self._translated():
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

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The errors of a bucket's library as OSError, as those of the others are.

        Raises:
            OSError: for such an error.
        """
        try:
            yield
        except self._foreign as error:
            raise OSError(str(error)) from error


def _is_no_bucket(error: OSError) -> bool:
    """Whether the bucket itself is missing, which is no empty folder."""
    response = getattr(error.__cause__, "response", None)
    return isinstance(response, dict) and response.get("Error", {}).get("Code") == "NoSuchBucket"
