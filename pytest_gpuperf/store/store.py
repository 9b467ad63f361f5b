"""Reading and writing session files under any fsspec URL.

Layout: ``STORE/<device-slug>/<key digest>/<utc>-<commit8>-<id>.json``, one file for each test and session. Nothing is
ever rewritten: accepting a session is one more small file, ``<session file>.accepted.json``. So two runners never
conflict, a git branch merges, and a bucket needs no lock. Names sort by time, so the newest sessions are found without
opening the others.

A session that may not become a baseline by itself (its gate failed, or it was cut short) says so in its name,
``....rejected.json``: however many there are, none is opened in search of the baseline.

A file is ``{"gpuperf": SCHEMA, "sha256": ..., "session": {...}}``; the digest covers both as canonical JSON.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import MissingExtra, OptionError, StoreError, UnreadableSession
from pytest_gpuperf.model import SCHEMA, PlainMapping, Session
from pytest_gpuperf.model.codec import Mismatch, from_builtins, to_builtins
from pytest_gpuperf.store.key import canonical, key_digest, slug

_ACCEPTED = ".accepted.json"
_REJECTED = ".rejected.json"
_ELSEWHERE = "Choose another with --gpuperf-store (on the gpuperf command: --store)."
#: Protocols whose library is an extra of ours: the module, and the extra.
_EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gs"), "gcs": ("gcsfs", "gs")}


@dataclass(frozen=True)
class Entry:
    """One session file, not yet read.

    Attributes:
        path: inside the store's file system.
        id: the session's.
        accepted: somebody accepted it by hand.
        rejected: its name says that it may not become a baseline by itself.
    """

    path: str
    id: str
    accepted: bool
    rejected: bool = False

    @property
    def may_be_baseline(self) -> bool:
        """Worth opening in search of the baseline."""
        return self.accepted or not self.rejected


@dataclass(frozen=True)
class Acceptance:
    """Who took a session into the baseline by hand, and why."""

    session: str
    author: str
    reason: str
    accepted_utc: str


class Store:
    """Sessions under one URL.

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
            self._fs, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            if protocol in _EXTRAS:
                raise MissingExtra(*_EXTRAS[protocol], f"use the store {url}") from error
            raise OptionError(f"The store {url!r} can't be used: {error}") from error
        except ValueError as error:
            raise OptionError(
                f"The store {url!r} can't be used: {error}. Write a directory or an fsspec URL."
            ) from error
        self._root = str(root).rstrip("/")
        self._local = protocol in ("file", "local")

    def describe(self, path: str) -> str:
        """The path as people type it: relative to the working directory where it lies below it."""
        if not self._local:
            return str(self._fs.unstrip_protocol(path))
        relative = os.path.relpath(path)
        return path if relative.startswith("..") else relative

    def folder(self, key: PlainMapping) -> str:
        """Where the sessions of a key are."""
        return f"{self._device_folder(key)}/{key_digest(key)}"

    def _device_folder(self, key: PlainMapping) -> str:
        return f"{self._root}/{slug(str(key['device']))}"

    def write(self, session: Session) -> str:
        """Store a session; its path.

        Raises:
            StoreError: it can't be written.
        """
        time = datetime.fromisoformat(session.created_utc).strftime("%Y%m%dT%H%M%S%f")[:-3]
        ending = ".json" if session.may_be_baseline else _REJECTED
        name = f"{time}Z-{session.commit[:8] or 'nocommit'}-{session.id}{ending}"
        path = f"{self.folder(session.key)}/{name}"
        body = to_builtins(session)
        try:
            digest = _digest(SCHEMA, body)
        except ValueError as error:
            raise StoreError(f"Session {session.id} of {session.test} can't be stored: {error}") from error
        self._put(path, {"gpuperf": SCHEMA, "sha256": digest, "session": body})
        return path

    def entries(self, folder: str) -> list[Entry]:
        """The sessions in a folder, newest first, unread.

        Raises:
            StoreError: the store can't be listed.
        """
        try:
            names = [str(path) for path in self._fs.ls(folder, detail=False)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"The store {self.url} can't be listed: {error}\n{_ELSEWHERE}") from error
        accepted = {path.removesuffix(_ACCEPTED) for path in names if path.endswith(_ACCEPTED)}
        sessions = [path for path in names if path.endswith(".json") and not path.endswith(_ACCEPTED)]
        return [
            Entry(
                path=path,
                id=path.removesuffix(".json").removesuffix(".rejected").rpartition("-")[2],
                accepted=path in accepted,
                rejected=path.endswith(_REJECTED),
            )
            for path in sorted(sessions, key=lambda path: path.rpartition("/")[2], reverse=True)
        ]

    def folders(self, key: PlainMapping | None = None) -> Iterator[str]:
        """All folders of sessions, or those of the device that a key names."""
        try:
            devices = [self._device_folder(key)] if key else self._fs.ls(self._root, detail=False)
            for one in devices:
                if self._fs.isdir(one):
                    yield from (str(path) for path in self._fs.ls(one, detail=False) if self._fs.isdir(path))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"The store {self.url} can't be listed: {error}\n{_ELSEWHERE}") from error

    def read(self, entry: Entry) -> Session:
        """Read and check a session.

        Raises:
            UnreadableSession: the file is damaged, tampered with, or newer than this version.
        """
        where = self.describe(entry.path)
        remedy = "Restore the file, or delete it to do without that session."
        try:
            data = json.loads(self._fs.cat_file(entry.path), parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise UnreadableSession(
                where, f"is not complete JSON ({error}); was it cut short or edited?", remedy
            ) from error
        except OSError as error:
            raise UnreadableSession(where, f"can't be read: {error}", remedy) from error
        schema = data.get("gpuperf") if isinstance(data, dict) else None
        if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
            raise UnreadableSession(where, "is not a gpuperf session", remedy)
        if schema > SCHEMA:
            why = f"has schema {schema}; this version of pytest-gpuperf reads up to {SCHEMA}"
            raise UnreadableSession(where, why, "Upgrade with: pip install --upgrade pytest-gpuperf")
        body = data.get("session")
        try:
            digest = _digest(schema, body)
        except ValueError as error:
            raise UnreadableSession(where, f"holds what no session can: {error}", remedy) from error
        if data.get("sha256") != digest:
            raise UnreadableSession(where, "does not match its own checksum; it was damaged or edited", remedy)
        try:
            return from_builtins(Session, body)
        except Mismatch as error:
            raise UnreadableSession(where, f"is not a valid session: {error}", remedy) from error

    def find(self, session: str) -> Entry:
        """The session with this id, or whose id begins so.

        Raises:
            StoreError: there is none, or more than one.
        """
        found = [entry for folder in self.folders() for entry in self.entries(folder) if entry.id.startswith(session)]
        if len(found) != 1:
            what = "no session" if not found else f"{len(found)} sessions"
            raise StoreError(
                f"There is {what} with the id {session} in {self.url}.\nSee them with: gpuperf baseline list"
            )
        return found[0]

    def accept(self, entry: Entry, reason: str) -> Acceptance:
        """Take a session into the baseline by hand. The baseline begins anew with it.

        Raises:
            UnreadableSession: the session can't be read.
            StoreError: it was cut short, or the store can't be written.
        """
        session = self.read(entry)
        if session.status != "complete":
            raise StoreError(f"Session {session.id} was cut short, so it can't be a baseline. Measure again.")
        acceptance = Acceptance(session.id, getpass.getuser(), reason, utc_now())
        self._put(entry.path + _ACCEPTED, {"gpuperf": SCHEMA, "acceptance": to_builtins(acceptance)})
        return acceptance

    def _put(self, path: str, data: Any) -> None:
        """Write beside and rename, so that no reader ever sees half a file."""
        content = canonical(data).encode()
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


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number that a session may hold")


def _digest(schema: int, body: Any) -> str:
    return hashlib.sha256(canonical([schema, body]).encode()).hexdigest()


def utc_now() -> str:
    """The time as every record writes it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
