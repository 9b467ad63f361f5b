"""Small files under any fsspec URL: list, read, write atomically, delete."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from posixpath import basename, dirname
from typing import Any
from urllib.parse import unquote

from pytest_gpuperf.atomic_write import atomic_write
from pytest_gpuperf.errors import MissingExtra, OptionError, StoreError
from pytest_gpuperf.safe_text import MASK, printable, redacted
from pytest_gpuperf.store.layout import LARGEST_BYTES

#: Name of the default store, which is no part of the repository that it lies in.
IGNORED = ".gpuperf"
_ELSEWHERE = "Choose another with --gpuperf-store (on the gpuperf command: --store)."
#: Protocols whose library is an extra of this package: the module, and the extra.
_EXTRAS = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gs")}
_ALIASES = {"s3a": "s3", "gcs": "gs"}
_BUCKETS = ("s3", "gs")
_CREDENTIALS = {"s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "gs": "GOOGLE_APPLICATION_CREDENTIALS"}
_ADVICE = "Write a directory, s3://BUCKET/PATH, gs://BUCKET/PATH, or another fsspec URL whose files can be written."
#: Protocols of fsspec that are no stores, and why.
_READ_ONLY = dict.fromkeys(("http", "https", "data", "git", "github", "gist", "reference"), "can't be written")
_ARCHIVES = dict.fromkeys(
    ("zip", "tar", "libarchive"),
    "is an archive; `gpuperf baseline export` and `import` take the path of a .tar file",
)
_NOT_ATOMIC = {"ftp": "doesn't write files atomically, so that readers would see half of one"}
_WRAPPERS = dict.fromkeys(
    ("blockcache", "cached", "filecache", "simplecache", "dir", "generic", "asyncwrapper", "async_wrapper"),
    "wraps another file system; write the URL of that one",
)
_UNUSABLE = {**_READ_ONLY, **_ARCHIVES, **_NOT_ATOMIC, **_WRAPPERS}
#: A URL whose second slash is missing would be a directory.
_MISSING_SLASH = re.compile(r"(s3a?|gc?s|abfs|az|sftp|memory|file):(?!//)")
#: Longest time of an operation in a bucket, with all retries of its library.
_TIMEOUT_S = 120.0
#: Folder of the files that are being written, in the root of a store.
_TEMPORARY = ".tmp"


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
        import fsspec.asyn

        for library in ("fsspec", "s3fs", "gcsfs"):  # what they log is in the error; unasked, Python would print it
            logging.getLogger(library).addHandler(logging.NullHandler())
        self._start: Path | None = None
        with suppress(OSError):  # the working directory was deleted
            self._start = Path.cwd()
        self.url = url
        protocol = url.partition("://")[0].lower() if "://" in url else "file"
        protocol = _ALIASES.get(protocol, protocol)
        _check_url(url, protocol)
        try:
            # A process that has listed a folder before must see the files that another runner adds.
            uncached = {"use_listings_cache": False} if protocol in _BUCKETS else {}
            fs, root = fsspec.core.url_to_fs(url, **uncached)
        except ImportError as error:
            if protocol in _EXTRAS:
                raise MissingExtra(*_EXTRAS[protocol], f"use the store {url}") from error
            raise OptionError(f"The store {url!r} can't be used: {error}") from error
        except ValueError as error:
            raise OptionError(f"The store {url!r} can't be used: {error}. {_ADVICE}") from error
        except Exception as error:  # some libraries connect here, and have errors of their own
            raise StoreError(f"The store {url} can't be reached: {_reason(error, url)}\n{_ELSEWHERE}") from error
        self._fs: Any = fs
        self._local = protocol in ("file", "local")
        self.root = str(root).rstrip("/") or ("/" if self._local else "")
        # A bucket has no folders to create; s3fs would create the bucket instead, also for a mistyped name.
        self._bucket = protocol in _BUCKETS
        if not self.root and not self._local and protocol != "memory":
            raise OptionError(f"The store {url!r} can't be used: it names no bucket. {_ADVICE}")
        #: Only the methods of asynchronous file systems take a time limit.
        self._limit = {"timeout": _TIMEOUT_S} if isinstance(fs, fsspec.asyn.AsyncFileSystem) else {}

    def describe(self, path: str) -> str:
        """Return a path as people type it: without secrets, and relative to where they started if it is below it."""
        if not self._local:
            return printable(redacted(str(self._fs.unstrip_protocol(path))))
        is_below = self._start is not None and Path(path).is_relative_to(self._start)
        return printable(str(Path(path).relative_to(str(self._start))) if is_below else path)

    def exists(self) -> bool:
        """Return whether the URL's directory exists; of a bucket, whether there is anything under the URL.

        Raises:
            StoreError: The URL can't be asked.
        """
        try:
            if self._local:
                return stat.S_ISDIR(Path(self.root).stat().st_mode)
            with self._translated():
                if self._bucket:
                    return bool(self._fs.exists(self.root))
                self._fs.info(self.root)  # exists() takes every error for "no"
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StoreError(
                f"The store {self.url} can't be listed: {_reason(error, self.url)}\n{_ELSEWHERE}"
            ) from error

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
                paths = self._fs.ls(folder, detail=False, **self._limit)
            return [basename(str(path).rstrip("/")) for path in paths]
        except (FileNotFoundError, NotADirectoryError) as error:
            if _bucket_is_missing(error):
                raise StoreError(f"The store {self.url} can't be listed: {error}\n{_ELSEWHERE}") from error
            return []
        except OSError as error:
            raise StoreError(
                f"The store {self.url} can't be listed: {_reason(error, self.url)}\n{_ELSEWHERE}"
            ) from error

    def read(self, path: str) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: The file can't be read, or is larger than any file of a store.
        """
        with self._translated():
            if self._local:
                content = _read_regular(path)
            else:
                content = bytes(self._fs.cat_file(path, start=0, end=LARGEST_BYTES + 1, **self._limit))
        if len(content) > LARGEST_BYTES:
            raise OSError(f"it has more than {LARGEST_BYTES} bytes, more than any record")
        return content

    def put(self, path: str, content: bytes) -> None:
        """Write a file atomically, so that no reader sees half of it.

        Raises:
            StoreError: The file can't be written.
        """
        parent = dirname(path)
        try:
            if self._local:
                self._begin()
            if not self._bucket:
                with self._translated():
                    self._fs.makedirs(parent, exist_ok=True)
            if not self._local:  # object stores put whole objects
                with self._translated():
                    self._fs.pipe_file(path, content, **self._limit)
                return
            temporaries = Path(self.root, _TEMPORARY)
            temporaries.mkdir(exist_ok=True)
            with atomic_write(Path(path), temporaries) as temporary, temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                f"The store {self.url} can't be written: {_reason(error, self.url)}\n{_ELSEWHERE}"
            ) from error

    def _begin(self) -> None:
        """Keep a new store of the default name out of git, which would offer its files for every commit."""
        root = Path(self.root)
        root.mkdir(parents=True, exist_ok=True)
        if root.name == IGNORED and not any(root.iterdir()):
            with atomic_write(root / ".gitignore") as temporary:
                temporary.write_text("# Created by pytest-gpuperf; `gpuperf baseline push` copies records.\n*\n")

    def delete(self, path: str) -> None:
        """Delete a file, if it exists.

        Raises:
            StoreError: The file can't be deleted.
        """
        try:
            with self._translated():
                self._fs.rm_file(path, **({} if self._local else self._limit))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{self.describe(path)} can't be deleted: {_reason(error, self.url)}") from error

    def remove_if_empty(self, folder: str) -> None:
        """Delete an empty folder. Buckets have no folders."""
        if self._local:
            try:
                Path(folder).rmdir()
            except OSError:
                return

    def _unusable(self, verb: str, error: BaseException) -> StoreError:
        return StoreError(f"The store {self.url} can't be {verb}: {_reason(error, self.url)}\n{_ELSEWHERE}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate the errors of a file system's library: no credentials, no connection, no answer, refused.

        Raises:
            OSError: The library raised an error.
        """
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(_reason(error, self.url)) from error


def _check_url(url: str, protocol: str) -> None:
    """Check that a URL may be one of a store.

    Raises:
        OptionError: It is not.
    """
    if "\0" in url or not url:
        raise OptionError(f"The store {url!r} can't be used: it is not a path. {_ADVICE}")
    if match := _MISSING_SLASH.match(url):
        raise OptionError(f"The store {url!r} can't be used: write {match[0]}//, or ./{url} for a directory.")
    if "::" in url and "://" in url:
        raise OptionError(f"The store {url!r} can't be used: it chains several file systems. {_ADVICE}")
    if protocol in _BUCKETS and "@" in url.partition("://")[2].partition("/")[0]:
        raise OptionError(
            f"The store {url!r} can't be used: a bucket's URL has no user and password. Set the credentials where "
            f"the library of {protocol}:// looks for them, such as the environment ({_CREDENTIALS[protocol]})."
        )
    if protocol in _UNUSABLE:
        raise OptionError(f"The store {url!r} can't be used: {protocol}:// {_UNUSABLE[protocol]}. {_ADVICE}")


def _read_regular(path: str) -> bytes:
    """Return the content of a file; a pipe, which could block for ever, is an error."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is not a regular file")
        return file.read(LARGEST_BYTES + 1)


def _reason(error: BaseException, url: str = "") -> str:
    """Return the message of an error without the password of a URL; an error without one is named by its class."""
    text = _message(error)
    userinfo = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    for secret in {userinfo.partition(":")[2], unquote(userinfo.partition(":")[2])} - {""}:
        text = text.replace(secret, MASK)
    return text


def _message(error: BaseException) -> str:
    if isinstance(error, TimeoutError) or type(error).__name__ == "FSTimeoutError":
        return f"no answer in time{f': {error}' if str(error) else ''}"
    return str(error) or type(error).__name__


def _bucket_is_missing(error: OSError) -> bool:
    """Return whether the bucket itself is missing, not just a folder in it."""
    response = getattr(error.__cause__, "response", None)
    return isinstance(response, dict) and response.get("Error", {}).get("Code") == "NoSuchBucket"
