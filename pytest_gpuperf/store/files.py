"""Small files under any fsspec URL: list, read, write atomically, delete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from posixpath import basename, dirname
from typing import Any

from pytest_gpuperf.atomic_write import atomic_write
from pytest_gpuperf.errors import MissingExtra, OptionError, StoreError
from pytest_gpuperf.safe_text import redacted

_ELSEWHERE = "Choose another with --gpuperf-store (on the gpuperf command: --store)."
#: Protocols whose library is an extra of this package: the module, and the extra.
_EXTRAS = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gs")}
_ALIASES = {"s3a": "s3", "gcs": "gs"}
#: Errors of a bucket's library that are not OSErrors: no credentials, no connection, refused by the service.
_FOREIGN = {
    "s3": (("botocore.exceptions", "BotoCoreError"),),
    "gs": (("google.auth.exceptions", "GoogleAuthError"), ("gcsfs.retry", "HttpError"), ("aiohttp", "ClientError")),
}


class Files:
    """The files under one URL.

    Args:
        url: A directory, or any URL that fsspec knows (``s3://bucket/path``, ``memory://name``).

    Raises:
        OptionError: fsspec knows no such URL.
        MissingExtra: The library for the protocol is not installed.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url
        protocol = url.partition("://")[0] if "://" in url else "file"
        protocol = _ALIASES.get(protocol, protocol)
        try:
            # A process that has listed a folder before must see the files that another runner adds.
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
        # A bucket has no folders to create; s3fs would create the bucket instead, also for a mistyped name.
        self._bucket = protocol in _FOREIGN
        self._foreign = tuple(getattr(import_module(module), name) for module, name in _FOREIGN.get(protocol, ()))

    def describe(self, path: str) -> str:
        """Return a path as people type it: without secrets, and relative to the working directory if it is below it."""
        if not self._local:
            return redacted(str(self._fs.unstrip_protocol(path)))
        relative = os.path.relpath(path)
        return path if relative.startswith("..") else relative

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, in any order; none if the folder does not exist.

        Raises:
            StoreError: The folder can't be listed.
        """
        try:
            if self._local:  # fsspec makes a path of every name, which takes longer than the listing
                with os.scandir(folder) as listed:
                    return [item.name for item in listed]
            with self._translated():
                paths = self._fs.ls(folder, detail=False)
            return [basename(str(path).rstrip("/")) for path in paths]
        except (FileNotFoundError, NotADirectoryError) as error:
            if _bucket_is_missing(error):
                raise StoreError(f"The store {self.url} can't be listed: {error}\n{_ELSEWHERE}") from error
            return []
        except OSError as error:
            raise StoreError(f"The store {self.url} can't be listed: {error}\n{_ELSEWHERE}") from error

    def read(self, path: str) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: The file can't be read.
        """
        with self._translated():
            return bytes(self._fs.cat_file(path))

    def put(self, path: str, content: bytes) -> None:
        """Write a file atomically, so that no reader sees half of it.

        Raises:
            StoreError: The file can't be written.
        """
        parent = dirname(path)
        try:
            if not self._bucket:
                self._fs.makedirs(parent, exist_ok=True)
            if not self._local:  # object stores put whole objects
                with self._translated():
                    self._fs.pipe_file(path, content)
                return
            with atomic_write(Path(path)) as temporary, temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"The store {self.url} can't be written: {error}\n{_ELSEWHERE}") from error

    def delete(self, path: str) -> None:
        """Delete a file, if it exists.

        Raises:
            StoreError: The file can't be deleted.
        """
        try:
            with self._translated():
                self._fs.rm_file(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{self.describe(path)} can't be deleted: {error}") from error

    def remove_if_empty(self, folder: str) -> None:
        """Delete an empty folder. Buckets have no folders."""
        if self._local:
            try:
                Path(folder).rmdir()
            except OSError:
                return

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate the errors of a bucket's library.

        Raises:
            OSError: The library raised one of its errors.
        """
        try:
            yield
        except self._foreign as error:
            raise OSError(str(error)) from error


def _bucket_is_missing(error: OSError) -> bool:
    """Return whether the bucket itself is missing, not just a folder in it."""
    response = getattr(error.__cause__, "response", None)
    return isinstance(response, dict) and response.get("Error", {}).get("Code") == "NoSuchBucket"
